"""What a user sees of a real pytest session on two nodes: figures of each, and of those it lost."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from losing import LOST, fall_silent, kill_actor
from pytest_sessions import ARGUMENTS, environment, run_pytest

pytestmark = pytest.mark.cluster

#: So few samples that they are answered in seconds, and so many that a node can die meanwhile.
SAMPLES = ("--dataset-size", "60")
MINILM = ("--model", "minilm", "--dataset", "pocket", "--device", "cpu")

#: Nodes of which each has one thread, so that a run lasts seconds however many cores there are.
SLOW_NODES = ("--cluster", "local:2", "--instances", "1", "--threads", "1")


def result_of(folder: Path, mode: str) -> dict[str, Any]:
    name = f"{mode}-minilm-pocket-offline-cpu-fp32"
    found: dict[str, Any] = json.loads((folder / "results" / name / "result.json").read_bytes())
    return found


def test_two_nodes_answer_as_one_machine_does_and_are_told_of(tmp_path: Path) -> None:
    chosen = (
        *MINILM,
        *SAMPLES,
        "-k",
        "offline and (accuracy or performance)",
        "--min-duration-s",
        "2",
    )
    alone = run_pytest(tmp_path / "alone", *MINILM, *SAMPLES, "-k", "offline and accuracy")
    both = run_pytest(
        tmp_path / "both", *chosen, "--cluster", "local:2", "--benchmark-json", "benchmarks.json"
    )

    assert (alone.code, both.code) == (0, 0), both.out
    accuracy = result_of(both.folder, "accuracy")
    assert accuracy["f1"] == result_of(alone.folder, "accuracy")["f1"]
    for result in (accuracy, result_of(both.folder, "performance")):
        assert result["number_of_nodes"] == 2
        assert result["nodes_lost"] == []
        assert [node["node"] for node in result["nodes"]] == ["127.0.0.2", LOST]
        assert sum(node["share"] for node in result["nodes"]) == pytest.approx(1)
        for node in result["nodes"]:
            assert node["samples"] > 0 and 0 < node["busy_share"] <= 1
            assert "CPUExecutionProvider" in node["proof"]
            assert 2**24 < node["peak_memory_bytes"] < 2**32
        assert result["peak_memory_bytes"] is None  # of the driver, which has no model
        assert "--cluster local:2" in result["repeat"]
    (entry,) = both.benchmarks["benchmarks"]
    assert entry["extra_info"]["number_of_nodes"] == 2
    assert "2 nodes" in both.out


def lose_a_node(folder: Path, lose: Callable[[Path], None], mode: str, *arguments: str) -> Any:
    """A pytest session that loses a node a second after LoadGen has begun."""
    folder.mkdir()
    short = Path(tempfile.mkdtemp(prefix="l-", dir="/tmp"))  # sockets lie in it
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *ARGUMENTS, *MINILM, *SLOW_NODES, *arguments],
        cwd=folder,
        env=environment(folder.parent) | {"TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        log = folder / "results" / f"{mode}-minilm-pocket-offline-cpu-fp32.unfinished"
        until = time.monotonic() + 120
        while not (log / "mlperf_log_detail.txt").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        lose(short)
        out, _ = process.communicate(timeout=200)
    short.rmdir()  # all that the cluster had there is gone
    return process.returncode, out


def test_a_timed_run_that_lost_a_node_fails_though_loadgen_calls_it_valid(tmp_path: Path) -> None:
    code, out = lose_a_node(
        tmp_path / "timed",
        kill_actor,
        "performance",
        *("-k", "offline and performance", "--min-duration-s", "6", "--target-qps", "30"),
    )

    result = result_of(tmp_path / "timed", "performance")
    (loss,) = result["nodes_lost"]
    assert code == pytest.ExitCode.TESTS_FAILED
    assert (result["verdict"], result["loadgen_valid"]) == ("failed", True)
    assert result["mlperf_valid"] is False
    told = f"node {LOST} was lost {loss['second']:.1f} s after the start: {loss['cause']}"
    assert told in result["reason"] and told in " ".join(out.split())
    assert "Traceback" not in out


@pytest.mark.slow
def test_an_accuracy_run_that_lost_a_node_passes_with_a_warning(tmp_path: Path) -> None:
    code, out = lose_a_node(
        tmp_path / "silent", fall_silent, "accuracy", "-k", "offline and accuracy"
    )
    unbroken = run_pytest(tmp_path / "alone", *MINILM, "-k", "offline and accuracy")

    result = result_of(tmp_path / "silent", "accuracy")
    (loss,) = result["nodes_lost"]
    assert code == 0, out
    assert result["f1"] == result_of(unbroken.folder, "accuracy")["f1"]
    assert result["mlperf_valid"] is False
    assert "it answered nothing for" in loss["cause"] and loss["second"] < 20
    assert any(LOST in warning for warning in result["warnings"])
    assert LOST in out
