"""Which samples go through the model together: pure planning, no I/O and no clock.

A batch is padded to its longest sample, so its cost is `samples x longest`, its padded tokens.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

from bertsquad.runtime.parallelism import BATCH_TOKENS

#: Batches that each instance gets in Offline at least, so that none works alone at the end.
BATCHES_EACH = 4


def by_length(
    lengths: Sequence[int] | NDArray[np.integer],
    budget: int,
    most: int | None = None,
    instances: int = 1,
) -> list[list[int]]:
    """Offline's decision: batches of samples of similar length, within `budget` padded tokens each.

    `lengths` holds each sample's tokens; the batches hold positions into it, longest first, at
    most `most` each. A sample longer than the budget is a batch of its own. A query that is small
    for several `instances` is cut into smaller batches, so that all have work until the end.
    """
    if instances > 1:
        budget = min(budget, int(np.sum(lengths)) // (BATCHES_EACH * instances))
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    batches: list[list[int]] = []
    for position in order:
        last = batches[-1] if batches else []
        fits = last and (len(last) + 1) * lengths[last[0]] <= budget
        if fits and (most is None or len(last) < most):
            last.append(position)
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
        """The least-squares line through pairs of padded tokens and seconds; it never falls."""
        tokens, seconds = np.array(measured, np.float64).T
        if len(set(tokens)) < 2:
            return cls(0.0, float((seconds / tokens).mean()))
        token_s, base_s = np.polyfit(tokens, seconds, 1)
        if token_s <= 0 or base_s < 0:
            return cls(0.0, float(seconds.sum() / tokens.sum()))
        return cls(float(base_s), float(token_s))


def soonest(lengths: Sequence[int], cost: Cost, budget: int = BATCH_TOKENS) -> list[list[int]]:
    """MultiStream's decision: the batches that answer a query soonest, run one after another.

    They hold positions into `lengths`, longest first. Fewer batches save base cost, more batches
    save padding: all ways to cut the samples, sorted by length, are compared by their cost.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    # best[n]: the cost of the n longest samples, and how many of them are in the last batch.
    best = [(0.0, 0)]
    for end in range(1, len(order) + 1):
        options = []
        for size in range(1, end + 1):
            longest = lengths[order[end - size]]
            if size == 1 or size * longest <= budget:
                options.append((best[end - size][0] + cost(size, longest), size))
        best.append(min(options))
    batches: list[list[int]] = []
    end = len(order)
    while end:
        size = best[end][1]
        batches.insert(0, order[end - size : end])
        end -= size
    return batches


def next_batch(
    lengths: Sequence[int],
    deadlines: Sequence[float],
    now: float,
    cost: Cost,
    budget: int = BATCH_TOKENS,
) -> list[int]:
    """Server's decision: which of the waiting samples to run now, as positions into `lengths`.

    The samples are in the order of their arrival, and the oldest is always taken. Others join it,
    nearest length first, while three things hold: the padding costs less time than a batch of their
    own, the batch stays within the budget, and no sample misses a deadline that it could have met
    alone. Deadlines are seconds of the clock of `now`.
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
    instances: int = 1,
) -> list[float]:
    """The latency in seconds of each sample if `next_batch` ran this trace on `instances` engines.

    `arrivals` are seconds, ascending.
    """
    latencies = [0.0] * len(arrivals)
    waiting: list[int] = []
    arrived = 0
    free_at = [0.0] * instances  # a heap
    while arrived < len(arrivals) or waiting:
        oldest_arrival = arrivals[waiting[0] if waiting else arrived]
        now = max(free_at[0], oldest_arrival)  # an engine may have been free before that
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
        heapreplace(free_at, now)
        for sample in samples:
            latencies[sample] = now - arrivals[sample]
        taken = set(samples)
        waiting = [i for i in waiting if i not in taken]
    return latencies


#: Room for noise in a probed rate: the simulated percentile may use this share of the bound, and
#: the run asks for this share of the rate found.
PROBE_MARGIN = 0.9


def sustainable_rate(
    lengths: Sequence[int] | NDArray[np.integer],
    bound_s: float,
    cost: Cost,
    budget: int = BATCH_TOKENS,
    instances: int = 1,
    percentile: float = 0.99,
) -> float | None:
    """The queries a second at which the device should keep `percentile` of them within `bound_s`.

    It is found by simulating a fixed Poisson trace over samples drawn evenly from `lengths`, with a
    margin for noise. None where the bound isn't kept even at a hundredth of the device's full rate:
    then no rate is honest.
    """
    rng = np.random.default_rng(0)
    drawn = [int(n) for n in rng.choice(np.asarray(lengths), 2000)]
    gaps = rng.exponential(1.0, len(drawn))

    def latencies_of(arrivals: list[float]) -> list[float]:
        return simulate_server(arrivals, drawn, bound_s, cost, budget, instances)

    def holds(rate: float, margin: float = PROBE_MARGIN) -> bool:
        latencies = latencies_of(np.cumsum(gaps / rate).tolist())
        return float(np.quantile(latencies, percentile)) <= margin * bound_s

    # No more than it can do when all is there at once.
    high = len(drawn) / max(latencies_of([0.0] * len(drawn)))
    low = high / 100
    if not holds(low, margin=1.0):
        return None
    if holds(high):
        return PROBE_MARGIN * high
    while high / low > 1.02:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return PROBE_MARGIN * low
