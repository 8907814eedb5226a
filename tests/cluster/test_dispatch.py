"""Every batch is answered once, whatever dies: real LoadGen runs in front of unreliable nodes."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unreliable import ANSWER, ANSWER_TWICE, DIE, DIE_AND_ANSWER, RAISE, Nodes

from bertsquad.cluster.facts import Loss
from bertsquad.loadgen import logs
from bertsquad.loadgen.batching import Cost
from bertsquad.loadgen.request import Request, Targets
from bertsquad.loadgen.run import settings_for, start
from bertsquad.loadgen.timeline import Share
from bertsquad.squad import features

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


def run(
    folder: Path,
    scenario: str,
    mode: str = "accuracy",
    fates: Fates | None = None,
    instances: Sequence[int] = (1, 1),
    budget: int = 400,
    queries: int = 100,
    runs: int = 1,
) -> Ran:
    """The last of some runs on the same nodes; in the process pool, since it loads LoadGen."""
    import mlperf_loadgen as lg

    from bertsquad.loadgen.sut import OfflineSut, ServerSut, Sut

    built = features.load(folder / "tiny.npz")
    known = tiny.answers(built)
    nodes = Nodes(
        lambda _, samples, instance: [known[sample] for sample in samples],
        instances,
        lambda node, nth: (fates or {}).get((node, nth), ANSWER),
        batch_tokens=budget,
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
    )


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as made:
        yield made


@pytest.fixture(scope="module")
def ran(pool: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    features.save(tiny.build_features(folder), folder / "tiny.npz")

    def one(scenario: str, mode: str = "accuracy", **others: Any) -> Ran:
        return pool.submit(partial(run, folder, scenario, mode, **others)).result(timeout=60)

    return one


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
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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
    for node in ("node 10.0.0.0", "node 10.0.0.1"):
        assert f"{node} was lost 0.0 s after the start: its process was killed" in found.error
    assert found.alive == []
    assert set(found.responses.values()) == {1}
    # Nor does the next run wait for anybody.
    again = ran(scenario, mode, fates={(0, 1): DIE, (1, 0): DIE}, queries=10, runs=2)
    assert again.kind == "NoNodeLeft"
    assert again.losses == []
    assert set(again.responses.values()) == {1}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_after_a_loss_has_the_nodes_that_are_left_and_no_loss(
    ran: Run, scenario: str
) -> None:
    found = ran(scenario, fates={(0, 0): DIE_AND_ANSWER}, runs=2)
    check_whole(found, ran(scenario))
    assert (found.losses, found.alive) == ([], [1])
    assert found.shares[0].samples == 0


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
