"""Every batch is answered once, whatever dies: real LoadGen runs in front of unreliable nodes."""

import contextlib
import itertools
import multiprocessing
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from unreliable import ANSWER, ANSWER_TWICE, DIE, DIE_AND_ANSWER, DIE_LAST, RAISE, Calculate, Nodes

from bertsquad.cluster.dispatch import Dispatcher, Member
from bertsquad.cluster.facts import Loss
from bertsquad.loadgen import logs
from bertsquad.loadgen.batching import Cost
from bertsquad.loadgen.request import Request, Targets
from bertsquad.loadgen.run import settings_for, start
from bertsquad.loadgen.timeline import Share
from bertsquad.models.preparation import Prepared
from bertsquad.runtime.inference import Answer, Work
from bertsquad.runtime.parallelism import ONE
from bertsquad.squad import features
from bertsquad.squad.features import Inputs

#: What a node does with its nth call, by (node, nth); it answers all others.
Fates = Mapping[tuple[int, int], str]

SCENARIOS = ("offline", "server")


@dataclass(frozen=True)
class Ran:
    """What is left of a run: what LoadGen was told and logged, and what became of the nodes."""

    responses: Counter[int]  # to each query of LoadGen, by its id
    logged: dict[int, bytes]
    error: str
    kind: str
    losses: list[Loss]
    alive: list[int]
    shares: list[Share]
    calls: list[list[int]]
    most_open: list[int]


def run(
    folder: Path,
    scenario: str,
    mode: str = "accuracy",
    fates: Fates | None = None,
    instances: Sequence[int] = (1, 1),
    seconds: Sequence[float] = (),
    queries: int = 100,
    runs: int = 1,
    real: bool = False,
) -> Ran:
    """The last of some runs on the same nodes; in the process pool, since it loads LoadGen.

    With `real` a model answers, whose logits may depend on what else is in a batch.
    """
    import mlperf_loadgen as lg

    from bertsquad.loadgen.sut import OfflineSut, ServerSut, Sut

    built = features.load(folder / "tiny.npz")
    if real:
        from bertsquad.devices import DEVICES
        from bertsquad.runtime.engine import Engine

        file = tiny.model(folder / "tiny.onnx")
        prepared = Prepared(file, tiny.inspect(file))
        calculate: Calculate = Engine(prepared, DEVICES["cpu"], "fp32", ONE).infer
    else:
        known = tiny.answers(built)

        def calculate(_: Inputs, samples: Sequence[int], instance: int = 0) -> Any:
            return [known[sample] for sample in samples]

    nodes = Nodes(
        calculate,
        instances,
        lambda node, nth: (fates or {}).get((node, nth), ANSWER),
        seconds,
        batch_tokens=400,
    )
    responses: Counter[int] = Counter()
    complete = lg.QuerySamplesComplete

    def counting(given: Sequence[Any]) -> None:
        responses.update(response.id for response in given)
        complete(given)

    lg.QuerySamplesComplete = counting
    error: BaseException | None = None
    try:
        for _ in range(runs):
            responses.clear()
            sut: Sut = (
                OfflineSut(nodes, built, lambda _: None)
                if scenario == "offline"
                else ServerSut(nodes, built, lambda _: None, Cost(0.0, 1e-6), 10.0)
            )
            request = Request(scenario, mode, "quick", str(folder), len(built))
            targets = Targets(5000.0, 10_000.0, "probe") if mode == "performance" else None
            asked = settings_for(request, targets)
            asked.min_duration_ms, asked.min_query_count = 0, queries
            try:
                start(sut, asked, request)
            except Exception as failed:
                error = failed
    finally:
        lg.QuerySamplesComplete = complete
        nodes.close()
    logged = logs.read_accuracy_log(folder) if mode == "accuracy" and error is None else {}
    return Ran(
        responses,
        {sample: one.tobytes() for sample, one in logged.items()},
        str(error or ""),
        type(error).__name__,
        nodes.dispatcher.losses,
        nodes.dispatcher.alive,
        sut.timeline.by_node(len(instances)),
        nodes.calls,
        nodes.most_open,
    )


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("runs")
    features.save(tiny.build_features(folder), folder / "tiny.npz")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # ended at last, even if it hangs

        def one(scenario: str, mode: str = "accuracy", **others: Any) -> Ran:
            return pool.apply_async(run, (folder, scenario, mode), others).get(timeout=60)

        yield one


def check_whole(found: Ran, unbroken: Ran) -> None:
    """Each query has one response, and what was logged is what an unbroken run logs."""
    assert found.error == ""
    assert found.logged == unbroken.logged
    assert set(found.responses.values()) == {1}
    assert sum(share.samples for share in found.shares) == len(found.responses)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fate", [DIE, DIE_AND_ANSWER, ANSWER_TWICE])
@pytest.mark.parametrize("nth", [0, 3])
def test_a_node_that_dies_or_repeats_itself_changes_no_answer(
    ran: Run, scenario: str, fate: str, nth: int
) -> None:
    unbroken = ran(scenario)
    assert len(unbroken.logged) == 30
    found = ran(scenario, fates={(1, nth): fate})
    check_whole(found, unbroken)
    if fate != ANSWER_TWICE and len(found.calls[1]) > nth:
        (loss,) = found.losses
        assert (loss.node, loss.cause) == ("10.0.0.1", "its process was killed")
        assert 0 <= loss.second < 60
        assert found.alive == [0]


fates = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(0, 5)),
    st.sampled_from([DIE, DIE_AND_ANSWER, ANSWER_TWICE]),
)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mode", ["accuracy", "performance"])
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(fates=fates, instances=st.lists(st.integers(1, 2), min_size=4, max_size=4))
def test_each_query_has_one_response_whatever_dies(
    ran: Run, scenario: str, mode: str, fates: Fates, instances: list[int]
) -> None:
    """The last of the four nodes always lives."""
    found = ran(scenario, mode, fates=fates, instances=instances)
    unbroken = ran(scenario, mode) if mode == "accuracy" else found
    check_whole(found, unbroken)
    dead = {node for (node, nth), fate in fates.items() if fate != ANSWER_TWICE}
    lost = [int(loss.node[-1]) for loss in found.losses]
    assert set(lost) <= dead
    assert sorted(found.alive + lost) == [0, 1, 2, 3]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mode", ["accuracy", "performance"])
def test_a_run_that_has_lost_all_nodes_names_each_and_leaves_no_query_open(
    ran: Run, scenario: str, mode: str
) -> None:
    # LoadGen goes on issuing queries, slowly, so it should have few.
    found = ran(scenario, mode, fates={(0, 1): DIE, (1, 0): DIE_AND_ANSWER}, queries=10)
    assert found.kind == "NoNodeLeft"
    for node in (r"10\.0\.0\.0", r"10\.0\.0\.1"):
        told = rf"node {node} was lost \d+\.\d s after the start: its process was killed"
        assert re.search(told, found.error)
    assert found.alive == []
    assert set(found.responses.values()) == {1}
    # Nor does the next run wait for anybody.
    again = ran(scenario, mode, fates={(0, 1): DIE, (1, 0): DIE}, queries=10, runs=2)
    assert again.kind == "NoNodeLeft"
    assert set(again.responses.values()) == {1}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_last_batches_are_answered_elsewhere_where_everybody_waits_for_them(
    ran: Run, scenario: str
) -> None:
    found = ran(scenario, fates={(1, 0): DIE_LAST})
    check_whole(found, ran(scenario))
    assert [loss.node for loss in found.losses] == ["10.0.0.1"]
    assert found.shares[1].samples == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_after_a_loss_has_the_nodes_that_are_left(ran: Run, scenario: str) -> None:
    found = ran(scenario, fates={(0, 0): DIE_AND_ANSWER}, runs=2)
    check_whole(found, ran(scenario))
    assert found.alive == [1]
    assert len(found.losses) == 1
    assert found.shares[0].samples == 0


def test_a_models_answers_are_bit_equal_wherever_they_are_calculated(ran: Run) -> None:
    unbroken = ran("offline", real=True)
    for fates in ({(0, 2): DIE_LAST}, {(1, 0): DIE_AND_ANSWER}, {(0, 0): ANSWER_TWICE}):
        check_whole(ran("offline", real=True, fates=fates), unbroken)


def test_batches_of_one_call_are_told_apart_by_what_each_took(ran: Run) -> None:
    found = ran("offline", "performance", seconds=(0.001, 0.002), queries=600)
    assert max(map(max, found.calls)) > 1
    for share, calls, seconds in zip(found.shares, found.calls, (0.001, 0.002), strict=True):
        assert share.busy_s == pytest.approx(sum(calls) * seconds)


def test_in_server_each_instance_has_one_batch_at_a_time(ran: Run) -> None:
    found = ran("server", "performance", instances=(1, 2), seconds=(0.001, 0.001), queries=200)
    check_whole(found, found)
    assert set(itertools.chain(*found.calls)) == {1}
    assert found.most_open == [1, 2]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_error_on_a_node_ends_the_run_at_once_and_names_the_node(
    ran: Run, scenario: str
) -> None:
    found = ran(scenario, fates={(1, 0): RAISE})
    assert found.error == "node 10.0.0.1: ValueError: the model has no such token"
    assert set(found.responses.values()) == {1}
    assert len(found.responses) == 30
    assert found.losses == []
    assert sum(map(len, found.calls)) < 30


class Batches:
    """A Source of so many batches of one sample, which notes what becomes of each."""

    in_flight = 2

    def __init__(self, count: int) -> None:
        self.left = deque(Work((sample,)) for sample in range(count))
        self.answers: list[tuple[int, int]] = []  # the sample, and the node that had it
        self.error: BaseException | None = None
        self._count = count
        self._changed = threading.Condition()

    def take(self) -> Work | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self.left or self.error or len(self.answers) == self._count
            )
            return self.left.popleft() if self.left and self.error is None else None

    def more(self, most: int) -> list[Work]:
        with self._changed:
            return [self.left.popleft() for _ in range(min(most, len(self.left)))]

    def waiting(self) -> int:
        return len(self.left)

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        with self._changed:
            self.answers += [(int(answer.logits[0][0, 0]), node) for answer in answers]
            self._changed.notify_all()

    def put_back(self, works: Sequence[Work]) -> None:
        with self._changed:
            self.left.extendleft(works)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    @property
    def answered(self) -> list[int]:
        return sorted(sample for sample, _ in self.answers)


#: Windows of one token each.
WINDOWS = Inputs(np.arange(50, dtype=np.int32), np.arange(51), np.ones(50, np.int32))


def numbered(_: Inputs, samples: Sequence[int], instance: int) -> list[NDArray[np.float32]]:
    """Logits that tell which sample they are of."""
    return [np.full((1, 2), sample, np.float32) for sample in samples]


@contextlib.contextmanager
def made(
    calculate: Callable[..., Any] = numbered, fates: Fates | None = None, **others: Any
) -> Iterator[Nodes]:
    nodes = Nodes(
        calculate, fate=lambda node, nth: (fates or {}).get((node, nth), ANSWER), **others
    )
    try:
        yield nodes
    finally:
        nodes.close()


def test_ctrl_c_ends_a_run_and_the_next_one_is_whole() -> None:
    interrupted = threading.Event()

    def interrupting(_: Inputs, samples: Sequence[int], instance: int) -> Any:
        if not interrupted.is_set():
            interrupted.set()
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.001)
        return numbered(_, samples, instance)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with made(interrupting) as nodes:
            threads = threading.active_count()
            with pytest.raises(KeyboardInterrupt):
                nodes.spread(WINDOWS, Batches(50))
            assert threading.active_count() == threads
            whole = Batches(50)
            nodes.spread(WINDOWS, whole)
            assert whole.answered == list(range(50))
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_belongs_to_a_run_before_is_no_answer_of_this_one() -> None:
    release = threading.Event()

    def late(_: Inputs, samples: Sequence[int], instance: int) -> Any:
        if not release.is_set() and 0 in samples:
            release.wait(20)
            return [np.full((1, 2), -1, np.float32)]
        return numbered(_, samples, instance)

    # The first run fails on node 1 while node 0 still calculates.
    with made(late, fates={(1, 0): RAISE}) as nodes:
        first, second = Batches(10), Batches(20)
        nodes.spread(WINDOWS, first)
        assert str(first.error) == "node 10.0.0.1: ValueError: the model has no such token"
        release.set()
        nodes.spread(WINDOWS, second)
        assert second.answered == list(range(20))
        assert second.error is None


def test_a_loss_between_two_runs_is_known_before_the_next() -> None:
    with made() as nodes:
        nodes.spread(WINDOWS, Batches(10))
        nodes.dispatcher.lost(0, "its host was switched off")
        nodes.dispatcher.lost(0, "and it is told twice")
        assert (nodes.dispatcher.alive, nodes.instances) == ([1], 1)
        assert [loss.cause for loss in nodes.dispatcher.losses] == ["its host was switched off"]
        whole = Batches(10)
        nodes.spread(WINDOWS, whole)
        assert whole.answered == list(range(10))
        assert {node for _, node in whole.answers} == {1}


def test_what_is_wrong_with_an_answer_fails_the_run_and_hangs_nothing() -> None:
    def too_few(_: Inputs, samples: Sequence[int], instance: int) -> Any:
        return []

    source = Batches(10)
    with made(too_few) as nodes:
        nodes.spread(WINDOWS, source)
    assert isinstance(source.error, IndexError)


def test_what_cant_be_sent_is_raised() -> None:
    def send(node: int, call: int, works: Sequence[Work]) -> None:
        raise TypeError("cannot be pickled")

    dispatcher = Dispatcher([Member("10.0.0.1", 1)])
    with pytest.raises(TypeError, match="pickled"):
        dispatcher.run(Batches(3), WINDOWS.lengths, send)


def test_the_faster_of_two_nodes_does_its_part() -> None:
    source = Batches(50)
    with made(seconds=[0.005, 0.05]) as nodes:
        nodes.spread(WINDOWS, source)
    share = Counter(node for _, node in source.answers)
    assert share[0] > share[1] > 0
