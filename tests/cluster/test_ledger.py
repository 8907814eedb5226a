"""Which node gets what, whatever dies: the ledger by itself, and in simulated runs."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bertsquad.cluster.ledger import SHORT_S, Ledger, smoothed
from bertsquad.runtime.inference import Work

TOKENS = 1000


def works(count: int) -> deque[Work]:
    return deque(Work((number,)) for number in range(count))


class Unreliable(RuleBasedStateMachine):
    """Any order of giving, answering, answering again, and dying."""

    @initialize(
        instances=st.lists(st.integers(1, 3), min_size=1, max_size=4),
        count=st.integers(0, 12),
        in_flight=st.sampled_from([1, 2]),
    )
    def begin(self, instances: list[int], count: int, in_flight: int) -> None:
        self.ledger = Ledger(instances)
        self.instances = instances
        self.in_flight = in_flight
        self.count = count
        self.waiting = works(count)
        self.open: dict[int, tuple[int, list[Work]]] = {}
        self.void: list[int] = []  # calls that nobody waits for
        self.done: list[Work] = []

    def choose(self) -> int | None:
        return self.ledger.choose(TOKENS, len(self.waiting) - 1, self.in_flight)

    @precondition(lambda self: self.waiting)
    @rule()
    def give(self) -> None:
        node = self.choose()
        if node is None:
            return
        assert node in self.ledger.alive
        left = len(self.waiting) - 1
        count = self.ledger.portion(node, TOKENS, left, self.in_flight)
        assert 1 <= count <= len(self.waiting)
        batches = [self.waiting.popleft() for _ in range(count)]
        call = self.ledger.given(node, batches, TOKENS * count)
        assert call not in {*self.open, *self.void}
        self.open[call] = node, batches

    @precondition(lambda self: self.open)
    @rule(data=st.data(), seconds=st.floats(0, 1))
    def answer(self, data: st.DataObject, seconds: float) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        node, batches = self.open.pop(number)
        call = self.ledger.answered(number, seconds)
        assert call is not None
        assert (call.node, list(call.works)) == (node, batches)
        self.done += batches
        self.void.append(number)

    @precondition(lambda self: self.void)
    @rule(data=st.data())
    def answer_late_or_again(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.void))
        assert self.ledger.answered(number, 1.0) is None
        assert self.ledger.failed(number) is None

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        node = data.draw(st.integers(0, len(self.instances) - 1))
        was_alive = node in self.ledger.alive
        back = self.ledger.lost(node)
        had = [number for number, (owner, _) in self.open.items() if owner == node]
        assert (back is not None) == was_alive
        if back is not None:
            assert back == [work for number in had for work in self.open[number][1]]
            self.waiting.extendleft(reversed(back))
        for number in had:
            del self.open[number]
            self.void.append(number)
        assert node not in self.ledger.alive

    @rule()
    def end_the_run(self) -> None:
        self.ledger.forget()
        for number, (_, forgotten) in self.open.items():
            self.void.append(number)
            self.done += forgotten
        self.open.clear()

    @invariant()
    def every_batch_is_somewhere_once(self) -> None:
        held = [work for _, batches in self.open.values() for work in batches]
        everything = sorted(work.samples[0] for work in [*held, *self.waiting, *self.done])
        assert everything == list(range(self.count))

    @invariant()
    def no_instance_has_more_than_it_may(self) -> None:
        for node, instances in enumerate(self.instances):
            calls = sum(owner == node for owner, _ in self.open.values())
            assert calls <= instances * self.in_flight

    @invariant()
    def somebody_can_go_on(self) -> None:
        """There is always a node that gets the next batch, or an answer to wait for."""
        if self.waiting and self.ledger.alive:
            assert self.open or self.choose() is not None


TestUnreliable = Unreliable.TestCase
TestUnreliable.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@dataclass
class Simulated:
    """What came of a run: when it ended, the batches of each node, and of each call."""

    ended_s: float
    batches: list[int]
    calls: list[int]


def simulate(
    count: int, batch_s: Sequence[float], instances: int = 1, in_flight: int = 2
) -> Simulated:
    """A run of `count` batches; a node's instance takes `batch_s` for one, whatever it was given.

    Nothing is lost on the way and nothing takes time but calculating.
    """
    ledger = Ledger([instances] * len(batch_s))
    left = works(count)
    free = [[0.0] * instances for _ in batch_s]  # when each instance is done
    events: list[tuple[float, int, int, float]] = []
    found = Simulated(0.0, [0] * len(batch_s), [])
    now = 0.0
    while left or events:
        while left and ledger.has_room(in_flight):
            node = ledger.choose(TOKENS, len(left) - 1, in_flight)
            if node is None:
                break
            size = ledger.portion(node, TOKENS, len(left) - 1, in_flight)
            call = ledger.given(node, [left.popleft() for _ in range(size)], size * TOKENS)
            start = max(now, heapq.heappop(free[node]))
            end = start + size * batch_s[node]
            heapq.heappush(free[node], end)
            heapq.heappush(events, (end, node, call, size * batch_s[node]))
            found.calls.append(size)
            found.batches[node] += size
        now, node, call, seconds = heapq.heappop(events)
        ledger.answered(call, seconds)
    found.ended_s = now
    return found


def ideal_s(count: int, batch_s: Sequence[float], instances: int = 1) -> float:
    return count / sum(instances / one for one in batch_s)


@pytest.mark.parametrize("batch_s", [0.3, 0.004])
@pytest.mark.parametrize("slower", [1, 1.3, 2, 5, 20])
@pytest.mark.parametrize("instances", [1, 4])
def test_nodes_of_unlike_speed_end_together(batch_s: float, slower: float, instances: int) -> None:
    speeds = (batch_s, batch_s * slower)
    count = int((60 if batch_s > SHORT_S else 20) * instances / batch_s)
    found = simulate(count, speeds, instances)
    assert sum(found.batches) == count
    assert ideal_s(count, speeds, instances) / found.ended_s >= 0.97


@given(
    st.lists(st.sampled_from([0.05, 0.06, 0.1, 0.25]), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(0, 60),
)
def test_a_run_ends_at_most_a_batch_or_two_later_than_it_could(
    batch_s: list[float], instances: int, count: int
) -> None:
    found = simulate(count, batch_s, instances)
    assert found.ended_s <= ideal_s(count, batch_s, instances) + 2 * max(batch_s)


@pytest.mark.parametrize(
    ("batch_s", "most"), [(0.001, 500), (0.01, 50), (0.049, 10), (0.05, 1), (0.5, 1)]
)
def test_short_batches_share_calls_of_about_half_a_second(batch_s: float, most: int) -> None:
    found = simulate(int(40 / batch_s), [batch_s] * 2)
    assert max(found.calls) == pytest.approx(most, abs=1)
    assert found.calls[-1] == 1  # smaller and smaller, so that none waits for the other
    falling = found.calls[-20:]
    assert falling == sorted(falling, reverse=True)


def test_in_server_a_call_is_one_batch_and_an_instance_has_one() -> None:
    ledger = Ledger([1, 2])
    calls = []
    for _ in range(3):
        node = ledger.choose(TOKENS, 5, 1)
        assert node is not None
        assert ledger.portion(node, TOKENS, 1000, 1) == 1
        calls.append((node, ledger.given(node, works(1), TOKENS)))
    assert sorted(node for node, _ in calls) == [0, 1, 1]
    assert not ledger.has_room(1)
    assert ledger.choose(TOKENS, 5, 1) is None
    assert ledger.answered(calls[0][1], 0.001) is not None
    assert ledger.portion(calls[0][0], TOKENS, 1000, 1) == 1  # however short a batch is


def test_a_batch_goes_to_the_node_with_the_least_to_do_for_each_instance() -> None:
    ledger = Ledger([1, 4])
    order = []
    for _ in range(10):
        node = ledger.choose(TOKENS, 100, 2)
        assert node is not None
        ledger.given(node, works(1), TOKENS)
        order.append(node)
    assert sorted(order[:5]) == [0, 1, 1, 1, 1]
    assert sorted(order) == [0, 0, *[1] * 8]


@given(st.lists(st.floats(1e-6, 1e-3), min_size=1, max_size=30))
def test_a_nodes_speed_lies_between_what_was_measured(measured: list[float]) -> None:
    speed = None
    for newest in measured:
        speed = smoothed(speed, newest)
    assert speed is not None
    assert min(measured) * 0.999 <= speed <= max(measured) * 1.001


def test_a_nodes_speed_follows_what_it_does_now() -> None:
    speed = None
    for newest in [1e-4] * 20 + [3e-4] * 20:
        speed = smoothed(speed, newest)
    assert speed == pytest.approx(3e-4, rel=0.02)


def test_an_answer_in_no_time_is_no_infinite_speed() -> None:
    ledger = Ledger([1, 1])
    for _ in range(3):
        node = ledger.choose(TOKENS, 3, 2)
        assert node is not None
        ledger.answered(ledger.given(node, works(1), TOKENS), 0.0)
    assert ledger.choose(TOKENS, 3, 2) is not None


def test_calls_are_numbered_through_all_runs() -> None:
    ledger = Ledger([2])
    numbers = []
    for _ in range(3):
        numbers.append(ledger.given(0, works(1), TOKENS))
        ledger.forget()
    assert len(set(numbers)) == 3
