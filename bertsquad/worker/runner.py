"""Runs cases on one model, one after the other: warm-up, probe, LoadGen's run, what it measured."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bertsquad.assets.fingerprint import verify_mapped
from bertsquad.devices import DEVICES
from bertsquad.errors import Unavailable, describe
from bertsquad.files import unwritable
from bertsquad.loadgen import run as loadgen
from bertsquad.loadgen.probe import Probe
from bertsquad.loadgen.request import Request, Targets, given_targets, server_bound_ms
from bertsquad.loadgen.sut import OfflineSut, ServerSut, StreamSut, Sut
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.machine import hardware, noise
from bertsquad.models.asking import known_from
from bertsquad.models.calibration import Calibration, calibrate_with
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.progress import Step
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.proofs import prove_precision
from bertsquad.runtime.sessions import open_on_cpu
from bertsquad.squad import features
from bertsquad.worker.protocol import Failing, Measured, Ready, Setup
from bertsquad.worker.reporter import Reporter


class Runner:
    """One model over one data set, running case after case."""

    def __init__(self, setup: Setup, send: Callable[[Failing], object], reporter: Reporter) -> None:
        """Prepare the model; Unavailable or SuiteError where it or the device can't be had."""
        self._send = send
        self._reporter = reporter
        self._setup = setup
        self._device = DEVICES[setup.device]
        reporter.show(Step("loading"))
        reason = why_not(self._device)
        if reason is not None:
            raise Unavailable(reason, of=self._device.name)
        if setup.precision != "int8":  # what can't be had should be known before models are made
            prove_precision(self._device, setup.precision)
        self._features = features.load(Path(setup.features))
        self._prepared = self._prepare()
        # Before an engine takes memory of its own, which would change the default.
        self._batch_tokens = batch_tokens(self._device, setup.reads.longest)
        self._engine: Engine | None = None
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

    def _engine_for(self, request: Request) -> Engine:
        """The engine in the parallelism of `request`; one of another is given up for it."""
        wanted = request.parallelism, request.batch_tokens or self._batch_tokens
        engine = self._engine
        if engine is None or (engine.parallelism, engine.batch_tokens) != wanted:
            self._reporter.show(Step("making the session"))
            self._probes.clear()
            self._engine = engine = None  # its memory first
            if not all(Path(one.path).exists() for one in self._prepared.files):
                self._prepared = self._prepare()  # somebody emptied the cache
            engine = Engine(self._prepared, self._device, self._setup.precision, *wanted)
            self._engine = engine
        return engine

    def run(self, request: Request) -> Measured:
        """Run one case into its (existing) folder.

        Raises BoundUnattainable, without having started LoadGen, where no Server rate is honest.
        """
        engine = self._engine_for(request)
        # ONNX Runtime maps them, so that what is written to them shows in its sessions.
        weights = self._prepared.files[1:]
        verify_mapped(weights)
        probe = self._probe(engine, request.samples)
        targets: Targets | None = None
        if request.mode != "accuracy":
            self._reporter.show(Step("probing"))
            targets = given_targets(request) or probe.targets(request)
        settings = loadgen.settings_for(request, targets)
        expected, duration_s = loadgen.goal(request, settings)
        sut = self._sut(engine, request, probe)
        self._running = sut, Path(request.folder)
        before = noise.read()
        self._reporter.follow(
            lambda: Step("running", sut.answered, expected or sut.expected, "samples", duration_s)
        )
        try:
            seconds = loadgen.start(sut, settings, request)
        finally:
            disturbances = noise.disturbances(before, noise.read(), os.cpu_count() or 1)
            unwritten = self.keep()
        verify_mapped(weights)
        timeline = sut.timeline
        return Measured(
            seconds=seconds,
            targets=targets,
            provider=engine.device.provider,
            proof=engine.proof,
            batch_tokens=engine.batch_tokens,
            batches=len(timeline.batch_samples),
            padding_share=timeline.padding_share,
            peak_memory_bytes=hardware.peak_memory_bytes(),
            disturbances=disturbances,
            timeline=timeline.digest(),
            unwritten=unwritten,
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

    def _probe(self, engine: Engine, samples: int) -> Probe:
        """The probe over the first `samples` windows; the engine is warm once it exists."""
        probe = self._probes.get(samples)
        if probe is None:
            probe = self._probes[samples] = Probe(engine, self._features, samples)
            probe.warm_up(self._reporter.show)
        return probe

    def _sut(self, engine: Engine, request: Request, probe: Probe) -> Sut:
        if request.scenario == "offline":
            return OfflineSut(engine, self._features, self._failing)
        if request.scenario == "server":
            bound_s = server_bound_ms(request) / 1e3
            return ServerSut(engine, self._features, self._failing, probe.cost(), bound_s)
        cost = probe.cost() if request.samples_per_query > 1 else None
        return StreamSut(engine, self._features, self._failing, cost)

    def _failing(self, error: BaseException) -> None:
        """Say so at once, since LoadGen goes on until its time is up."""
        self._send(Failing(describe(error)))
