"""pytest-benchmark's own statistics, in its own JSON, are the figures that were replayed."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from made import OFFICIAL

from bertsquad.suite.replay import query_seconds

ROOT = Path(__file__).resolve().parents[2]

#: Many, tiny and uneven, so that a sum over the rounds would lose digits.
LATENCIES = [1e-5 * (1 + (7919 * index) % 1013) / 3 for index in range(20_000)]

TEST = """
import json, pathlib
import pytest
from bertsquad.suite.replay import replay, replay_timer

SECONDS = json.loads(pathlib.Path("seconds.json").read_text())

@pytest.mark.benchmark(timer=replay_timer)
@pytest.mark.parametrize("name", SECONDS)
def test_replay(name, benchmark):
    replay(benchmark, SECONDS[name])
"""


def pytest_session(
    folder: Path, seconds: dict[str, list[float]], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """A pytest session that replays `seconds`, with what the suite adds to pytest-benchmark."""
    (folder / "test_it.py").write_text(TEST, encoding="utf-8")
    (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    environment = {name: text for name, text in os.environ.items() if name[:7] != "PYTEST_"}
    plugins = "-p no:cacheprovider -p no:hypothesispytest -p bertsquad.suite.recording"
    command = f"-m pytest -q {plugins} --rootdir . test_it.py".split()
    done = subprocess.run(
        [sys.executable, *command, "--benchmark-json", "out.json", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    return done


def replayed(folder: Path, seconds: dict[str, list[float]], *arguments: str) -> dict[str, Any]:
    """The benchmarks of a pytest session that replays `seconds`, by name."""
    done = pytest_session(folder, seconds, *arguments)
    assert done.returncode == 0, done.stdout
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


#: A run of SingleStream, whose queries are rounds, and one of Offline, whose rate is the only one.
EARLIER = {"singlestream": [0.010, 0.012, 0.011, 0.013, 0.050], "offline": [1 / 1234.5]}

#: Options of pytest-benchmark that change how often it calls, or what it does around a call.
AROUND = (
    *("--benchmark-cprofile=tottime", "--benchmark-warmup=on", "--benchmark-warmup-iterations=9"),
    *("--benchmark-min-rounds=50", "--benchmark-min-time=1", "--benchmark-max-time=0.1"),
    *("--benchmark-calibration-precision=3", "--benchmark-disable-gc", "--benchmark-only"),
    "--benchmark-timer=time.process_time",
)


def test_no_option_of_pytest_benchmark_changes_a_figure(tmp_path: Path) -> None:
    profiling = ("--benchmark-cprofile-loops=7", "--benchmark-cprofile-dump=profile")
    entries = replayed(tmp_path, EARLIER, *AROUND, *profiling)
    assert {name: entry["stats"]["data"] for name, entry in entries.items()} == EARLIER
    assert len(list(tmp_path.glob("profile-*.prof"))) == 2


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--benchmark-group-by=func,colour", "ERROR: --benchmark-group-by: expected group, name, "),
        ("--benchmark-histogram=plot", "ERROR: --benchmark-histogram needs pygal: pip install "),
    ],
)
def test_what_would_only_fail_in_the_end_is_refused_at_once(
    tmp_path: Path, option: str, sentence: str
) -> None:
    if "histogram" in option and find_spec("pygal") is not None:
        pytest.skip("pygal is installed")
    done = pytest_session(tmp_path, EARLIER, option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert sentence in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_figures_that_lack_a_parameter_are_shown_all_the_same(tmp_path: Path) -> None:
    done = pytest_session(tmp_path, EARLIER, "--benchmark-group-by=param:colour")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert (
        "ERROR: --benchmark-group-by=param:colour: the parameters that all figures have are name"
        in done.stdout
    )
    assert "test_replay[offline]" in done.stdout
    assert len(json.loads((tmp_path / "out.json").read_bytes())["benchmarks"]) == 2


def test_a_run_whose_queries_were_not_kept_leaves_no_figures(tmp_path: Path) -> None:
    lost = query_seconds(replace(OFFICIAL, qps=None, run_dir=str(tmp_path)))
    assert set(replayed(tmp_path, {"lost": lost, "offline": [1 / 1234.5]})) == {"offline"}


def test_a_json_that_cannot_be_written_fails_a_pytest_session_that_passed(tmp_path: Path) -> None:
    done = pytest_session(
        tmp_path, {"offline": [1 / 1234.5]}, "--benchmark-json", "test_it.py/out.json"
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 passed" in done.stdout
    assert "ERROR: test_it.py/out.json could not be written (" in done.stdout


GATE = ("--benchmark-compare", "--benchmark-compare-fail=median:5%")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an earlier pytest session."""
    folder = tmp_path_factory.mktemp("earlier")
    replayed(folder, EARLIER, "--benchmark-save", "earlier")
    return folder / ".benchmarks"


def slowed(share: float, *names: str) -> dict[str, list[float]]:
    return {name: [t * (share if name in names else 1) for t in EARLIER[name]] for name in EARLIER}


def gated(folder: Path, earlier: Path, seconds: dict[str, list[float]]) -> tuple[int, str]:
    """The status and output of a pytest session that must be within 5 % of the earlier one."""
    done = pytest_session(folder, seconds, "--benchmark-storage", str(earlier), *GATE)
    assert len(json.loads((folder / "out.json").read_bytes())["benchmarks"]) == 2
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("share", [1.0, 1.04, 0.5])
def test_equal_and_better_figures_pass_a_gate(tmp_path: Path, earlier: Path, share: float) -> None:
    status, out = gated(tmp_path, earlier, slowed(share, *EARLIER))
    assert (status, "regressed" in out) == (0, False)
    assert "2 passed" in out


@pytest.mark.parametrize("name", EARLIER)
def test_figures_that_are_worse_by_a_tenth_fail_a_gate_and_are_named(
    tmp_path: Path, earlier: Path, name: str
) -> None:
    status, out = gated(tmp_path, earlier, slowed(1.1, name))
    assert status == pytest.ExitCode.TESTS_FAILED
    regressed = [line for line in out.splitlines() if "PercentageRegressionCheck" in line]
    assert len(regressed) == 1
    assert f"test_replay[{name}] (0001_earlier) - Field 'median'" in regressed[0]
    assert "ERROR: figures are worse than --benchmark-compare-fail allows" in out
    assert "2 passed" in out  # the pytest session ends as any other does


def test_five_per_cent_of_time_are_a_little_less_of_a_rate(tmp_path: Path, earlier: Path) -> None:
    for share, status in ((0.96, 0), (0.95, 1)):  # of the QPS: 4.2 % and 5.3 % more time
        assert gated(tmp_path, earlier, slowed(1 / share, "offline"))[0] == status


def test_what_fails_a_gate_is_saved_all_the_same(tmp_path: Path) -> None:
    replayed(tmp_path, EARLIER, "--benchmark-save", "earlier")
    done = pytest_session(tmp_path, slowed(2.0, "offline"), *GATE, "--benchmark-save", "later")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    (later,) = (tmp_path / ".benchmarks").rglob("0002_later.json")
    entries = {e["param"]: e["stats"] for e in json.loads(later.read_bytes())["benchmarks"]}
    assert entries["offline"]["median"] == pytest.approx(2 / 1234.5)
