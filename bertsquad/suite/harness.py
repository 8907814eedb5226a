"""From a case to its result: files, features, a worker, a run, a judgement."""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bertsquad import __version__
from bertsquad.assets import cache
from bertsquad.console import SILENT, Progress
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.loadgen import logs, user_conf
from bertsquad.loadgen.logs import Run
from bertsquad.loadgen.request import Request
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.machine import hardware, noise, provenance
from bertsquad.models.zoo import Model, locate
from bertsquad.progress import Step
from bertsquad.results import statistics, validity
from bertsquad.results.accuracy import judge_f1, score_log
from bertsquad.results.result import PASSED, RESULT, Result, Verdict, repeat_command
from bertsquad.rules import SEEDS
from bertsquad.squad import datasets
from bertsquad.squad.datasets import Data
from bertsquad.suite.cases import Case, division, missing_device, sample_count
from bertsquad.suite.judge import compliance_verdict, judge_timed, off_by_us, save
from bertsquad.suite.options import Options
from bertsquad.worker.handle import Worker
from bertsquad.worker.protocol import Event, OnEvent, Setup

#: How a test asks for the result of a case in a mode: the `run` fixture.
RunCase = Callable[[Case, str], Result]

#: Seconds that a quick case may take if nobody said otherwise; whole data sets have no limit.
QUICK_TIMEOUT_S = 1800.0


class Harness:
    """Runs cases; holds what they share: data sets, outcomes and at most one worker."""

    def __init__(
        self,
        options: Options,
        parallel: int = 1,
        command: str = "",
        progress: Progress = SILENT,
    ) -> None:
        """`parallel` says how many harnesses divide the cores; `command` goes into the results."""
        self._options = options
        self._parallel = parallel
        self._cores = max(1, hardware.cores() // parallel)
        self._command = command
        self._progress = progress
        self._user_conf = _user_conf(options.user_conf)
        self._data: dict[str, Data] = {}
        self._models: dict[str, tuple[Path, str]] = {}
        self._worker: tuple[tuple[str, ...], Worker] | None = None
        self._outcomes: dict[tuple[str, str], Result | SuiteError] = {}

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker[1].close()
            self._worker = None

    def run(self, case: Case, mode: str) -> Result:
        """Run one case and judge it, once a session; its folder holds the logs and `result.json`.

        Mode `compliance` compares with the case's accuracy and performance runs, and makes them
        first where they are missing. Raises Unavailable where something can't be had,
        BoundUnattainable where no Server rate is honest, SuiteError where the run itself failed.
        """
        key = case.id, mode
        if key not in self._outcomes:
            try:
                with self._progress:
                    self._outcomes[key] = self._run(case, mode)
            except SuiteError as error:
                self._outcomes[key] = error
        outcome = self._outcomes[key]
        if isinstance(outcome, SuiteError):
            raise outcome
        return outcome

    def _run(self, case: Case, mode: str) -> Result:
        accuracy, performance = (
            self.run(case, other) if mode == "compliance" else None
            for other in ("accuracy", "performance")
        )
        started = datetime.now(UTC)
        if (reason := missing_device(case)) is not None:  # before anything is downloaded for it
            raise Unavailable(reason, "device")
        model_file, model_key = self._model(case.model)
        data = self._dataset(case.dataset)
        folder = self._options.output / f"{mode}-{case.id}"
        request = self._request(case, mode, folder, data, performance)
        on_event = self._showing(case, mode)
        worker = self._worker_for(case, model_file, model_key, data, on_event)
        _empty(folder)
        with self._device_for(case, mode):
            event = worker.run(request, self._timeout_s(), on_event)
        run = logs.read_run(folder)
        if mode == "accuracy" and run.errors:
            raise SuiteError(f"the accuracy run ended with errors: {'; '.join(run.errors)}")
        result = Result(
            case=case.id,
            mode=mode,
            model=case.model.name,
            dataset=case.dataset,
            scenario=case.scenario,
            device=case.device,
            precision=case.precision,
            rules=request.rules,
            sample_count=request.samples,
            dataset_samples=len(data.features),
            run_dir=str(folder),
            provider=event["provider"],
            verdict="",
            reason="",
            run_time_s=event["seconds"],
            padding_share=event["padding_share"],
            peak_memory_bytes=event["peak_memory_bytes"],
            warnings=event["warnings"] if mode != "accuracy" else [],
            timeline=event["timeline"] | {"off_by_us": off_by_us(event["timeline"], run)},
        )
        if mode == "accuracy":
            verdict = self._accuracy(result, case, data)
        else:
            verdict = judge_timed(result, run, event)
        if accuracy is not None and performance is not None:
            verdict = compliance_verdict(result, run, accuracy, performance, verdict)
        result.verdict, result.reason = verdict.word, verdict.reason
        result.provenance = self._provenance(
            started, case.model, model_file, model_key, data, worker, run, request, event
        )
        result.repeat = repeat_command(result)
        objections = [objection.reason for objection in validity.objections(result, run)]
        result.invalid_reasons = (run.invalid_reasons if mode != "accuracy" else []) + objections
        result.mlperf_valid = verdict.word == PASSED and not result.invalid_reasons
        save(result, event["unwritten"])
        return result

    def _dataset(self, name: str) -> Data:
        if name not in self._data:
            self._data[name] = datasets.load(name, self._progress.show)
        return self._data[name]

    def _model(self, model: Model) -> tuple[Path, str]:
        """The model's verified file, and the checksum that names its content."""
        if model.name not in self._models:
            self._models[model.name] = locate(model, self._progress.show)
        return self._models[model.name]

    def _worker_for(
        self, case: Case, model: Path, key: str, data: Data, on_event: OnEvent
    ) -> Worker:
        """The worker of the case's session; another session's is ended first."""
        if self._worker is not None:
            session, worker = self._worker
            if session == case.session and worker.alive:
                return worker
            self.close()
        setup = Setup(
            model=str(model),
            model_key=key,
            features=str(data.features_file),
            device=case.device,
            precision=case.precision,
            threads=self._cores,
            **self._calibration(case, data),
        )
        log = self._options.output / f"worker-{'-'.join(case.session)}-{os.getpid()}.log"
        worker = Worker(setup, log, self._timeout_s(), on_event)
        self._worker = case.session, worker
        return worker

    def _device_for(self, case: Case, mode: str) -> AbstractContextManager[None]:
        """The case's device, for this run alone where it is being timed."""
        if mode == "accuracy":
            return contextlib.nullcontext()
        return noise.device_to_itself(DEVICES[case.device].marker, self._progress.say)

    def _showing(self, case: Case, mode: str) -> OnEvent:
        """What shows the steps that the worker tells of."""

        def show(event: Event) -> None:
            if event["event"] == "step":
                step = {key: value for key, value in event.items() if key != "event"}
                name = f"{case.id}, {mode}: {event['name']}"
                self._progress.show(Step(**step | {"name": name}))

        return show

    def _calibration(self, case: Case, data: Data) -> dict[str, Any]:
        """The part of a Setup that says what to calibrate with, if that may be needed."""
        if case.precision != "int8" or case.model.precision == "int8":
            return {}
        try:
            file, windows, note = datasets.calibration(case.dataset, data, self._progress.show)
        except Unavailable as error:  # the model may be quantised already; only the child knows
            return {"calibration_note": str(error)}
        return {
            "calibration": str(file),
            "calibration_windows": windows,
            "calibration_note": note,
        }

    def _request(
        self, case: Case, mode: str, folder: Path, data: Data, unaudited: Result | None
    ) -> Request:
        options = self._options
        qps, latency_ms = options.target_qps, options.target_latency_ms
        if unaudited is not None:  # audited and unaudited run must have been asked for the same
            qps, latency_ms = unaudited.target_qps, unaudited.target_latency_ms
        owned = hardware.owned_cpus() if self._parallel == 1 else ()
        shape = division(case, options, self._cores, owned)
        return Request(
            instances=shape.instances,
            threads=shape.threads,
            pins=shape.pins,
            batch_tokens=options.batch_tokens,
            scenario=case.scenario,
            mode=mode,
            rules=options.rules,
            folder=str(folder),
            samples=sample_count(case, options, len(data.features)),
            buffer_size=options.buffer_size,
            target_qps=qps,
            target_latency_ms=latency_ms,
            min_duration_s=options.min_duration_s,
            user_conf=str(options.user_conf) if options.user_conf else None,
        )

    def _timeout_s(self) -> float | None:
        if self._options.case_timeout_s is not None:
            return self._options.case_timeout_s
        return None if self._options.whole_dataset else QUICK_TIMEOUT_S

    def _accuracy(self, result: Result, case: Case, data: Data) -> Verdict:
        self._progress.show(Step(f"{case.id}, accuracy: scoring"))
        score = score_log(data, Path(result.run_dir), result.sample_count)
        reference = case.model.reference_f1.get(case.dataset, self._options.reference_f1)
        result.reference_f1, result.accuracy_target = reference, self._options.accuracy_target
        if score.total:
            result.f1, result.exact_match = score.f1, score.exact_match
        result.f1_interval = statistics.interval(score.f1_by_question)
        result.question_count = score.total
        share = self._options.accuracy_target / 100
        result.f1_target = None if reference is None else share * reference
        verdict, result.f1_upper_bound = judge_f1(
            score.f1, result.f1_target, score.f1_by_question, not result.whole, result.what
        )
        return verdict

    def _provenance(
        self,
        started: datetime,
        model: Model,
        model_file: Path,
        model_key: str,
        data: Data,
        worker: Worker,
        run: Run,
        request: Request,
        event: Event,
    ) -> dict[str, Any]:
        return {
            "suite_version": __version__,
            "git_revision": provenance.git_revision(cache.PACKAGE.parent),
            "started_at": started.isoformat(timespec="seconds"),
            "command": self._command,
            "working_folder": str(Path.cwd()),
            "environment": {k: v for k, v in os.environ.items() if k.startswith("BERTSQUAD_")},
            **provenance.facts(),
            "instances": request.instances,
            "threads": request.threads,
            "pinned_cpus": [list(cpus) for cpus in request.pins],
            "batch_tokens": event["batch_tokens"],
            "batches": event["batches"],
            "provider_proof": event["proof"],
            "model_preparation": worker.ready["preparation"],
            "model_file": model_file.name,
            "model_path": str(model.path) if model.path else None,
            "model_checksum": model_key,
            "model_input_type": worker.ready["input_type"],
            "dataset_file": data.file.name,
            "dataset_checksum": data.checksum,
            "user_conf": self._user_conf,
            "seeds": {seed: run.values.get(seed) for seed in SEEDS},
            "log_checksums": logs.checksums(run.folder),
        }


def _user_conf(path: Path | None) -> dict[str, Any] | None:
    """Which user.conf was given, and what in it means BERT."""
    if path is None:
        return None
    settings = {".".join(key): value for key, value in user_conf.read_user_conf(path).items()}
    return {"file": str(path), "settings": settings}


def _empty(folder: Path) -> None:
    """Make `folder`, free of what an earlier run of the case left; other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("mlperf_log_*", "audit.config", TIMELINE, RESULT):
        for file in folder.glob(pattern):
            file.unlink()
