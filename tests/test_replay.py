"""pytest-benchmark's own statistics, in its own JSON, are the figures that were replayed."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Many, tiny and uneven, so that a sum over the rounds would lose digits.
LATENCIES = [1e-5 * (1 + (7919 * index) % 1013) / 3 for index in range(20_000)]

TEST = """
import json, pathlib
import pytest
from bertsquad.replay import replay, replay_timer

SECONDS = json.loads(pathlib.Path("seconds.json").read_text())

@pytest.mark.benchmark(timer=replay_timer)
@pytest.mark.parametrize("name", SECONDS)
def test_replay(name, benchmark):
    replay(benchmark, SECONDS[name])
"""


def replayed(folder: Path, seconds: dict[str, list[float]], *arguments: str) -> dict[str, Any]:
    """The benchmarks of a session that replays `seconds`, by name."""
    (folder / "test_it.py").write_text(TEST, encoding="utf-8")
    (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    environment = {name: text for name, text in os.environ.items() if name[:7] != "PYTEST_"}
    command = "-m pytest -q -p no:cacheprovider --rootdir . test_it.py".split()
    subprocess.run(
        [sys.executable, *command, "--benchmark-json", "out.json", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    file = folder / "out.json"
    entries = json.loads(file.read_bytes())["benchmarks"] if file.is_file() else []
    return {entry["param"]: entry for entry in entries}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    seconds = {"stream": LATENCIES, "offline": [1 / 1234.5], "slow": [7000.0, 0.1]}
    return replayed(tmp_path_factory.mktemp("replay"), seconds)


def test_every_latency_is_a_round_to_the_last_digit(entries: dict[str, Any]) -> None:
    stats = entries["stream"]["stats"]
    assert stats["data"] == LATENCIES
    assert (stats["rounds"], stats["iterations"]) == (len(LATENCIES), 1)
    assert (stats["min"], stats["max"]) == (min(LATENCIES), max(LATENCIES))
    assert stats["median"] == pytest.approx(statistics.median(LATENCIES), rel=1e-12)


def test_a_rate_comes_out_as_operations_a_second(entries: dict[str, Any]) -> None:
    stats = entries["offline"]["stats"]
    assert stats["ops"] == pytest.approx(1234.5, rel=1e-4)
    assert stats["rounds"] == 1


def test_a_round_of_hours_takes_no_time(entries: dict[str, Any]) -> None:
    assert entries["slow"]["stats"]["data"] == [7000.0, 0.1]


def test_the_timer_is_named_in_the_json(entries: dict[str, Any]) -> None:
    assert {entry["options"]["timer"] for entry in entries.values()} == {"replay_timer"}


def test_benchmarks_may_be_disabled(tmp_path: Path) -> None:
    assert replayed(tmp_path, {"stream": [0.1, 0.2]}, "--benchmark-disable") == {}
