"""Nodes die in the middle of real runs: every response comes once, and nothing passes for whole."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import workers
from losing import LOST, fall_silent, kill_actor, kill_all, kill_raylet, processes
from workers import Begun

from bertsquad.cluster.local import LocalCluster
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.models.zoo import MODELS, locate
from bertsquad.progress import Step
from bertsquad.worker.protocol import Failing, Measured

pytestmark = pytest.mark.cluster

#: The first is quick to notice, so it isn't slow to test.
LOSSES = [
    kill_actor,
    *(pytest.param(one, marks=pytest.mark.slow) for one in (kill_raylet, kill_all, fall_silent)),
]


@pytest.fixture
def nodes() -> Iterator[LocalCluster]:
    with LocalCluster(2) as started:
        yield started


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The accuracy log of a run in which nothing was lost, on this machine alone."""
    begun = start(tmp_path_factory.mktemp("unbroken"), None)
    folder = Path(begun.request("offline", "accuracy", instances=2).folder)
    begun.accuracy("offline", instances=2)
    begun.worker.close()
    return sorted_log(folder)


def sorted_log(folder: Path) -> bytes:
    """What was answered to each sample, in the order of the samples."""
    found = logs.read_accuracy_log(folder)
    return b"".join(found[sample].tobytes() for sample in sorted(found))


def start(folder: Path, cluster: LocalCluster | None) -> Begun:
    membership = None
    if cluster is not None:
        # However many cores there are, so that the batches are the same and a run lasts seconds.
        membership = cluster.membership(instances=1, threads=1)
    files = locate(MODELS["minilm"])
    return workers.start(folder, Path(files.path), 100, cluster=membership)


def run_and_lose(
    begun: Begun,
    nodes: LocalCluster,
    mode: str,
    lose: Callable[[Path], None],
    scenario: str = "offline",
    **given: Any,
) -> Measured:
    """Run a case, and lose a node once some samples are answered."""
    lost = threading.Event()

    def watch(message: Step | Failing) -> None:
        running = isinstance(message, Step) and message.name == "running" and message.done
        if running and not lost.is_set():
            lost.set()
            lose(Path(nodes.token_file).parent)

    request = begun.request(scenario, mode, **given)
    measured = begun.worker.run(request, 120, watch)
    assert lost.is_set()
    return measured


@pytest.mark.parametrize("lose", LOSSES)
def test_an_accuracy_run_that_loses_a_node_answers_as_if_nothing_were(
    lose: Callable[[Path], None], nodes: LocalCluster, tmp_path: Path, unbroken: bytes
) -> None:
    begun = start(tmp_path, nodes)
    try:
        measured = run_and_lose(begun, nodes, "accuracy", lose)
    finally:
        begun.worker.close()

    (loss,) = measured.nodes_lost
    assert loss.node == LOST and loss.second > 0 and loss.cause
    assert [one.node for one in measured.nodes] == ["127.0.0.2", LOST]
    folder = Path(begun.request("offline", "accuracy").folder)
    entries = logs.read_accuracy_log(folder)
    assert sorted(entries) == list(range(len(begun.features)))
    assert sorted_log(folder) == unbroken
    run = logs.read_run(folder)
    assert not run.errors


@pytest.mark.slow
@pytest.mark.parametrize("lose", [kill_actor, fall_silent])
def test_a_performance_run_goes_on_and_tells_which_node_it_lost(
    lose: Callable[[Path], None], nodes: LocalCluster, tmp_path: Path
) -> None:
    begun = start(tmp_path, nodes)
    try:
        measured = run_and_lose(
            begun, nodes, "performance", lose, target_qps=20.0, min_duration_s=8.0
        )
        again = begun.worker.run(begun.request("offline", "accuracy"), 120)
    finally:
        begun.worker.close()

    (loss,) = measured.nodes_lost
    assert loss.node == LOST
    assert sum(one.samples for one in measured.nodes) > len(begun.features)
    assert again.nodes_lost == []


@pytest.mark.slow
@pytest.mark.parametrize("lose", [kill_actor, kill_all])
def test_server_answers_every_query_though_it_loses_a_node(
    lose: Callable[[Path], None], nodes: LocalCluster, tmp_path: Path
) -> None:
    begun = start(tmp_path, nodes)
    try:
        given = {"target_qps": 8.0, "min_duration_s": 8.0, "target_latency_ms": 60_000.0}
        measured = run_and_lose(begun, nodes, "performance", lose, "server", **given)
    finally:
        begun.worker.close()

    run = logs.read_run(Path(begun.request("server", "performance").folder))
    assert [one.node for one in measured.nodes_lost] == [LOST]
    assert sum(one.samples for one in measured.nodes) == run.values["result_query_count"]
    assert not run.errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_its_head_a_run_ends_in_a_sentence(
    number: signal.Signals, nodes: LocalCluster, tmp_path: Path
) -> None:
    def lose_the_head(root: Path) -> None:
        for pid in processes(root, "127.0.0.2", "gcs_server"):
            os.kill(pid, number)

    begun = start(tmp_path, nodes)
    try:
        given: dict[str, Any] = {"target_qps": 20.0, "min_duration_s": 60.0}
        with pytest.raises(SuiteError, match=r"head of the cluster|no node of the cluster is left"):
            run_and_lose(begun, nodes, "performance", lose_the_head, **given)
    finally:
        begun.worker.close()


@pytest.mark.slow
def test_a_node_that_fell_silent_between_two_runs_is_named_and_left_out(
    nodes: LocalCluster, tmp_path: Path
) -> None:
    begun = start(tmp_path, nodes)
    try:
        begun.accuracy("offline")
        fall_silent(Path(nodes.token_file).parent)
        with pytest.raises(SuiteError, match=rf"node {LOST} was lost outside of a run: it"):
            begun.worker.run(begun.request("server", "accuracy"), 60)
        again = begun.worker.run(begun.request("offline", "accuracy", "again"), 50)
    finally:
        begun.worker.close()

    assert [one.node for one in again.nodes] == ["127.0.0.2"]


def test_a_node_is_whole_again_after_a_run_that_failed_on_it(
    nodes: LocalCluster, tmp_path: Path
) -> None:
    membership = nodes.membership()
    model = tiny.model(tmp_path / "a.onnx", raises_on=tiny.POISON)
    begun = workers.start(tmp_path, model, 100, cluster=membership, poisoned=3)
    try:
        for _ in range(3):
            with pytest.raises(SuiteError, match=r"node 127\.0\.0\.[23]: "):
                begun.accuracy("offline")
        for scenario in ("server", "offline"):
            with pytest.raises(SuiteError, match=r"node 127\.0\.0\.[23]: "):
                begun.accuracy(scenario)
    finally:
        begun.worker.close()


@pytest.mark.slow
def test_who_loses_all_nodes_is_told_so_and_can_go_on_where_they_come_back(
    nodes: LocalCluster, tmp_path: Path
) -> None:
    def kill_both(root: Path) -> None:
        for node in ("127.0.0.2", LOST):
            kill_actor(root, node)

    begun = start(tmp_path, nodes)
    try:
        with pytest.raises(SuiteError, match=r"no node of the cluster is left") as raised:
            run_and_lose(begun, nodes, "accuracy", kill_both)
        again = begun.worker.run(begun.request("offline", "accuracy"), 120)
    finally:
        begun.worker.close()

    assert LOST in str(raised.value) and "127.0.0.2" in str(raised.value)
    assert len(again.nodes) == 2
