"""Whether a figure is worse than those of the nights before: the decision, on numbers alone.

The baseline is the median of the last good runs, and the band how far a figure may be beyond it:
the given per cent, or the noise of those runs where that is more. What failed is never among the
good runs, so that a loss which stays fails every night, until somebody accepts it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

#: What a gate can say of a case.
PASSED, FAILED, NO_BASELINE, ACCEPTED = "passed", "failed", "no baseline", "accepted"

#: Per cent that a figure may be worse by, where nothing else is asked for.
BAND = 5.0
#: The median of so many runs is the baseline; fewer do where there are no more.
RUNS = 10
#: So many runs tell the noise, and with fewer than `_FEWEST` it isn't known: then two runs that are
#: each within 4 per cent of one level may be up to 8.4 per cent apart.
NOISE_RUNS = 30
_FEWEST, _PRESUMED_BAND = 8, 8.4
#: A run is beyond noise where it is so many standard deviations away. Tried on figures that were
#: drawn at random, as tests/results/test_gate.py does.
_SIGMAS = 3.4
#: Few runs may be alike by chance. So a standard deviation of so many per cent counts, too, as if
#: it had been seen in so many runs.
_PRESUMED_SIGMA, _PRESUMED_RUNS = 2.0, 3
#: How much more a median of many draws varies than their mean (of a normal distribution).
_MEDIAN_VARIANCE = math.pi / 2
#: The median difference of two draws of a normal distribution, in standard deviations.
_MEDIAN_STEP = 0.6745 * math.sqrt(2)

#: One model answers alike every night; so many per cent points of F1 less are a loss. Where there
#: are few questions, one of them may be answered otherwise by another version.
F1_POINTS = 0.1


@dataclass(frozen=True)
class Measure:
    """What of a run is compared: the field of its result, its name for people, its value.

    `least` is a change that doesn't count, in per cent, of F1 in per cent points.
    """

    key: str
    name: str
    value: float
    higher_is_better: bool
    least: float = 0.0

    @property
    def in_points(self) -> bool:
        """Whether changes are differences; else they are per cent of the baseline."""
        return self.key == "f1"


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says of a run: `verdict`, and the numbers that it comes from.

    `figure` is the field of the result that was compared, `value` what it was. `baseline` is the
    median of `runs` good runs, from which it is `change` away, in per cent, or in per cent points
    of F1; a loss is worse by more than `band`. `noise` is what those runs vary by themselves.
    `creep` is how far the median of the last runs, this one included, is from the best that there
    was. `first_value` is what the run had that missed, after which the case was run again.
    """

    verdict: str
    figure: str
    value: float
    baseline: float | None = None
    runs: int = 0
    change: float | None = None
    band: float | None = None
    noise: float | None = None
    creep: float | None = None
    first_value: float | None = None
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the case fails by it."""
        return self.verdict == FAILED


def decide(
    new: Measure, earlier: Sequence[float], band: float = BAND, failed_last: bool = False
) -> GateVerdict:
    """The verdict on a run by the figures of earlier good runs, oldest first.

    After a night that failed half of the noise is no excuse any more.
    """
    if not earlier:
        reason = "gate: no baseline yet"
        return GateVerdict(NO_BASELINE, new.key, new.value, reason=reason)
    last = earlier[-RUNS:]
    baseline = median(last)
    noise = _noise(new, earlier[-NOISE_RUNS:], len(last))
    allowed = max(new.least if new.in_points else band, noise / 2 if failed_last else noise)
    change, creep = _change(new, new.value, baseline), _creep(new, earlier)
    verdict = FAILED if max(_loss(new, change), _loss(new, creep)) > allowed else PASSED
    numbers = (baseline, len(last), change, allowed, noise, creep)
    said = _said(new, baseline, len(last), change, allowed)
    if verdict == FAILED and _loss(new, change) <= allowed:
        unit = _unit(new)
        said = (
            f"{new.name} has crept to {abs(creep or 0):.1f} {unit} from the best median of "
            f"{RUNS} good runs (band {allowed:.1f} {unit})"
        )
    return GateVerdict(verdict, new.key, new.value, *numbers, reason=f"gate: {said}")


def _said(new: Measure, baseline: float, runs: int, change: float, allowed: float) -> str:
    way = "over" if change > 0 else "under"
    of = f"the median of {runs} good runs" if runs > 1 else "the one good run"
    unit = _unit(new)
    return (
        f"{new.name} {_number(new.value)} is {abs(change):.1f} {unit} {way} {of}, "
        f"{_number(baseline)} (band {allowed:.1f} {unit})"
    )


def _unit(new: Measure) -> str:
    return "points" if new.in_points else "%"


def _number(value: float) -> str:
    return f"{value:.5g}"


def _change(new: Measure, value: float, baseline: float) -> float:
    """How far a value is from a baseline, in per cent or in points."""
    return value - baseline if new.in_points else 100 * (value / baseline - 1)


def _loss(new: Measure, change: float) -> float:
    """How much worse a change is; negative where it is better."""
    return -change if new.higher_is_better else change


def _noise(new: Measure, runs: Sequence[float], of_median: int) -> float:
    """How far a run may be from a median of `of_median` runs by noise alone.

    It is taken from the differences between one run and the next, so that neither a slow loss
    nor a step counts as noise (as in control charts for single values).
    """
    steps = [abs(_change(new, *pair)) for pair in pairwise(runs)]
    usual = 2 * median(steps or [0.0]) / _MEDIAN_STEP  # one large step among small ones is no noise
    variance = min(usual**2, fmean([step**2 / 2 for step in steps] or [0.0]))
    if not new.in_points:  # nothing is presumed of F1, which is always the same
        if len(runs) < _FEWEST:
            return _PRESUMED_BAND
        presumed = _PRESUMED_RUNS * _PRESUMED_SIGMA**2
        variance = (len(steps) * variance + presumed) / (len(steps) + _PRESUMED_RUNS)
    return _SIGMAS * math.sqrt(variance) * math.sqrt(1 + _MEDIAN_VARIANCE / of_median)


def _creep(new: Measure, earlier: Sequence[float]) -> float:
    """How far the median of the last runs, the new one included, is from the best there was.

    A median follows a loss that is slow enough; the best one doesn't. 0 while there are too few.
    """
    if len(earlier) <= RUNS:
        return 0.0
    best = max if new.higher_is_better else min
    level = best(median(earlier[at : at + RUNS]) for at in range(len(earlier) - RUNS + 1))
    return _change(new, median([*earlier[1 - RUNS :], new.value]), level)
