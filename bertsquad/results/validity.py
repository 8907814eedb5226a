"""Is a performance run valid, and would MLPerf accept a run?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bertsquad import rules
from bertsquad.assets.registry import entries
from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Run
from bertsquad.models.zoo import MODELS
from bertsquad.results import nodes
from bertsquad.results.result import FAILED, PASSED, RESULT, Result, Verdict
from bertsquad.scenarios import SCENARIOS


@dataclass(frozen=True)
class Objection:
    """Why MLPerf would not accept a run: the file of its folder that shows it, and the reason.

    `kind` is `log` where the run isn't what it says it is, `size` where it is too small, short or
    otherwise not valid, `system` where it wasn't run by the whole system, `division` where only the
    closed division minds.
    """

    kind: str
    file: str
    reason: str


def objections(result: Result, run: Run) -> Iterator[Objection]:
    """Everything that MLPerf's closed division would object to in a run."""
    values = run.values
    expected: dict[str, object] = {
        "effective_scenario": SCENARIOS[result.scenario].loadgen_name,
        "effective_test_mode": "AccuracyOnly" if result.mode == "accuracy" else "PerformanceOnly",
        **rules.SEEDS,
    }
    if result.mode == "compliance":
        expected["effective_accuracy_log_rng_seed"] = rules.TEST01.accuracy_log_rng_seed
        expected["effective_accuracy_log_sampling_target"] = (
            rules.TEST01.accuracy_log_sampling_target
        )
    for key, value in expected.items():
        if values.get(key) != value:
            yield _in_log("log", f"{key} is {values.get(key)}, but {rules.ROUND} wants {value}")
    for error in run.errors:
        yield _in_log("log", f"LoadGen reports an error: {error}")
    if result.rules != "mlperf":
        yield Objection("size", RESULT, f"run under --rules {result.rules}, not under mlperf")
    if result.dataset != "squad":
        yield Objection("size", RESULT, f"run on {result.dataset}, not on SQuAD v1.1")
    if result.provenance.get("tokeniser") is not None:
        reason = "its windows were made by its own tokeniser, not by MLPerf's rules"
        yield Objection("size", RESULT, reason)
    if result.scenario not in rules.EDGE_SCENARIOS:
        reason = (
            f"{rules.ROUND} knows no {SCENARIOS[result.scenario].loadgen_name} scenario of BERT"
        )
        yield Objection("size", RESULT, reason)
    if result.nodes_lost:
        yield Objection("system", RESULT, nodes.told(result.nodes_lost))
    yield from _division_objections(result)
    if result.rules == "mlperf":
        yield from _size_objections(result, run)


def _in_log(kind: str, reason: str) -> Objection:
    return Objection(kind, logs.DETAIL, reason)


def _division_objections(result: Result) -> Iterator[Objection]:
    if result.model not in rules.CLOSED_MODELS:
        reason = f"{result.model} is not MLPerf's model, so it is for the open division only"
        yield Objection("division", RESULT, reason)
    else:
        file = MODELS[result.model].file
        checksum = result.provenance["model_checksum"]
        if file is None or checksum != entries()[file].digest:
            yield Objection("division", RESULT, f"its model's checksum {checksum} isn't MLPerf's")
    official = rules.CATEGORIES[0].f1_target
    if result.f1_target is not None and result.f1_target < official:
        reason = f"F1 target {result.f1_target:.3f}, under MLPerf's {official:.3f}"
        yield Objection("division", RESULT, reason)


def _size_objections(result: Result, run: Run) -> Iterator[Objection]:
    values = run.values
    if result.mode == "accuracy":
        count = values.get("effective_accuracy_sample_count")
        if count != rules.SAMPLES:
            yield _in_log("size", f"{count} samples were answered, not all {rules.SAMPLES}")
        return
    if not run.valid:
        yield _in_log("size", f"LoadGen calls the run INVALID: {'; '.join(run.invalid_reasons)}")
    shortest = values.get("effective_min_duration_ms", 0)
    if shortest < rules.MIN_DURATION_S * 1000:
        yield _in_log("size", f"asked to last {shortest} ms, not {rules.MIN_DURATION_S * 1000:.0f}")
    if values.get("effective_performance_sample_count", 0) < rules.SAMPLES:
        yield _in_log("size", f"drawn from fewer than {rules.SAMPLES} samples")
    if (
        result.scenario == "offline"
        and values.get("effective_samples_per_query", 0) < rules.SAMPLES
    ):
        yield _in_log("size", f"its query has fewer than {rules.SAMPLES} samples")


def judge_performance(
    rules: str, loadgen_valid: bool, invalid_reasons: Sequence[str], what: str
) -> Verdict:
    """Judge a performance run: under `quick` an INVALID one passes, showing its reasons."""
    if loadgen_valid:
        return Verdict(PASSED, "LoadGen calls the run VALID")
    why = f"LoadGen calls the run INVALID ({what}): {'; '.join(invalid_reasons)}"
    return Verdict(FAILED if rules == "mlperf" else PASSED, why)
