"""What a case gave: figures, the judgement on them, and `result.json`."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsquad.files import write_whole
from bertsquad.rules import CATEGORIES, CLOSED_MODELS, SERVER_BOUND_MS

#: Raised whenever a key of `result.json` changes its meaning or goes away.
SCHEMA_VERSION = 1
RESULT = "result.json"

#: How sure a subset must make it that the target is missed before the case fails.
CONFIDENCE = 0.999

PASSED, FAILED, UNDECIDED, NO_TARGET = "passed", "failed", "undecided", "no target"


@dataclass(frozen=True)
class Verdict:
    """A judgement: one of the four words, and the sentence that explains it."""

    word: str
    reason: str


@dataclass
class Result:
    """One case's figures. None where a figure has no meaning for the case.

    The names end in their units; F1 and exact match are in per cent. `mlperf_metric` names what
    `mlperf_metric_value` is: samples/s for Offline and Server, ms for the others.
    """

    case: str
    mode: str
    model: str
    dataset: str
    scenario: str
    device: str
    precision: str
    rules: str
    sample_count: int
    dataset_samples: int
    run_dir: str
    provider: str
    verdict: str
    reason: str
    run_time_s: float
    qps: float | None = None
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    mlperf_metric: str | None = None
    mlperf_metric_value: float | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    target_source: str | None = None
    loadgen_valid: bool | None = None
    mlperf_valid: bool = False
    invalid_reasons: list[str] = field(default_factory=list)
    f1: float | None = None
    exact_match: float | None = None
    f1_target: float | None = None
    f1_upper_bound: float | None = None
    question_count: int | None = None
    compliance_responses: int | None = None
    compliance_largest_difference: float | None = None
    compliance_speed_ratio: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def failure(self) -> str | None:
        """Why the case fails; None if it doesn't."""
        return self.reason if self.verdict == FAILED else None

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    def save(self) -> None:
        """Write `result.json` into the run folder, whole or not at all."""
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"
        write_whole(Path(self.run_dir) / RESULT, lambda file: file.write_text(text, "utf-8"))


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


def mlperf_objections(result: Result, bound_ms: float | None) -> list[str]:
    """Why MLPerf's closed division would not accept a run, whatever LoadGen says of it.

    `bound_ms` is Server's latency bound, None in the other scenarios.
    """
    objections = []
    if result.rules != "mlperf":
        objections.append("run under --rules quick, shorter than MLPerf's rules want")
    if result.model not in CLOSED_MODELS:
        objections.append(f"{result.model} is not MLPerf's model (open division only)")
    if result.dataset != "squad":
        objections.append(f"run on {result.dataset}, not on SQuAD v1.1")
    elif result.sample_count < result.dataset_samples:
        objections.append("run on a subset of the data set")
    if result.f1_target is not None and result.f1_target < CATEGORIES[0].f1_target:
        objections.append(
            f"F1 target {result.f1_target:.3f}, under MLPerf's {CATEGORIES[0].f1_target:.3f}"
        )
    if bound_ms is not None and bound_ms != SERVER_BOUND_MS:
        objections.append(f"latency bound {bound_ms:g} ms instead of {SERVER_BOUND_MS:g} ms")
    return objections


def upper_bound(values: Sequence[float], confidence: float) -> float:
    """The one-sided upper confidence bound of the mean of two or more values (Student's t)."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean + student_t_quantile(confidence, n - 1) * math.sqrt(variance / n)


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
