"""Which samples go together: pure functions, so no clock, no model and no LoadGen."""

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import PROJECT

from bertsquad.loadgen import batching
from bertsquad.loadgen.batching import (
    Cost,
    by_length,
    next_batch,
    simulate_server,
    soonest,
    sustainable_rate,
)
from bertsquad.runtime.parallelism import BATCH_TOKENS

LENGTHS = st.lists(st.integers(1, 384), min_size=1, max_size=40)
COSTS = st.builds(Cost, st.floats(0, 0.02), st.floats(1e-6, 1e-3))
#: MLPerf's bound, in seconds.
BOUND_S = 0.130


@dataclass(frozen=True)
class Trace:
    """What LoadGen really asked for in a Server run of 300 queries at 30 a second.

    Recorded in the issue callback with `time.monotonic`; the lengths are those of the bundled
    data set's samples that it drew.
    """

    arrivals_s: list[float]
    lengths: list[int]

    def faster(self, times: float) -> list[float]:
        return [arrival / times for arrival in self.arrivals_s]


@pytest.fixture(scope="module")
def trace() -> Trace:
    file = Path(__file__).parent / "data" / "server_trace.json"
    return Trace(**json.loads(file.read_bytes()))


#: A device that is busy for a third of the time at 30 queries a second.
DEVICE = Cost(0.002, 0.00005)


# Offline.


@given(LENGTHS, st.integers(1, 3000))
def test_every_sample_is_in_one_batch_and_batches_keep_the_budget(
    lengths: list[int], budget: int
) -> None:
    batches = by_length(lengths, budget)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[position] for position in batch)
        assert len(batch) * longest <= budget or len(batch) == 1


@given(LENGTHS)
def test_offline_runs_the_longest_samples_first(lengths: list[int]) -> None:
    order = [lengths[position] for batch in by_length(lengths, BATCH_TOKENS) for position in batch]
    assert order == sorted(lengths, reverse=True)


def test_offline_pads_little(trace: Trace) -> None:
    lengths = np.array(trace.lengths)
    batches = by_length(lengths, BATCH_TOKENS)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.05 * lengths.sum()
    assert len(lengths) / len(batches) > 4


def test_no_samples_are_no_batches() -> None:
    assert by_length([], BATCH_TOKENS) == []


@given(LENGTHS, st.integers(384, 3000), st.integers(1, 10))
def test_a_batch_has_no_more_samples_than_the_provider_takes(
    lengths: list[int], budget: int, most: int
) -> None:
    batches = by_length(lengths, budget, most)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert max(len(batch) for batch in batches) <= most
    for batch in batches:
        assert len(batch) * max(lengths[position] for position in batch) <= budget


def test_a_limit_that_no_batch_reaches_changes_nothing(trace: Trace) -> None:
    free = by_length(trace.lengths, BATCH_TOKENS)
    assert by_length(trace.lengths, BATCH_TOKENS, max(map(len, free))) == free
    assert by_length([100] * 5, BATCH_TOKENS, 2) == [[0, 1], [2, 3], [4]]


@given(LENGTHS, st.integers(1, 3000), st.integers(2, 64))
def test_for_several_instances_every_sample_is_still_in_one_batch_within_the_budget(
    lengths: list[int], budget: int, instances: int
) -> None:
    batches = by_length(lengths, budget, instances=instances)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[position] for position in batch)
        assert len(batch) * longest <= budget or len(batch) == 1


@pytest.mark.parametrize("instances", [2, 4])
def test_a_small_query_is_cut_so_that_every_instance_has_work(instances: int) -> None:
    assert len(by_length([50] * 32, BATCH_TOKENS)) == 2
    batches = by_length([50] * 32, BATCH_TOKENS, instances=instances)
    assert {len(batch) for batch in batches} == {32 // (4 * instances)}


def test_a_query_that_is_large_enough_is_cut_as_for_one_instance(trace: Trace) -> None:
    assert by_length(trace.lengths, BATCH_TOKENS, instances=2) == by_length(
        trace.lengths, BATCH_TOKENS
    )


# What a batch costs.


def test_the_cost_of_measured_batches_is_found_again() -> None:
    true = Cost(0.003, 2e-5)
    fitted = Cost.fit(
        [(n * length, true(n, length)) for n in (1, 2, 4) for length in (60, 200, 384)]
    )
    assert fitted(3, 150) == pytest.approx(true(3, 150))


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(1e-6, 10)), min_size=1, max_size=20))
def test_a_fitted_cost_never_falls_and_is_never_free(measured: list[tuple[int, float]]) -> None:
    cost = Cost.fit(measured)
    assert cost.base_s >= 0
    assert cost.token_s > 0


# MultiStream.


def time_of(batches: list[list[int]], lengths: list[int], cost: Cost) -> float:
    return sum(cost(len(batch), max(lengths[i] for i in batch)) for batch in batches)


def every_cut(samples: int) -> list[list[range]]:
    """All ways to cut the numbers below `samples` into runs of neighbours."""
    places = range(1, samples)
    chosen = (cut for count in range(samples) for cut in combinations(places, count))
    return [[range(*ends) for ends in pairwise((0, *cut, samples))] for cut in chosen]


QUERIES = st.lists(st.integers(1, 384), min_size=1, max_size=8)


@given(QUERIES, COSTS, st.integers(1, 3000))
def test_no_other_cut_of_a_query_is_answered_sooner(
    lengths: list[int], cost: Cost, budget: int
) -> None:
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    cuts = [[[order[i] for i in part] for part in cut] for cut in every_cut(len(lengths))]
    within = [
        batches
        for batches in cuts
        if all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget for batch in batches)
    ]
    best = min(time_of(batches, lengths, cost) for batches in within)
    assert time_of(soonest(lengths, cost, budget), lengths, cost) == pytest.approx(best)


@given(QUERIES, COSTS, st.integers(1, 3000))
def test_every_sample_of_a_query_is_answered_once_longest_first_within_the_budget(
    lengths: list[int], cost: Cost, budget: int
) -> None:
    batches = soonest(lengths, cost, budget)
    flat = list(chain.from_iterable(batches))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget


def test_a_query_is_cut_where_padding_costs_more_than_another_batch() -> None:
    lengths = [40, 380, 42, 45, 384, 41, 44, 43]
    assert soonest(lengths, Cost(0.002, 0.00005)) == [[4, 1], [3, 6, 7, 2, 5, 0]]
    assert soonest(lengths, Cost(1.0, 0.00005), 8 * 384) == [[4, 1, 3, 6, 7, 2, 5, 0]]
    assert len(soonest(lengths, Cost(0.0, 0.00005))) == 8


def test_a_query_of_equal_samples_is_as_few_batches_as_the_budget_allows() -> None:
    assert soonest([192] * 8, DEVICE) == [list(range(8))]
    assert [len(batch) for batch in soonest([384] * 8, DEVICE)] == [4, 4]
    assert soonest([], DEVICE) == []


# Server.


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[int], list[float], Cost]:
    """What waits at time 1000: lengths and deadlines in the order of arrival, and the cost."""
    lengths = draw(LENGTHS)
    some = st.lists(st.floats(-0.5, 0.5), min_size=len(lengths), max_size=len(lengths))
    return lengths, sorted(1000 + left for left in draw(some)), draw(COSTS)


@given(queues(), st.integers(1, 3000))
def test_a_server_batch_holds_the_oldest_once_and_keeps_the_budget(
    queue: tuple[list[int], list[float], Cost], budget: int
) -> None:
    lengths, deadlines, cost = queue
    batch = next_batch(lengths, deadlines, 1000.0, cost, budget)
    assert batch[0] == 0
    assert batch == sorted(set(batch))
    assert batch[-1] < len(lengths)
    longest = max(lengths[position] for position in batch)
    assert len(batch) * longest <= budget or len(batch) == 1


@given(queues())
def test_a_server_batch_makes_no_sample_late_that_alone_would_be_in_time(
    queue: tuple[list[int], list[float], Cost],
) -> None:
    lengths, deadlines, cost = queue
    batch = next_batch(lengths, deadlines, 1000.0, cost)
    together = 1000.0 + cost(len(batch), max(lengths[position] for position in batch))
    for position in batch:
        alone = 1000.0 + cost(1, lengths[position])
        assert together <= deadlines[position] or alone > deadlines[position]


@given(queues())
def test_a_server_batch_costs_no_more_than_its_samples_one_by_one(
    queue: tuple[list[int], list[float], Cost],
) -> None:
    lengths, deadlines, cost = queue
    batch = next_batch(lengths, deadlines, 1000.0, cost)
    together = cost(len(batch), max(lengths[position] for position in batch))
    assert together <= sum(cost(1, lengths[position]) for position in batch) * (1 + 1e-9)


def test_equal_samples_that_have_time_go_together() -> None:
    assert next_batch([100] * 5, [2.0] * 5, 1.0, DEVICE) == [0, 1, 2, 3, 4]
    assert next_batch([100] * 50, [2.0] * 50, 1.0, DEVICE) == list(range(15))


def test_a_long_sample_does_not_stretch_short_ones() -> None:
    assert next_batch([30, 384, 32], [2.0] * 3, 1.0, DEVICE) == [0, 2]


def test_a_sample_whose_deadline_is_near_goes_alone() -> None:
    just = 1.0 + DEVICE(1, 100)
    assert next_batch([100, 100], [just, 2.0], 1.0, DEVICE) == [0]
    assert next_batch([100, 100], [just, 2.0], just, DEVICE) == [0, 1]  # too late for it anyway


def test_a_sample_that_joined_in_time_is_not_made_late_by_the_next_to_join() -> None:
    just = 1.0 + DEVICE(2, 100)
    assert next_batch([100] * 3, [0.9, just, 2.0], 1.0, DEVICE) == [0, 1]


def test_a_lone_query_takes_what_it_costs() -> None:
    assert simulate_server([5.0], [200], BOUND_S, DEVICE) == [pytest.approx(DEVICE(1, 200))]


def test_a_query_waits_for_the_one_before() -> None:
    latencies = simulate_server([0.0, 0.001], [200, 200], BOUND_S, DEVICE)
    assert latencies == pytest.approx([0.012, 0.023])


def test_of_two_instances_the_second_need_not_wait_for_the_first() -> None:
    long, short = DEVICE(1, 384), DEVICE(1, 30)
    both = [384, 30]
    assert simulate_server([5.0, 5.0], both, BOUND_S, DEVICE) == pytest.approx([long, long + short])
    for arrivals in ([5.0, 5.0], [5.0, 5.001], [0.0, 0.0]):
        latencies = simulate_server(arrivals, both, BOUND_S, DEVICE, instances=2)
        assert latencies == pytest.approx([long, short])


def test_a_third_query_goes_to_the_instance_that_is_free_first() -> None:
    # The budget has no room for two of them in a batch.
    latencies = simulate_server(
        [0.0, 0.001, 0.002], [384, 100, 300], BOUND_S, DEVICE, budget=1, instances=2
    )
    waited = 0.001 + DEVICE(1, 100) - 0.002
    assert latencies == pytest.approx([DEVICE(1, 384), DEVICE(1, 100), waited + DEVICE(1, 300)])


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 384)), min_size=1, max_size=40),
    COSTS,
    st.integers(1, 4),
)
def test_no_query_is_answered_before_it_can_be(
    queries: list[tuple[int, int]], cost: Cost, instances: int
) -> None:
    arrivals = sorted(5 + tick / 100 for tick, _ in queries)  # several at a time, too
    lengths = [length for _, length in queries]
    latencies = simulate_server(arrivals, lengths, BOUND_S, cost, instances=instances)
    for latency, length in zip(latencies, lengths, strict=True):
        assert latency >= cost(1, length) - 1e-9


def test_the_tail_is_shorter_with_more_instances(trace: Trace) -> None:
    arrivals = trace.faster(4)
    tails = [
        float(np.quantile(simulate_server(arrivals, trace.lengths, BOUND_S, DEVICE, 384, n), 0.99))
        for n in (1, 2, 4)
    ]
    assert tails == sorted(tails, reverse=True)
    assert tails[0] > 2 * tails[1]


def p99(trace: Trace, times: float) -> float:
    latencies = simulate_server(trace.faster(times), trace.lengths, BOUND_S, DEVICE)
    return float(np.quantile(latencies, 0.99))


@pytest.mark.parametrize("times", [1, 10])
def test_every_query_of_a_recorded_trace_is_answered_exactly_once(
    trace: Trace, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def counted(*queue: object) -> list[int]:
        batch = next_batch(*queue)  # type: ignore[arg-type]
        sizes.append(len(batch))
        return batch

    monkeypatch.setattr(batching, "next_batch", counted)
    latencies = simulate_server(trace.faster(times), trace.lengths, BOUND_S, DEVICE)
    assert sum(sizes) == len(latencies) == 300
    for latency, length in zip(latencies, trace.lengths, strict=True):
        assert latency >= DEVICE(1, length) - 1e-9


def test_a_recorded_trace_keeps_the_bound_at_its_own_rate(trace: Trace) -> None:
    assert p99(trace, 1) <= BOUND_S


def test_the_tail_grows_with_the_rate(trace: Trace) -> None:
    tails = [p99(trace, times) for times in (0.1, 0.5, 1, 2, 4, 10)]
    assert tails == sorted(tails)
    assert tails[-1] > BOUND_S > tails[0]


def test_batches_form_as_the_rate_rises(trace: Trace) -> None:
    def mean_batch(times: float) -> float:
        arrivals = trace.faster(times)
        latencies = simulate_server(arrivals, trace.lengths, BOUND_S, DEVICE)
        ends = {round(a + s, 6) for a, s in zip(arrivals, latencies, strict=True)}
        return len(arrivals) / len(ends)

    assert mean_batch(1) < 1.2
    assert mean_batch(10) > 4


# The rate that is asked for.


def test_the_sustainable_rate_keeps_the_bound_on_a_recorded_trace(trace: Trace) -> None:
    rate = sustainable_rate(trace.lengths, BOUND_S, DEVICE)
    assert rate is not None
    assert p99(trace, rate / 30) <= BOUND_S


def test_a_faster_device_or_a_wider_bound_sustains_more(trace: Trace) -> None:
    slow = sustainable_rate(trace.lengths, BOUND_S, DEVICE)
    fast = sustainable_rate(trace.lengths, BOUND_S, Cost(0.001, 0.00002))
    patient = sustainable_rate(trace.lengths, 2 * BOUND_S, DEVICE)
    assert slow is not None
    assert fast is not None
    assert patient is not None
    assert fast > slow
    assert patient > slow
    assert sustainable_rate(trace.lengths, BOUND_S, DEVICE) == slow


def test_more_instances_sustain_more() -> None:
    def rate(instances: int) -> float:
        found = sustainable_rate([100, 200, 300], BOUND_S, DEVICE, 384, instances)
        assert found is not None
        return found

    assert rate(1) * 1.8 < rate(2) < rate(4) / 1.8


def test_larger_batches_sustain_more_where_a_batch_costs_more_than_its_tokens() -> None:
    cost = Cost(0.005, 1e-6)
    alone = sustainable_rate([300], BOUND_S, cost, 384)
    together = sustainable_rate([300], BOUND_S, cost, 3000)
    assert alone is not None
    assert together is not None
    assert together > 3 * alone


def test_a_lower_percentile_sustains_more(trace: Trace) -> None:
    strict = sustainable_rate(trace.lengths, BOUND_S, DEVICE, percentile=0.99)
    lenient = sustainable_rate(trace.lengths, BOUND_S, DEVICE, percentile=0.9)
    assert strict is not None
    assert lenient is not None
    assert lenient > strict


def test_no_rate_is_named_where_one_query_takes_longer_than_the_bound() -> None:
    assert sustainable_rate([384, 300], BOUND_S, Cost(0.0, 0.001)) is None


def test_a_device_that_is_fast_for_its_bound_gets_the_rate_that_it_can_really_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = iter(range(40))

    def counted(*given: object) -> list[float]:
        assert next(tries, None) is not None, "there is no end to it"
        return simulate_server(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(batching, "simulate_server", counted)
    cost = Cost(0.0, 5e-5)  # a query of one token in 50 us: 20,000 a second, whatever the batch
    rate = sustainable_rate([1], 1.0, cost)
    assert rate is not None
    assert 10_000 < rate <= 20_000


@pytest.mark.parametrize(
    "seconds",
    [
        3e-3,
        1e-3,
        3e-4,
    ],
)
def test_a_probed_rate_is_never_more_than_the_device_can_do(seconds: float) -> None:
    # Without a base cost batches gain nothing, so this many a second is all there is.
    most = 1 / seconds
    rate = sustainable_rate([100] * 50, 0.13, Cost(0.0, seconds / 100))
    assert rate is not None
    assert 0.5 * most < rate < most


def test_the_search_for_a_rate_ends_on_a_fast_device_too() -> None:
    code = (
        "from bertsquad.loadgen.batching import Cost, sustainable_rate\n"
        "print(sustainable_rate([100] * 50, 0.13, Cost(0.0, 5e-7)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert 0 < float(done.stdout) < 20_000
