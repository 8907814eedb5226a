"""How cores and GPUs are divided."""

from pathlib import Path

import pytest

from bertsquad.cluster import guardian
from bertsquad.cluster.guardian import Guardian, divide
from bertsquad.machine import gpus
from bertsquad.machine.gpus import Gpu


@pytest.mark.parametrize(
    ("cores", "nodes", "shares"),
    [
        (4, 1, [(0, 1, 2, 3)]),
        (4, 2, [(0, 1), (2, 3)]),
        (5, 3, [(0,), (1, 2), (3, 4)]),
        (2, 3, [(0,), (1,), (0,)]),
        (1, 2, [(0,), (0,)]),
    ],
)
def test_nodes_share_cores_only_where_there_are_too_few(
    cores: int, nodes: int, shares: list[tuple[int, ...]]
) -> None:
    assert divide(range(cores), nodes) == shares


def test_gpus_are_divided_like_cores_and_seen_by_their_nodes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begun_with(tmp_path, monkeypatch)
    monkeypatch.setattr(
        gpus, "visible", lambda: tuple(Gpu(str(n), "T4", f"GPU-{n}") for n in range(3))
    )
    Guardian(tmp_path, tmp_path).start(2, 60.0, with_gpus=True)
    assert [shown for _, shown in begun] == ["GPU-0", "GPU-1,GPU-2"]
    assert [next(word for word in words if "--num-gpus" in word) for words, _ in begun] == [
        "--num-gpus=1",
        "--num-gpus=2",
    ]


def test_for_a_cpu_nobody_asks_which_gpus_there_are_and_no_node_sees_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begun_with(tmp_path, monkeypatch)
    monkeypatch.setattr(gpus, "visible", lambda: pytest.fail("the driver's tool was asked"))
    Guardian(tmp_path, tmp_path).start(2, 60.0)
    assert [shown for _, shown in begun] == ["", ""]
    assert all("--num-gpus=0" in words for words, _ in begun)


def begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """What each node is started with, once it is, and which GPUs it sees; nobody starts here."""
    begun: list[tuple[list[str], str]] = []

    class Begun:
        def __init__(self, command: list[str], env: dict[str, str], **others: object) -> None:
            begun.append((command, env[gpus.VISIBLE]))
            index = len(begun) - 1
            socket = tmp_path / f"n{index}" / "session_1" / "sockets" / "raylet"
            socket.parent.mkdir(parents=True)
            socket.touch()

    monkeypatch.setattr("bertsquad.cluster.guardian.subprocess.Popen", Begun)
    monkeypatch.setattr(guardian, "listens", lambda host, port: True)
    return begun
