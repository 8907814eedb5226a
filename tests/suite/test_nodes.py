"""The nodes that cases run on outlive a case, but not their own end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from losing import processes

from bertsquad.cluster import address
from bertsquad.cluster.membership import Membership
from bertsquad.suite import nodes
from bertsquad.suite.nodes import Nodes
from bertsquad.suite.options import Options

HEAD = "127.0.0.2"


def joined(there: Nodes) -> Membership:
    found = there.membership(lambda step: None, lambda said: None)
    assert found is not None
    return found


def folder(membership: Membership) -> Path:
    assert membership.token_file is not None
    return Path(membership.token_file).parent


@pytest.fixture
def one_node() -> Iterator[Nodes]:
    there = Nodes(Options(devices=("cpu",), cluster=address.parse("local:1")))
    yield there
    there.close()


def kill_the_head(membership: Membership) -> None:
    for pid in processes(folder(membership), HEAD):
        os.kill(pid, signal.SIGKILL)


def end_the_guardian(membership: Membership) -> None:
    (node,) = processes(folder(membership), HEAD, "start --block")
    parent = Path(f"/proc/{node}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(parent), signal.SIGTERM)


@pytest.mark.cluster
@pytest.mark.parametrize("end", [kill_the_head, end_the_guardian])
def test_nodes_that_nobody_can_join_any_more_are_started_anew(
    one_node: Nodes, end: Callable[[Membership], None]
) -> None:
    first = joined(one_node)
    assert joined(one_node) == first and not one_node.lost
    end(first)
    until = time.monotonic() + 20
    while not one_node.lost:  # what was killed takes a moment to end
        assert time.monotonic() < until
        time.sleep(0.05)
    again = joined(one_node)
    assert again != first and not one_node.lost
    assert not folder(first).exists()


@pytest.mark.parametrize(
    ("devices", "with_gpus"), [(("cpu",), False), (("cpu", "cuda"), True), ((), True)]
)
def test_nodes_get_gpus_only_where_a_case_may_need_one(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], with_gpus: bool
) -> None:
    class Started:
        alive = True

        def __init__(self, count: int, timeout_s: float | None, gpus: bool) -> None:
            assert gpus == with_gpus

        def membership(self, **given: Any) -> Membership:
            return Membership("127.0.0.2:1", **given)

        def close(self) -> None:
            pass

    monkeypatch.setattr(nodes, "LocalCluster", Started)
    options = Options(devices=devices, cluster=address.parse("local:1"))
    assert joined(Nodes(options)).address == "127.0.0.2:1"
