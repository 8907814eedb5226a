"""From a case to its result: files, features, a worker, a run, a judgement."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from bertsquad import __version__, answers, assets, compliance, features, loadgen, machine, squad
from bertsquad.cases import Case, sample_count
from bertsquad.errors import SuiteError
from bertsquad.features import Features
from bertsquad.loadgen import SCENARIOS, Request, Run
from bertsquad.options import Options
from bertsquad.results import (
    PASSED,
    RESULT,
    Result,
    Verdict,
    judge_f1,
    judge_performance,
    mlperf_objections,
)
from bertsquad.rules import SEEDS
from bertsquad.squad import DATASETS, Dataset, Score
from bertsquad.tokenization import Vocabulary
from bertsquad.worker import Event, Setup, Worker

VOCABULARY = "pocket/vocab.txt"

#: Seconds that a quick case may take if nobody said otherwise; whole data sets have no limit.
QUICK_TIMEOUT_S = 1800.0

#: Wraps what may print a progress bar, so that the caller can let it through to the terminal.
Visible = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Data:
    """A data set with everything made from it."""

    dataset: Dataset
    features: Features
    features_file: Path
    file: Path
    checksum: str


class BoundUnattainable(SuiteError):
    """Server's latency bound can't be kept at any rate, so no run was made."""


class Harness:
    """Runs cases; holds what they share: data sets, features and at most one worker."""

    def __init__(
        self,
        options: Options,
        parallel: int = 1,
        command: str = "",
        visible: Visible = contextlib.nullcontext,
    ) -> None:
        """`parallel` says how many harnesses divide the cores; `command` goes into the results."""
        self._options = options
        self._parallel = parallel
        self._command = command
        self._visible = visible
        self._data: dict[str, Data] = {}
        self._vocabulary: Vocabulary | None = None
        self._worker: tuple[tuple[str, ...], Worker] | None = None
        self._results: dict[tuple[str, str], Result] = {}

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
        if (case.id, mode) in self._results:
            return self._results[case.id, mode]
        if mode == "compliance":
            for needed in ("accuracy", "performance"):
                self.run(case, needed)
        started = datetime.now(UTC)
        model_file, model_key = self._model(case)
        data = self.data(case.dataset)
        folder = self._options.output / f"{mode}-{case.id}"
        request = self._request(case, mode, folder, data)
        worker = self._worker_for(case, model_file, model_key, data)
        _empty(folder)
        begun = time.perf_counter()
        event = worker.run(request, self._timeout_s())
        if "unattainable" in event:
            raise BoundUnattainable(f"{case.id}: {event['unattainable']}")
        run = loadgen.read_run(folder)
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
            provider=worker.ready["provider"],
            verdict="",
            reason="",
            run_time_s=event["seconds"],
        )
        if mode == "accuracy":
            self._judge_accuracy(result, case, data, folder)
        else:
            _judge_performance(result, request, run, event)
        if mode == "compliance":
            self._judge_compliance(result, run)
        result.provenance = self._provenance(started, model_file, model_key, data, worker, run)
        result.provenance["seconds_with_scoring"] = time.perf_counter() - begun
        result.save()
        self._results[case.id, mode] = result
        return result

    def data(self, name: str) -> Data:
        """The data set `name` and its features, fetched and built at the first call."""
        if name not in self._data:
            vocabulary_file = assets.fetch(VOCABULARY)
            with self._visible():
                file = assets.fetch(DATASETS[name].file, "dataset", progressbar=True)
            if self._vocabulary is None:
                self._vocabulary = Vocabulary(vocabulary_file)
            dataset = squad.load(file)
            built, path = cached_features(dataset, self._vocabulary, file, vocabulary_file)
            checksum = assets.registry()[DATASETS[name].file].checksum
            self._data[name] = Data(dataset, built, path, file, checksum)
        return self._data[name]

    def score(self, data: Data, folder: Path, samples: int) -> Score:
        """EM and F1 of the accuracy log in `folder`, over the questions that were wholly run.

        Raises SuiteError if the log isn't that of the first `samples` windows.
        """
        assert self._vocabulary is not None
        logits = loadgen.read_accuracy_log(folder)
        if sorted(logits) != list(range(samples)):
            raise SuiteError(
                f"{folder / loadgen.ACCURACY} holds {len(logits)} samples where {samples} were run"
            )
        found = answers.find(data.dataset, data.features, self._vocabulary, logits)
        return squad.score(found, [q for q in data.dataset.questions if q.id in found])

    def _model(self, case: Case) -> tuple[Path, str]:
        """The model's verified file, and what names its content."""
        if case.model.path is not None:
            return case.model.path, str(pooch.file_hash(str(case.model.path)))
        assert case.model.file is not None
        with self._visible():
            path = assets.fetch(case.model.file, "model", progressbar=True)
        return path, assets.registry()[case.model.file].checksum.rpartition(":")[2]

    def _worker_for(self, case: Case, model: Path, key: str, data: Data) -> Worker:
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
            threads=max(1, machine.cores() // self._parallel),
        )
        log = self._options.output / f"worker-{'-'.join(case.session)}.log"
        worker = Worker(setup, log, self._timeout_s())
        self._worker = case.session, worker
        return worker

    def _request(self, case: Case, mode: str, folder: Path, data: Data) -> Request:
        options = self._options
        qps, latency_ms = options.target_qps, options.target_latency_ms
        if mode == "compliance":  # audited and unaudited run must have been asked for the same
            unaudited = self._results[case.id, "performance"]
            qps, latency_ms = unaudited.target_qps, unaudited.target_latency_ms
        return Request(
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
        whole = self._options.rules == "mlperf" or self._options.dataset_size == "all"
        return None if whole else QUICK_TIMEOUT_S

    def _judge_accuracy(self, result: Result, case: Case, data: Data, folder: Path) -> None:
        score = self.score(data, folder, result.sample_count)
        reference = self._options.reference_f1 or case.model.reference_f1.get(case.dataset)
        share = self._options.accuracy_target / 100
        if score.total:
            result.f1, result.exact_match = score.f1, score.exact_match
        result.question_count = score.total
        result.f1_target = None if reference is None else share * reference
        subset = result.sample_count < result.dataset_samples
        verdict, result.f1_upper_bound = judge_f1(
            score.f1,
            result.f1_target,
            score.f1_by_question,
            subset,
            f"{case.model.name} on {case.dataset}, {case.device}, {case.precision}",
        )
        result.verdict, result.reason = verdict.word, verdict.reason
        result.invalid_reasons = mlperf_objections(result, None)
        result.mlperf_valid = not result.invalid_reasons and verdict.word == PASSED

    def _judge_compliance(self, result: Result, run: Run) -> None:
        performance = self._results[result.case, "performance"]
        accuracy = self._results[result.case, "accuracy"]
        unaudited = loadgen.read_run(Path(performance.run_dir))
        audited = compliance.audit(run, unaudited, Path(accuracy.run_dir), result)
        result.target_source = performance.target_source
        result.compliance_responses = audited.comparison.responses
        result.compliance_largest_difference = audited.comparison.largest
        result.compliance_speed_ratio = audited.speed_ratio
        if audited.verdict.word != PASSED or result.verdict == PASSED:
            result.verdict, result.reason = audited.verdict.word, audited.verdict.reason
        result.mlperf_valid = result.mlperf_valid and result.verdict == PASSED

    def _provenance(
        self,
        started: datetime,
        model_file: Path,
        model_key: str,
        data: Data,
        worker: Worker,
        run: Run,
    ) -> dict[str, Any]:
        return {
            "suite_version": __version__,
            "git_revision": machine.git_revision(assets.PACKAGE.parent),
            "started_at": started.isoformat(timespec="seconds"),
            "command": self._command,
            "versions": machine.versions(),
            "cpu": machine.cpu_name(),
            "cores": machine.cores(),
            "sockets": machine.sockets(),
            "memory_bytes": machine.memory_bytes(),
            "operating_system": machine.operating_system(),
            "gpus": list(machine.gpu_names()),
            "threads": worker.ready["threads"],
            "provider_proof": worker.ready["proof"],
            "model_preparation": worker.ready["preparation"],
            "model_file": model_file.name,
            "model_checksum": model_key,
            "dataset_file": data.file.name,
            "dataset_checksum": data.checksum,
            "seeds": {seed: run.values.get(seed) for seed in SEEDS},
            "log_checksums": loadgen.log_checksums(run.folder),
        }


def cached_features(
    dataset: Dataset, vocabulary: Vocabulary, dataset_file: Path, vocabulary_file: Path
) -> tuple[Features, Path]:
    """The features from their cache, built there first if need be, by one process at a time."""
    key = features.cache_key(dataset_file, vocabulary_file)
    path = assets.cache_folder() / "features" / f"{key}.npz"
    with assets.lock(path.name):
        with contextlib.suppress(ValueError):
            return features.load(path), path
        built = features.build(dataset, vocabulary)
        features.save(built, path)
    return built, path


def _judge_performance(result: Result, request: Request, run: Run, event: Event) -> None:
    scenario = SCENARIOS[result.scenario]
    what = f"{result.model} on {result.device}, {result.precision}"
    result.loadgen_valid = run.valid
    result.mlperf_metric = scenario.metric
    result.mlperf_metric_value = run.metric(scenario)
    result.qps = run.values.get(scenario.metric) if scenario.has_rate else None
    result.latency_p50_ms = run.latency_ms("50.00")
    result.latency_p90_ms = run.latency_ms("90.00")
    result.latency_p99_ms = run.latency_ms("99.00")
    result.target_qps = event["target_qps"]
    result.target_latency_ms = event["target_latency_ms"]
    result.target_source = event["target_source"]
    verdict: Verdict = judge_performance(request.rules, run.valid, run.invalid_reasons, what)
    result.verdict, result.reason = verdict.word, verdict.reason
    bound_ms = loadgen.server_bound_ms(request) if result.scenario == "server" else None
    objections = mlperf_objections(result, bound_ms)
    result.mlperf_valid = run.valid and not objections
    result.invalid_reasons = run.invalid_reasons + objections


def query_seconds(result: Result) -> list[float]:
    """What pytest-benchmark shall take for its rounds, in seconds.

    Offline and Server: one round whose rate is LoadGen's; the others: one round a query.
    """
    if result.qps is not None:
        return [1.0 / result.qps]
    latencies = np.load(Path(result.run_dir) / loadgen.LATENCIES, allow_pickle=False)
    return [float(latency) / 1e9 for latency in latencies]


def _empty(folder: Path) -> None:
    """Make `folder`, free of what an earlier run of the case left; other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("mlperf_log_*", loadgen.LATENCIES, RESULT):
        for file in folder.glob(pattern):
            file.unlink()


def flat_properties(result: Result) -> Iterator[tuple[str, float | str | bool]]:
    """What JUnit shows of a result."""
    wanted: Mapping[str, Any] = result.as_dict()
    for key in (
        "f1",
        "exact_match",
        "f1_target",
        "qps",
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_p99_ms",
        "loadgen_valid",
        "mlperf_valid",
        "verdict",
    ):
        if wanted[key] is not None:
            yield key, wanted[key]
