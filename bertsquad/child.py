"""The child process that `worker.py` starts: it makes one engine and runs case after case.

    python -m bertsquad.child

A case is warming up, probing, letting LoadGen run and writing what the SUT saw.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import mlperf_loadgen as lg

from bertsquad import features, loadgen, machine, noise
from bertsquad.devices import DEVICES, why_not
from bertsquad.engines import Engine, batch_tokens
from bertsquad.errors import SuiteError, Unavailable, out_of_memory
from bertsquad.loadgen import SCENARIOS, Request, Targets
from bertsquad.parallelism import Parallelism
from bertsquad.prepare import Calibration, calibrate_with, prepare
from bertsquad.probe import Probe
from bertsquad.progress import Step
from bertsquad.rules import TEST01
from bertsquad.sessions import open_on_cpu, precisions_here, prove_precision, why_not_really
from bertsquad.sut import OfflineSut, ServerSut, StreamSut, Sut
from bertsquad.timeline import TIMELINE
from bertsquad.worker import DEVICES_ASKED, Event, Setup

#: Seconds between two reports of a step; one costs a timed run a quarter of a millisecond.
REPORT_S = 1.0

Send = Callable[..., None]


class Reporter:
    """Tells the parent which step goes on: when it begins, and then every second how far it is.

    It has a thread while it is a context, which is as long as the parent waits for an answer.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._now: Callable[[], Step] | None = None
        self._lock = threading.Lock()  # so that no step is told of after the next one
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._report, name="reporter", daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._now = None

    def show(self, step: Step) -> None:
        """Tell of a step that says itself when it has come further."""
        self.follow(lambda: step)

    def follow(self, now: Callable[[], Step]) -> None:
        """Tell of a step that is asked how far it is."""
        with self._lock:
            self._now = now
            self._tell()

    def _tell(self) -> None:
        if self._now is not None:
            self._send("step", **asdict(self._now()))

    def _report(self) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and so will this process be
            while not self._over.wait(REPORT_S):
                with self._lock:
                    self._tell()


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
            targets = loadgen.given_targets(request) or probe.targets(request)
        sut = self._sut(engine, request, probe)
        self._running = sut, Path(request.folder)
        audit = Path(request.folder) / "audit.config"
        if request.mode == "compliance":
            audit.write_text(TEST01.config, encoding="utf-8")
        qsl = lg.ConstructQSL(
            request.samples, loadgen.buffered_samples(request), lambda _: None, lambda _: None
        )
        before = noise.read()
        started = time.perf_counter()
        try:
            settings = loadgen.settings(request, targets)
            expected, duration_s = loadgen.goal(request, settings)
            self._reporter.follow(
                lambda: Step(
                    "running", sut.answered, expected or sut.expected, "samples", duration_s
                )
            )
            lg.StartTestWithLogSettings(
                sut.handle,
                qsl,
                settings,
                _log_settings(request.folder),
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
            "peak_memory_bytes": machine.peak_memory_bytes(),
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
            bound_s = loadgen.server_bound_ms(request) / 1e3
            return ServerSut(engine, self._features, self._failing, probe.cost(), bound_s)
        cost = probe.cost() if SCENARIOS[request.scenario].samples_per_query > 1 else None
        return StreamSut(engine, self._features, self._failing, cost)

    def _failing(self, error: BaseException) -> None:
        """Tell the parent at once, since LoadGen goes on until its time is up."""
        self._send("failing", message=describe(error))


def _log_settings(folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    log_settings = lg.LogSettings()
    log_settings.log_output = output
    log_settings.enable_trace = False  # it grows with the queries
    return log_settings


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


class Service:
    """Answers the parent's messages: the first sets it up, each of the others is a case."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._reporter = Reporter(self.send)
        self._runner: Runner | None = None

    def send(self, event: str, **fields: object) -> None:
        """Tell the parent something."""
        with self._lock:
            self._channel.write(json.dumps({"event": event, **fields}) + "\n")
            self._channel.flush()

    def serve(self, messages: Iterator[Event]) -> None:
        """Answer one message after the other, with `done` or `raised` in the end."""
        for message in messages:
            try:
                self.send("done", **self._answer(message))
            except SuiteError as error:
                subject = getattr(error, "subject", None)
                kind = type(error).__name__
                self.send("raised", kind=kind, message=str(error), subject=subject)
            except Exception as error:  # anything else is the model's or the runtime's
                self.send("raised", kind="SuiteError", message=describe(error))

    def _answer(self, message: Event) -> Event:
        if DEVICES_ASKED in message:
            reasons = {name: why_not_really(name) for name in DEVICES}
            able = {name: precisions_here(name) for name in DEVICES if not reasons[name]}
            return {"reasons": reasons, "precisions": able}
        with self._reporter:
            if self._runner is None:
                self._runner = Runner(Setup(**message), self.send, self._reporter)
                return self._runner.facts()
            return self._runner.run(Request(**message))

    def abandon(self) -> None:
        """End at once, but leave what a run under way has measured."""
        with contextlib.suppress(Exception):
            if self._runner is not None:
                self._runner.keep()
        os._exit(0)


def _main() -> None:
    # Libraries print to standard output; the events keep a channel of their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        service = Service(channel)
        with contextlib.suppress(BrokenPipeError):
            service.serve(_messages(service.abandon))
    os._exit(0)  # runtimes have threads that would delay a normal exit


def _messages(at_end: Callable[[], None]) -> Iterator[Event]:
    """What the parent says; `at_end` is called when it is gone or has given up, whatever runs."""
    messages: queue.Queue[Event] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        at_end()

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield messages.get()


if __name__ == "__main__":
    _main()
