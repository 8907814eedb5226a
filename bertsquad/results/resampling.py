"""How far the ratio of a figure in two sets of runs may be off, as a 95 % interval.

Several runs show how runs differ, and Student's t distribution of the logarithms of their figures
says what that means for the ratio (Welch's test). One run each shows less: how its queries scatter,
and how its speed drifted. Both are drawn again and again from what `result.json` keeps of a run,
so that a run of a million queries costs no more than one of a hundred.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray

from bertsquad.results.result import Result
from bertsquad.results.statistics import student_t_quantile

#: So many draws; the ends of an interval then move by less than a tenth of its width.
DRAWS = 4000
#: The draws are the same every time.
SEED = 20_181_018  # the day of BERT's paper
#: Fewer queries than these above a percentile leave the upper end of its interval open: none of
#: them is among as many draws in one of 40 cases, exp(-3.7).
LEAST_ABOVE = 4
#: With fewer spans the drift of a run's speed can't be told from its scatter.
LEAST_SPANS = 8


@dataclass(frozen=True)
class Ratio:
    """B over A: the ratio, its 95 % interval, and what that is made of, or why there is none."""

    value: float
    interval: tuple[float, float] | None
    of: str | None


#: What an interval is made of, where it isn't of several runs, or why there is none.
ONE_RUN, TOO_SHORT, NOT_KEPT = "one run each", "too short a run", "not kept by the run"


def of_runs(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The ratio of the geometric means of figures above 0, three of which at least are given.

    A side with a single run is taken to scatter as the other one does.
    """
    logs = [[math.log(value) for value in values] for values in (a, b)]
    shift = fmean(logs[1]) - fmean(logs[0])
    spreads = [variance(some) if len(some) > 1 else None for some in logs]
    (first, second) = (
        (own if own is not None else other or 0.0) / len(some)
        for own, other, some in zip(spreads, spreads[::-1], logs, strict=True)
    )
    free = max(map(len, logs)) - 1
    if None not in spreads and first + second > 0:
        parts = ((part, len(some)) for part, some in zip((first, second), logs, strict=True))
        exact = (first + second) ** 2 / sum(part**2 / (count - 1) for part, count in parts)
        free = max(1, math.floor(exact + 1e-9))
    half = student_t_quantile(0.975, free) * math.sqrt(first + second)
    interval = math.exp(shift - half), math.exp(shift + half)
    return Ratio(math.exp(shift), interval, f"{len(a)} and {len(b)} runs")


def of_one_run(a: Result, b: Result, key: str) -> Ratio:
    """The ratio of a figure above 0 of two runs, `key` being its field: `qps` or a latency."""
    random = np.random.default_rng(SEED)
    draws = []
    ratio = getattr(b, key) / getattr(a, key)
    for run in (a, b):
        drawn = _rates(run, random) if key == "qps" else _latencies(run, getattr(run, key), random)
        if isinstance(drawn, str):
            return Ratio(ratio, None, drawn)
        draws.append(drawn)
    with np.errstate(all="ignore"):  # of figures that no run has, but a damaged file may
        low, high = np.percentile(draws[1] / draws[0], (2.5, 97.5))
    if not (math.isfinite(low) and math.isfinite(high)):
        return Ratio(ratio, None, NOT_KEPT)
    return Ratio(ratio, (ratio * float(low), ratio * float(high)), ONE_RUN)


def _rates(run: Result, random: np.random.Generator) -> NDArray[np.float64] | str:
    """A rate as it might have been, over what it was, [DRAWS]; or why that can't be said."""
    slowness = _slowness(run, random)
    return slowness if isinstance(slowness, str) else 1 / slowness


def _latencies(run: Result, ms: float, random: np.random.Generator) -> NDArray[np.float64] | str:
    """A latency as it might have been, over what it was, [DRAWS]; or why that can't be said.

    Of as many queries drawn anew from a run's own, one of a certain rank has a share of them below
    that is distributed as Beta says: so nothing but that share need be drawn.
    """
    curve, count = run.timeline.get("latency") or {}, run.query_count
    if not curve.get("ms") or not count:
        return NOT_KEPT
    below = float(np.interp(ms, curve["ms"], curve["percentile"])) / 100
    rank = min(max(round(below * count), 1), count)
    if count - rank < LEAST_ABOVE:
        return TOO_SHORT
    shares = random.beta(rank, count - rank + 1, DRAWS)
    drawn: NDArray[np.float64] = np.interp(100 * shares, curve["percentile"], curve["ms"]) / ms
    slowness = _slowness(run, random)
    return drawn if isinstance(slowness, str) else drawn * slowness


def _slowness(run: Result, random: np.random.Generator) -> NDArray[np.float64] | str:
    """The time of a run as it might have been, over what it was, [DRAWS]; or why not.

    Spans of the run are drawn with their neighbours (a circular block bootstrap, with blocks of the
    cube root of their number), since what slows a machine lasts for a while.
    """
    speeds = (run.timeline.get("course") or {}).get("relative_speed")
    if not speeds:
        return NOT_KEPT
    slow = 1 / np.array([speed for speed in speeds if speed > 0], np.float64)
    count = len(slow)
    if count < LEAST_SPANS:
        return TOO_SHORT
    length = round(count ** (1 / 3))
    starts = random.integers(0, count, (DRAWS, math.ceil(count / length), 1))
    places = ((starts + np.arange(length)) % count).reshape(DRAWS, -1)[:, :count]
    found: NDArray[np.float64] = slow[places].mean(axis=1) / slow.mean()
    return found
