"""Runs cases on one model, one after the other: warm-up, probe, LoadGen's run, what it measured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bertsquad.errors import Unavailable, describe
from bertsquad.files import unwritable
from bertsquad.loadgen import run as loadgen
from bertsquad.loadgen.probe import Probe
from bertsquad.loadgen.request import Request, Targets, given_targets, server_bound_ms
from bertsquad.loadgen.sut import OfflineSut, ServerSut, StreamSut, Sut
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.models.asking import known_from
from bertsquad.models.calibration import Calibration, calibrate_with
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.progress import Step
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.inference import Backend, BackendWanted
from bertsquad.runtime.sessions import open_on_cpu
from bertsquad.squad import features
from bertsquad.worker.place import node_runs, place_of
from bertsquad.worker.protocol import Failing, Measured, Ready, Setup
from bertsquad.worker.reporter import Reporter


class Runner:
    """One model over one data set, running case after case."""

    def __init__(self, setup: Setup, send: Callable[[Failing], object], reporter: Reporter) -> None:
        """Prepare the model; Unavailable or SuiteError where it or the device can't be had."""
        self._send = send
        self._reporter = reporter
        self._setup = setup
        reporter.show(Step("loading"))
        self._place = place_of(setup, reporter.show)
        self._features = features.load(Path(setup.features))
        self._prepared = self._prepare()
        self._probes: dict[int, Probe] = {}
        self._running: tuple[Sut, Path] | None = None

    def _prepare(self) -> Prepared:
        setup = self._setup
        return prepare(
            setup.model,
            setup.device,
            setup.precision,
            partial(open_on_cpu, threads=setup.threads),
            self._calibration,
            self._reporter.show,
            setup.reads,
            partial(known_from, setup.known) if setup.known else None,
        )

    def _calibration(self) -> Calibration:
        given = self._setup.calibration
        if isinstance(given, str):
            name = self._setup.model.path.name
            raise Unavailable(f"{name} can't be quantised: {given}", "dataset")
        return calibrate_with(given)

    @property
    def ready(self) -> Ready:
        """What is known of the model now that it is prepared."""
        made = self._prepared
        return Ready(
            made.note,
            made.signature.dtype,
            made.signature.length,
            made.rebuilt,
            quantisation=made.quantisation,
        )

    def _for_new_backend(self) -> Prepared:
        """Give up what belongs to the backend so far, whose memory the next one needs.

        The prepared model is made again where somebody emptied the cache.
        """
        self._probes.clear()
        if not all(Path(one.path).exists() for one in self._prepared.files):
            self._prepared = self._prepare()
        return self._prepared

    def run(self, request: Request) -> Measured:
        """Run one case into its (existing) folder.

        Raises BoundUnattainable, without having started LoadGen, where no Server rate is honest.
        """
        wanted = BackendWanted(request.scenario, request.parallelism, request.batch_tokens)
        backend = self._place.backend(wanted, self._for_new_backend, self._reporter.show)
        probe = self._probe(backend, request.samples)
        targets: Targets | None = None
        timed = request.mode != "accuracy"
        if timed:
            self._reporter.show(Step("probing"))
            targets = given_targets(request) or probe.targets(request)
        settings = loadgen.settings_for(request, targets)
        expected, duration_s = loadgen.goal(request, settings)
        with self._place.observed(timed, self._reporter.show) as seen:
            sut = self._sut(backend, request, probe)
            self._running = sut, Path(request.folder)
            self._reporter.follow(
                lambda: Step(
                    "running", sut.answered, expected or sut.expected, "samples", duration_s
                )
            )
            try:
                seconds = loadgen.start(sut, settings, request)
            finally:
                unwritten = self.keep()
        timeline = sut.timeline
        nodes = node_runs(self._place.facts, timeline, seen)
        return Measured(
            seconds=seconds,
            targets=targets,
            provider=backend.device.provider,
            proof=backend.proof,
            batch_tokens=backend.batch_tokens,
            batches=len(timeline.batch_samples),
            padding_share=timeline.padding_share,
            peak_memory_bytes=seen.peak_memory_bytes.get(""),
            disturbances=seen.disturbances.get("", []),
            timeline=timeline.digest(),
            unwritten=unwritten,
            nodes=nodes,
            nodes_lost=list(self._place.losses),
        )

    def keep(self) -> str | None:
        """Write down what the run under way has done until now, if there is one; else why not."""
        running, self._running = self._running, None
        if running is None:
            return None
        sut, folder = running
        try:
            sut.timeline.save(folder)
        except OSError as error:
            place = folder / TIMELINE
            return str(unwritable(place, error, "choose another folder with --output"))
        return None

    def _probe(self, backend: Backend, samples: int) -> Probe:
        """The probe over the first `samples` windows; the backend is warm once it exists."""
        probe = self._probes.get(samples)
        if probe is None:
            probe = self._probes[samples] = Probe(backend, self._features, samples)
            probe.warm_up(self._reporter.show)
        return probe

    def _sut(self, backend: Backend, request: Request, probe: Probe) -> Sut:
        if request.scenario == "offline":
            return OfflineSut(backend, self._features, self._failing)
        if request.scenario == "server":
            bound_s = server_bound_ms(request) / 1e3
            return ServerSut(backend, self._features, self._failing, probe.cost(), bound_s)
        assert isinstance(backend, Engine)  # a cluster has no such cases
        cost = probe.cost() if request.samples_per_query > 1 else None
        return StreamSut(backend, self._features, self._failing, cost)

    def _failing(self, error: BaseException) -> None:
        """Say so at once, since LoadGen goes on until its time is up."""
        self._send(Failing(describe(error)))
