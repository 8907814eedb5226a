"""What disturbs a run is told."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bertsquad.machine import noise
from bertsquad.machine.noise import Reading

QUIET = Reading(at_s=100.0, busy_s=1000.0, stolen_s=10.0, own_s=50.0, heat=3, held_back_s=1.0)
#: Ten seconds later, of two processors, one used by this process.
LATER = replace(QUIET, at_s=110.0, busy_s=1010.0, own_s=60.0)

linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")


def test_a_run_alone_on_its_machine_has_no_warning() -> None:
    assert noise.disturbances(QUIET, LATER, 2) == []
    assert noise.disturbances(QUIET, replace(LATER, busy_s=1010.9), 2) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"busy_s": 1018.0}, "other processes used 40% of this machine's CPU time"),
        ({"stolen_s": 15.0}, "the hypervisor gave 25% of this machine's CPU time to others"),
        ({"heat": 5}, "cores were slowed down for heat 2 times"),
        ({"held_back_s": 4.0}, "a CPU quota held the run back for 3.0 s"),
    ],
)
def test_each_disturbance_is_told_in_a_sentence_with_its_cure(
    change: dict[str, float], warning: str
) -> None:
    (found,) = noise.disturbances(QUIET, replace(LATER, **change), 2)  # type: ignore[arg-type]
    assert found.matter.startswith(warning)
    assert found.cure
    assert str(found) == f"{found.matter}: {found.cure}"


def test_what_cannot_be_read_warns_of_nothing(tmp_path: Path) -> None:
    assert noise.read(tmp_path) is None
    assert noise.disturbances(None, LATER, 2) == []
    assert noise.disturbances(QUIET, None, 2) == []


@linux
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sys/fs/cgroup/cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n"),
        ("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 5\nthrottled_time 2500000000\n"),
    ],
)
def test_heat_and_quota_are_read_where_the_system_says_them(
    tmp_path: Path, file: str, text: str
) -> None:
    stat = tmp_path / "proc/stat"
    stat.parent.mkdir()
    stat.write_text("cpu  100 0 100 5000 0 0 0 300 0 0\ncpu0 1 1\n")
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    for cpu, count in ((0, 4), (1, 3)):
        throttle = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        throttle.mkdir(parents=True)
        (throttle / "core_throttle_count").write_text(f"{count}\n")
    found = noise.read(tmp_path)
    assert found is not None
    tick = os.sysconf("SC_CLK_TCK")
    assert (found.busy_s, found.stolen_s) == (200 / tick, 300 / tick)
    assert (found.heat, found.held_back_s) == (7, 2.5)


@linux
def test_another_process_that_works_is_noticed_on_this_machine() -> None:
    before = noise.read()
    code = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
    for worker in workers:
        worker.wait()
    found = noise.disturbances(before, noise.read(), os.cpu_count() or 1)
    assert any(one.matter.startswith("other processes used") for one in found)
