"""MLPerf's TEST01: does a performance run answer as the accuracy run did, and as fast as unaudited?

A submitter could answer worse, and so faster, while only the speed is measured. So LoadGen logs
some responses of a performance run: they must equal those of the accuracy run, and logging them
must not change the speed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertsquad import scenarios
from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Run
from bertsquad.results.result import FAILED, PASSED, Verdict
from bertsquad.rules import TEST01

Logits = NDArray[np.float32]

#: How far two runs' logits may be apart. A sample's batch decides in which order sums are formed,
#: and so how they round; logits are of the order of 10. Seen here between batches of one and of
#: many: 2e-5 in fp32, 0.1 in bf16 (OpenVINO).
TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "bf16": 0.5, "fp16": 0.05, "int8": 0.5}


@dataclass(frozen=True)
class Comparison:
    """Sampled responses, compared with those of the accuracy run.

    `differing` are the samples that differ by more than the tolerance or aren't in the accuracy
    run at all; `largest` is the largest difference of a logit among the comparable ones. Of
    `outside` more the accuracy run wasn't asked for the sample, so that there was nothing to
    compare.
    """

    responses: int
    differing: tuple[int, ...]
    largest: float
    outside: int = 0


def compare(
    sampled: Iterable[tuple[int, Logits]],
    accuracy: Mapping[int, Logits],
    tolerance: float,
    asked: int | None = None,
) -> Comparison:
    """Compare all logits of every sampled response with those of the accuracy run.

    That was `asked` for the first so many samples; None means for all.
    """
    count, outside, largest, differing = 0, 0, 0.0, []
    for sample, logits in sampled:
        if asked is not None and sample >= asked:
            outside += 1
            continue
        count += 1
        expected = accuracy.get(sample)
        if expected is None or expected.shape != logits.shape:
            differing.append(sample)
            continue
        difference = float(np.abs(expected - logits).max(initial=0.0))
        # In this form NaN differs.
        if not difference <= tolerance:
            differing.append(sample)
        largest = max(largest, difference)
    return Comparison(count, tuple(differing), largest, outside)


@dataclass(frozen=True)
class Audited:
    """What TEST01 found: the comparison of responses, and the ratio of audited to unaudited speed.

    The ratio is None where one of the two runs gave no figure.
    """

    comparison: Comparison
    speed_ratio: float | None
    tolerance: float

    def judge(self, rules: str, what: str) -> Verdict:
        """Responses always count, speed under rules `mlperf` only.

        `what` says model, data set, device and precision.
        """
        found, ratio, most = self.comparison, self.speed_ratio, f"{self.tolerance:g}"
        if found.responses == 0 and found.outside:
            return Verdict(
                FAILED,
                f"TEST01: none of the {found.outside} sampled responses is to one of the samples "
                f"that the accuracy run answered ({what})",
            )
        if found.responses == 0:
            return Verdict(FAILED, f"TEST01: LoadGen sampled no response ({what})")
        if found.differing:
            first = ", ".join(str(sample) for sample in found.differing[:5])
            return Verdict(
                FAILED,
                f"TEST01: {len(found.differing)} of {found.responses} sampled responses differ "
                f"from the accuracy run's by more than {most} ({what}; samples {first})",
            )
        equal = (
            f"{found.responses} sampled responses equal the accuracy run's within {most} "
            f"(largest difference {found.largest:.2g})"
        )
        if found.outside:
            equal += f", which did not answer the samples of {found.outside} more"
        if ratio is None:
            word = FAILED if rules == "mlperf" else PASSED
            return Verdict(word, f"TEST01: {equal}; no speed to compare ({what})")
        speed = f"audited to unaudited speed {ratio:.3f}"
        if abs(ratio - 1) > TEST01.speed_tolerance and rules == "mlperf":
            limit = f"more than {100 * TEST01.speed_tolerance:g} % off"
            return Verdict(FAILED, f"TEST01: {equal}, but {speed} is {limit} ({what})")
        return Verdict(PASSED, f"TEST01: {equal}; {speed}")


def audit(
    audited: Run,
    unaudited: Run,
    accuracy_folder: Path,
    scenario: str,
    precision: str,
    asked: int | None = None,
) -> Audited:
    """Compare an audited run with the other two runs of its case, by their logs.

    The accuracy run was `asked` for the first so many samples; None means for all.
    """
    tolerance = TOLERANCE[precision]
    responses = logs.read_responses(audited.folder)
    comparison = compare(responses, logs.read_accuracy_log(accuracy_folder), tolerance, asked)
    plain, under_audit = (speed(run, scenario) for run in (unaudited, audited))
    ratio = under_audit / plain if plain and under_audit else None
    return Audited(comparison, ratio, tolerance)


def speed(run: Run, scenario: str) -> float | None:
    """A figure that grows with the speed: the rate, or one over the official latency.

    Where early stopping gave no estimate of the latency (quick runs), it is the 90th percentile.
    """
    entry = scenarios.SCENARIOS[scenario]
    metric = run.metric(entry)
    if entry.has_rate:
        return metric
    latency_ms = metric or run.latency_ms(90)
    return 1 / latency_ms if latency_ms else None
