"""Which samples go through the model together: pure planning, no I/O and no clock.

A batch is padded to its longest sample, so its cost is `samples x longest`, its padded tokens.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Padded tokens a batch may have; beyond this a CPU gains nothing from larger ones.
BATCH_TOKENS = 1536


def by_length(lengths: Sequence[int] | NDArray[np.integer], budget: int) -> list[list[int]]:
    """Cut a query into batches of equal-as-possible length within `budget` padded tokens.

    `lengths` holds each sample's tokens; the batches hold positions into it, longest first. A
    sample longer than the budget is a batch of its own.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    batches: list[list[int]] = []
    for position in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


#: How many of the oldest waiting samples Server chooses a batch from.
LOOKAHEAD = 64


@dataclass(frozen=True)
class Cost:
    """How long a batch takes: `base_s` plus `token_s` for each padded token, in seconds."""

    base_s: float
    token_s: float

    def __call__(self, samples: int, longest: int) -> float:
        """Seconds for `samples` of which the longest has `longest` tokens."""
        return self.base_s + self.token_s * samples * longest

    @classmethod
    def fit(cls, measured: Sequence[tuple[int, float]]) -> "Cost":
        """The least-squares line through (padded tokens, seconds) pairs, never falling."""
        tokens, seconds = np.array(measured, np.float64).T
        if len(set(tokens)) < 2:
            return cls(0.0, float((seconds / tokens).mean()))
        token_s, base_s = np.polyfit(tokens, seconds, 1)
        if token_s <= 0 or base_s < 0:
            return cls(0.0, float(seconds.sum() / tokens.sum()))
        return cls(float(base_s), float(token_s))


def next_batch(
    lengths: Sequence[int],
    deadlines: Sequence[float],
    now: float,
    cost: Cost,
    budget: int = BATCH_TOKENS,
) -> list[int]:
    """Server's decision: which of the waiting samples to run now, as positions into `lengths`.

    The samples are in the order of their arrival and the oldest is always taken. The others join
    it, nearest length first, as long as that wastes less time in padding than a batch of their
    own would cost, the budget holds, and no deadline (same clock as `now`, seconds) that would
    be met is missed. A sample that is late in any case binds nobody.
    """
    chosen = [0]
    longest = lengths[0]
    due = deadlines[0] if now + cost(1, longest) <= deadlines[0] else float("inf")
    for position in sorted(range(1, len(lengths)), key=lambda i: (abs(lengths[i] - lengths[0]), i)):
        new_longest = max(longest, lengths[position])
        together = cost(len(chosen) + 1, new_longest)
        if (len(chosen) + 1) * new_longest > budget or now + together > due:
            continue
        if together > cost(len(chosen), longest) + cost(1, lengths[position]):
            continue
        if now + together > deadlines[position] >= now + cost(1, lengths[position]):
            continue
        chosen.append(position)
        longest = new_longest
        due = min(due, deadlines[position]) if now + together <= deadlines[position] else due
    return sorted(chosen)


def simulate_server(
    arrivals: Sequence[float],
    lengths: Sequence[int],
    bound_s: float,
    cost: Cost,
    budget: int = BATCH_TOKENS,
) -> list[float]:
    """The latency in seconds of each sample if `next_batch` ran this trace on one engine.

    `arrivals` are seconds, ascending.
    """
    latencies = [0.0] * len(arrivals)
    waiting: list[int] = []
    arrived, now = 0, 0.0
    while arrived < len(arrivals) or waiting:
        if not waiting:
            now = max(now, arrivals[arrived])
        upto = bisect_right(arrivals, now, arrived)
        waiting += range(arrived, upto)
        arrived = upto
        oldest = waiting[:LOOKAHEAD]
        batch = next_batch(
            [lengths[i] for i in oldest],
            [arrivals[i] + bound_s for i in oldest],
            now,
            cost,
            budget,
        )
        samples = [waiting[position] for position in batch]
        now += cost(len(samples), max(lengths[i] for i in samples))
        for sample in samples:
            latencies[sample] = now - arrivals[sample]
        taken = set(samples)
        waiting = [i for i in waiting if i not in taken]
    return latencies


#: What a probed rate leaves for noise: the simulated percentile may use this share of the bound,
#: and the run asks for this share of the rate found.
PROBE_MARGIN = 0.9


def sustainable_rate(
    lengths: Sequence[int] | NDArray[np.integer],
    bound_s: float,
    cost: Cost,
    percentile: float = 0.99,
) -> float | None:
    """The queries a second at which the device should keep `percentile` of them within `bound_s`.

    Found by simulating a fixed Poisson trace over samples drawn evenly from `lengths`, with a
    margin for noise. None where the bound can't be kept even at a hundredth of the rate at which
    the device is always busy: then no rate is honest.
    """
    rng = np.random.default_rng(0)
    drawn = [int(n) for n in rng.choice(np.asarray(lengths), 2000)]
    gaps = rng.exponential(1.0, len(drawn))

    def holds(rate: float, margin: float = PROBE_MARGIN) -> bool:
        arrivals = np.cumsum(gaps / rate).tolist()
        latencies = simulate_server(arrivals, drawn, bound_s, cost)
        return float(np.quantile(latencies, percentile)) <= margin * bound_s

    # No more than it can do when all is there at once.
    high = len(drawn) / max(simulate_server([0.0] * len(drawn), drawn, bound_s, cost))
    low = high / 100
    if not holds(low, margin=1.0):
        return None
    if holds(high):
        return PROBE_MARGIN * high
    while high / low > 1.02:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return PROBE_MARGIN * low
