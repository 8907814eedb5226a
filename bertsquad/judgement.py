"""The judgements on runs: is the F1 reached, is the run valid, would MLPerf accept it?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bertsquad import logs
from bertsquad.assets import registry
from bertsquad.loadgen import SCENARIOS
from bertsquad.logs import Run
from bertsquad.models import MODELS
from bertsquad.results import FAILED, NO_TARGET, PASSED, RESULT, UNDECIDED, Result
from bertsquad.rules import (
    CATEGORIES,
    CLOSED_MODELS,
    EDGE_SCENARIOS,
    MIN_DURATION_S,
    ROUND,
    SAMPLES,
    SEEDS,
    TEST01,
)

#: How sure a subset must make it that the target is missed before the case fails.
CONFIDENCE = 0.999


@dataclass(frozen=True)
class Verdict:
    """A judgement: one of the four words, and the sentence that explains it."""

    word: str
    reason: str


@dataclass(frozen=True)
class Objection:
    """Why MLPerf would not accept a run: the file of its folder that shows it, and the reason.

    `kind` is `log` where the run isn't what it says it is, `size` where it is too small, short or
    otherwise not valid, `division` where only the closed division minds.
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
        **SEEDS,
    }
    if result.mode == "compliance":
        expected["effective_accuracy_log_rng_seed"] = TEST01.accuracy_log_rng_seed
        expected["effective_accuracy_log_sampling_target"] = TEST01.accuracy_log_sampling_target
    for key, value in expected.items():
        if values.get(key) != value:
            yield _in_log("log", f"{key} is {values.get(key)}, but {ROUND} wants {value}")
    for error in run.errors:
        yield _in_log("log", f"LoadGen reports an error: {error}")
    if result.rules != "mlperf":
        yield Objection("size", RESULT, f"run under --rules {result.rules}, not under mlperf")
    if result.dataset != "squad":
        yield Objection("size", RESULT, f"run on {result.dataset}, not on SQuAD v1.1")
    if result.scenario not in EDGE_SCENARIOS:
        reason = f"{ROUND} knows no {SCENARIOS[result.scenario].loadgen_name} scenario of BERT"
        yield Objection("size", RESULT, reason)
    yield from _division_objections(result)
    if result.rules == "mlperf":
        yield from _size_objections(result, run)


def _in_log(kind: str, reason: str) -> Objection:
    return Objection(kind, logs.DETAIL, reason)


def _division_objections(result: Result) -> Iterator[Objection]:
    if result.model not in CLOSED_MODELS:
        reason = f"{result.model} is not MLPerf's model, so it is for the open division only"
        yield Objection("division", RESULT, reason)
    else:
        file = MODELS[result.model].file
        checksum = result.provenance["model_checksum"]
        if file is None or checksum != registry()[file].digest:
            yield Objection("division", RESULT, f"its model's checksum {checksum} isn't MLPerf's")
    official = CATEGORIES[0].f1_target
    if result.f1_target is not None and result.f1_target < official:
        reason = f"F1 target {result.f1_target:.3f}, under MLPerf's {official:.3f}"
        yield Objection("division", RESULT, reason)


def _size_objections(result: Result, run: Run) -> Iterator[Objection]:
    values = run.values
    if result.mode == "accuracy":
        count = values.get("effective_accuracy_sample_count")
        if count != SAMPLES:
            yield _in_log("size", f"{count} samples were answered, not all {SAMPLES}")
        return
    if not run.valid:
        yield _in_log("size", f"LoadGen calls the run INVALID: {'; '.join(run.invalid_reasons)}")
    shortest = values.get("effective_min_duration_ms", 0)
    if shortest < MIN_DURATION_S * 1000:
        yield _in_log("size", f"asked to last {shortest} ms, not {MIN_DURATION_S * 1000:.0f}")
    if values.get("effective_performance_sample_count", 0) < SAMPLES:
        yield _in_log("size", f"drawn from fewer than {SAMPLES} samples")
    if result.scenario == "offline" and values.get("effective_samples_per_query", 0) < SAMPLES:
        yield _in_log("size", f"its query has fewer than {SAMPLES} samples")


def judge_f1(
    f1: float,
    target: float | None,
    f1_by_question: Sequence[float],
    subset: bool,
    what: str,
) -> tuple[Verdict, float | None]:
    """Judge an accuracy run, and give the upper bound that a subset was judged by, in per cent.

    The whole data set is judged by F1 itself. A subset's F1 varies with the questions that happen
    to be in it, so it fails only if the target lies above the one-sided upper confidence bound of
    its mean. `f1_by_question` is 0 to 1; `what` says model, device and precision.
    """
    questions = len(f1_by_question)
    if questions == 0:
        return Verdict(UNDECIDED, "subset: no question was run with all of its windows"), None
    figures = f"F1 {f1:.3f} on {questions} questions ({what})"
    if target is None:
        return Verdict(NO_TARGET, f"{figures}; no reference F1 is known for it"), None
    goal = f"the target of {target:.3f}"
    if not subset:
        if f1 >= target:
            return Verdict(PASSED, f"{figures} reaches {goal}"), None
        return Verdict(FAILED, f"{figures} is under {goal}"), None
    if questions < 2:
        return Verdict(UNDECIDED, f"subset: {questions} whole questions are too few to judge"), None
    bound = 100 * min(1.0, upper_bound(f1_by_question, CONFIDENCE))
    share = f"{100 * CONFIDENCE:g} % confidence bound of {bound:.3f}"
    if bound < target:
        return Verdict(FAILED, f"subset: {figures}, with a {share}, is under {goal}"), bound
    return Verdict(PASSED, f"subset: {figures}, with a {share}, is not under {goal}"), bound


def judge_performance(
    rules: str, loadgen_valid: bool, invalid_reasons: Sequence[str], what: str
) -> Verdict:
    """Judge a performance run: under `quick` an INVALID one passes, showing its reasons."""
    if loadgen_valid:
        return Verdict(PASSED, "LoadGen calls the run VALID")
    why = f"LoadGen calls the run INVALID ({what}): {'; '.join(invalid_reasons)}"
    return Verdict(FAILED if rules == "mlperf" else PASSED, why)


def upper_bound(values: Sequence[float], confidence: float) -> float:
    """The one-sided upper confidence bound of the mean of two or more values (Student's t)."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean + student_t_quantile(confidence, n - 1) * math.sqrt(variance / n)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The two-sided 95 % confidence interval of the mean of F1 scores of 0 to 1, in per cent."""
    if len(values) < 2:
        return None
    high = upper_bound(values, 0.975)
    low = 2 * math.fsum(values) / len(values) - high
    return 100 * max(low, 0.0), 100 * min(high, 1.0)


def student_t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution above its median, by bisection."""
    low, high = 0.0, 1.0
    while student_t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if student_t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def student_t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for whole degrees of freedom, by the finite series.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    term = total = 1.0 if freedom % 2 == 0 else (math.cos(angle) if freedom > 1 else 0.0)
    for k in range(2 if freedom % 2 == 0 else 3, freedom - 1, 2):
        term *= cos2 * (k - 1) / k
        total += term
    if freedom % 2 == 0:
        return 0.5 + math.sin(angle) * total / 2
    return 0.5 + (angle + math.sin(angle) * total) / math.pi
