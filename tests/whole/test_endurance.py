"""A long pytest session: a thousand runs, or fifty workers, and nothing has grown."""

import gc
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import pytest
import tiny
from workers import Begun, pid_of, start

from bertsquad.scenarios import MODES, SCENARIOS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc"),
]

#: Bytes that a process may have more than before. Allocators keep about one megabyte after 900
#: runs; one log kept (tens of kilobytes a run), or one session, would be many times as much.
SLACK = 4 * 2**20

#: What lets a run be over in milliseconds: no probe, and hardly a duration.
BRIEF: dict[str, dict[str, float]] = {
    "offline": {"target_qps": 1000.0},
    "singlestream": {"target_latency_ms": 1.0},
    "multistream": {"target_latency_ms": 1.0},
    "server": {"target_qps": 10_000.0},
}


@dataclass(frozen=True)
class Footprint:
    """What a process holds: resident memory in bytes, open files, threads."""

    memory: int
    files: int
    threads: int


def footprint(pid: int) -> Footprint:
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    files, threads = (len(list((folder / name).iterdir())) for name in ("fd", "task"))
    return Footprint(pages * os.sysconf("SC_PAGE_SIZE"), files, threads)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Begun]:
    made = start(tmp_path, questions=5)
    yield made
    made.worker.close()


def run_briefly(begun: Begun, scenario: str, mode: str, **others: Any) -> None:
    given: dict[str, Any] = {} if mode == "accuracy" else {"min_duration_s": 0.001}
    begun.worker.run(begun.request(scenario, mode, **given | BRIEF[scenario] | others), 60)


def assert_no_larger(before: Footprint, after: Footprint) -> None:
    assert after.memory - before.memory < SLACK
    assert after.files <= before.files
    assert after.threads <= before.threads


def test_a_thousand_runs_leave_the_worker_and_its_pytest_process_as_large_as_a_hundred(
    begun: Begun, record_testsuite_property: Any
) -> None:
    sizes: dict[tuple[str, int], Footprint] = {}
    for count, (mode, scenario) in enumerate(islice(cycle(product(MODES, SCENARIOS)), 1000), 1):
        run_briefly(begun, scenario, mode)
        if count in (100, 1000):
            gc.collect()
            for who, pid in (("worker", pid_of(begun.worker)), ("pytest process", os.getpid())):
                sizes[who, count] = footprint(pid)
                record_testsuite_property(f"{who} after {count} runs", asdict(sizes[who, count]))
    for who in ("worker", "pytest process"):
        assert_no_larger(sizes[who, 100], sizes[who, 1000])


def test_sessions_made_anew_leave_the_worker_no_larger(
    begun: Begun, record_testsuite_property: Any
) -> None:
    sizes: dict[int, Footprint] = {}
    for count in range(1, 101):
        for instances in (2, 1):  # each division of the cores has sessions of its own
            run_briefly(begun, "offline", "performance", instances=instances)
        if count in (10, 100):
            sizes[count] = footprint(pid_of(begun.worker))
            record_testsuite_property(f"worker after {count} times", asdict(sizes[count]))
    assert_no_larger(sizes[10], sizes[100])


def test_fifty_workers_one_after_another_leave_their_pytest_process_no_larger(
    tmp_path: Path, record_testsuite_property: Any
) -> None:
    model = tiny.model(tmp_path / "tiny.onnx")
    sizes: dict[int, Footprint] = {}
    for count, scenario in enumerate(islice(cycle(SCENARIOS), 50), 1):
        made = start(tmp_path, model, questions=5)
        try:
            run_briefly(made, scenario, "performance")
        finally:
            made.worker.close()
        assert not Path(f"/proc/{pid_of(made.worker)}").exists()
        del made
        if count in (5, 50):
            gc.collect()
            sizes[count] = footprint(os.getpid())
            record_testsuite_property(f"pytest process after {count} workers", asdict(sizes[count]))
    assert_no_larger(sizes[5], sizes[50])
