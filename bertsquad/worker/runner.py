"""One engine over one data set, running case after case."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable, out_of_memory
from bertsquad.loadgen.probe import Probe
from bertsquad.loadgen.request import (
    Request,
    Targets,
    buffered_samples,
    given_targets,
    server_bound_ms,
)
from bertsquad.loadgen.run import goal, log_settings, settings_for
from bertsquad.loadgen.sut import OfflineSut, ServerSut, StreamSut, Sut
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.machine import hardware, noise
from bertsquad.models.calibration import Calibration, calibrate_with
from bertsquad.models.preparation import prepare
from bertsquad.progress import Step
from bertsquad.rules import TEST01
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.runtime.proofs import prove_precision
from bertsquad.runtime.sessions import open_on_cpu
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad import features
from bertsquad.worker.protocol import Setup
from bertsquad.worker.reporter import Reporter, Send


class Runner:
    """One engine over one data set, running case after case."""

    def __init__(self, setup: Setup, send: Send, reporter: Reporter) -> None:
        self._send = send
        self._reporter = reporter
        self._setup = setup
        self._device = DEVICES[setup.device]
        reporter.show(Step("loading"))
        reason = why_not(self._device)
        if reason is not None:
            raise Unavailable(f"{self._device.name}: {reason}")
        if setup.precision != "int8":  # what can't be had should be known before models are made
            prove_precision(self._device, setup.precision)
        self._features = features.load(Path(setup.features))
        self._prepared = prepare(
            Path(setup.model),
            setup.model_key,
            setup.device,
            setup.precision,
            partial(open_on_cpu, threads=setup.threads),
            self._calibration,
            reporter.show,
        )
        # Before an engine takes memory of its own, which would change the default.
        self._batch_tokens = batch_tokens(self._device)
        self._engine: Engine | None = None
        self._probes: dict[int, Probe] = {}
        self._running: tuple[Sut, Path] | None = None

    def _calibration(self) -> Calibration:
        setup = self._setup
        if setup.calibration is None:
            raise Unavailable(
                f"{Path(setup.model).name} can't be quantised: {setup.calibration_note}", "dataset"
            )
        found = features.load(Path(setup.calibration))
        return calibrate_with(found, setup.calibration_windows, setup.calibration_note)

    def facts(self) -> dict[str, Any]:
        """What is known of the model once it is prepared."""
        return {
            "preparation": self._prepared.note,
            "input_type": self._prepared.signature.dtype,
        }

    def _engine_for(self, request: Request) -> Engine:
        """The engine in the parallelism of `request`; one of another is given up for it."""
        wanted = Parallelism(request.instances, request.threads, tuple(map(tuple, request.pins)))
        tokens = request.batch_tokens or self._batch_tokens
        engine = self._engine
        if engine is None or (engine.parallelism, engine.batch_tokens) != (wanted, tokens):
            self._reporter.show(Step("making the session"))
            self._probes.clear()
            self._engine = engine = None  # its memory first
            engine = Engine(self._prepared, self._device, self._setup.precision, wanted, tokens)
            self._engine = engine
        return engine

    def run(self, request: Request) -> dict[str, Any]:
        """Run one case into its (existing) folder; what LoadGen's logs don't tell.

        Raises BoundUnattainable, without having started LoadGen, where no Server rate is honest.
        """
        engine = self._engine_for(request)
        probe = self._probe(engine, request.samples)
        targets: Targets | None = None
        if request.mode != "accuracy":
            self._reporter.show(Step("probing"))
            targets = given_targets(request) or probe.targets(request)
        sut = self._sut(engine, request, probe)
        self._running = sut, Path(request.folder)
        audit = Path(request.folder) / "audit.config"
        if request.mode == "compliance":
            audit.write_text(TEST01.config, encoding="utf-8")
        qsl = lg.ConstructQSL(
            request.samples, buffered_samples(request), lambda _: None, lambda _: None
        )
        before = noise.read()
        started = time.perf_counter()
        try:
            settings = settings_for(request, targets)
            expected, duration_s = goal(request, settings)
            self._reporter.follow(
                lambda: Step(
                    "running", sut.answered, expected or sut.expected, "samples", duration_s
                )
            )
            lg.StartTestWithLogSettings(
                sut.handle,
                qsl,
                settings,
                log_settings(request.folder),
                str(audit),  # never a stray one from the working directory
            )
        finally:
            seconds = time.perf_counter() - started
            disturbances = noise.warnings(before, noise.read(), os.cpu_count() or 1)
            lg.DestroyQSL(qsl)
            sut.close()
            unwritten = self.keep()
        if sut.error is not None:
            raise sut.error
        timeline = sut.timeline
        return {
            "seconds": seconds,
            "target_qps": targets.qps if targets else None,
            "target_latency_ms": targets.latency_ms if targets else None,
            "target_source": targets.source if targets else None,
            "provider": engine.provider,
            "proof": engine.proof,
            "batch_tokens": engine.batch_tokens,
            "batches": len(timeline.batch_samples),
            "padding_share": timeline.padding_share,
            "peak_memory_bytes": hardware.peak_memory_bytes(),
            "warnings": disturbances,
            "timeline": timeline.digest(),
            "unwritten": unwritten,
        }

    def keep(self) -> str | None:
        """Write down what the run under way has done until now, if there is one; else why not."""
        running, self._running = self._running, None
        if running is None:
            return None
        sut, folder = running
        try:
            sut.timeline.save(folder)
        except OSError as error:
            return f"{folder / TIMELINE} could not be written ({error.strerror or error})"
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
        cost = probe.cost() if SCENARIOS[request.scenario].samples_per_query > 1 else None
        return StreamSut(engine, self._features, self._failing, cost)

    def _failing(self, error: BaseException) -> None:
        """Tell the parent at once, since LoadGen goes on until its time is up."""
        self._send("failing", message=describe(error))


def describe(error: BaseException) -> str:
    """An error of a model, a runtime or a callback as one line for the user."""
    text = " ".join(str(error).split())
    if isinstance(error, SuiteError):
        return text
    if out_of_memory(error):
        return (
            f"memory ran out ({text or type(error).__name__}): a smaller --batch-tokens or "
            "--instances takes less"
        )
    return f"{type(error).__name__}: {text}"
