"""What is said of this machine, with the tools that it asks replaced by real small programs."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bertsquad.machine import hardware, processor

ROOT = Path(__file__).resolve().parents[2]


linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")


@linux
def test_a_process_kept_to_one_cpu_has_one_core() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))});"
        "from bertsquad.machine import hardware; print(hardware.cores(), *hardware.core_cpus())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["1", str(max(os.sched_getaffinity(0)))]


@linux
def test_cores_of_this_machine_are_among_those_that_this_process_may_use() -> None:
    cpus = hardware.core_cpus()
    assert list(cpus) == sorted(set(cpus))
    assert set(cpus) <= os.sched_getaffinity(0)
    assert 1 <= hardware.cores() <= len(cpus)
    assert hardware.owned_cpus() in ((), cpus)
    limit = hardware.quota()
    assert limit is None or limit > 0


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Sets the CPUs of this process, which may be some that this machine hasn't got."""

    def put(cpus: set[int]) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus, raising=False)

    return put


def siblings(root: Path, *cores: tuple[int, ...]) -> None:
    """The topology of cores, each given by its hyper-threads, below `root`."""
    for core in cores:
        for cpu in core:
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(",".join(map(str, core)) + "\n")


def groups(root: Path, membership: str, files: dict[str, str]) -> None:
    """The groups that this process is in, and the files of control groups, below `root`."""
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def test_of_hyper_threads_the_lowest_stands_for_the_core(
    tmp_path: Path, affinity: Callable[[set[int]], None]
) -> None:
    siblings(tmp_path, (0, 4), (1, 5), (2, 6), (3, 7))
    affinity({0, 1, 2, 3, 4, 5, 6, 7})
    assert hardware.core_cpus(tmp_path) == (0, 1, 2, 3)
    assert hardware.cores(tmp_path) == 4
    affinity({7, 6, 5, 2})
    assert hardware.core_cpus(tmp_path) == (2, 5, 7)


def test_hyper_threads_may_be_numbered_side_by_side(
    tmp_path: Path, affinity: Callable[[set[int]], None]
) -> None:
    siblings(tmp_path, (0, 1), (2, 3), (10, 11))
    affinity({1, 2, 3, 10, 11})
    assert hardware.core_cpus(tmp_path) == (1, 2, 10)


def test_without_a_topology_each_cpu_of_the_mask_is_a_core(
    tmp_path: Path, affinity: Callable[[set[int]], None]
) -> None:
    affinity({3, 1})
    assert hardware.core_cpus(tmp_path) == (1, 3)
    assert hardware.owned_cpus(tmp_path) == (1, 3)


def test_without_an_affinity_every_cpu_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert hardware.core_cpus(tmp_path) == (0, 1, 2)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert hardware.core_cpus(tmp_path) == (0,)


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        pytest.param("0::/a/b", {f"{V2}/a/b/cpu.max": "150000 100000"}, 1.5, id="own"),
        pytest.param("0::/a/b", {f"{V2}/a/b/cpu.max": "max 100000"}, None, id="no limit"),
        pytest.param(
            "0::/a/b",
            {
                f"{V2}/a/b/cpu.max": "800000 100000",
                f"{V2}/a/cpu.max": "20000 10000",
                f"{V2}/cpu.max": "max 100000",
            },
            2.0,
            id="a parent's is smaller",
        ),
        pytest.param(
            "0::/a",
            {f"{V2}/a/cpu.max": "max 100000", f"{V2}/cousin/cpu.max": "100000 100000"},
            None,
            id="another group's",
        ),
        pytest.param("0::/", {f"{V2}/cpu.max": "300000 100000"}, 3.0, id="in a container"),
        pytest.param("0::/../b", {f"{V2}/cpu.max": "300000 100000"}, 3.0, id="outside the mount"),
        pytest.param("0::/docker/x", {f"{V2}/cpu.max": "300000 100000"}, 3.0, id="the host's path"),
        pytest.param(
            "5:cpuset:/z\n4:cpu,cpuacct:/a\n1:name=systemd:/a:b\n0::/a",
            {
                f"{V1}/a/cpu.cfs_quota_us": "250000",
                f"{V1}/a/cpu.cfs_period_us": "100000",
                f"{V1}/z/cpu.cfs_quota_us": "100000",
                f"{V1}/z/cpu.cfs_period_us": "100000",
                f"{V1}/cpu.cfs_quota_us": "-1",
                f"{V1}/cpu.cfs_period_us": "100000",
            },
            2.5,
            id="version 1",
        ),
        pytest.param(
            "2:cpuacct:/\n1:cpu:/docker/x",
            {f"{V2}/cpu/cpu.cfs_quota_us": "50000", f"{V2}/cpu/cpu.cfs_period_us": "100000"},
            0.5,
            id="version 1, cpu alone, in a container",
        ),
        pytest.param(
            "4:cpu,cpuacct:/",
            {f"{V1}/cpu.cfs_quota_us": "-1", f"{V1}/cpu.cfs_period_us": "100000"},
            None,
            id="version 1, no limit",
        ),
        pytest.param("what is this?", {f"{V2}/cpu.max": "100000 100000"}, None, id="unreadable"),
    ],
)
def test_the_smallest_quota_of_the_control_groups_counts(
    tmp_path: Path, membership: str, files: dict[str, str], cpus: float | None
) -> None:
    groups(tmp_path, membership, files)
    assert hardware.quota(tmp_path) == cpus


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert hardware.quota(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "cores", "whole"),
    [
        ("max 100000", 4, True),
        ("1600000 100000", 4, True),
        ("400000 100000", 4, True),
        ("390000 100000", 3, False),
        ("150000 100000", 1, False),
        ("50000 100000", 1, False),
    ],
)
def test_a_quota_below_the_cores_limits_them_and_forbids_pinning(
    tmp_path: Path, affinity: Callable[[set[int]], None], limit: str, cores: int, whole: bool
) -> None:
    siblings(tmp_path, (0, 4), (1, 5), (2, 6), (3, 7))
    affinity(set(range(8)))
    groups(tmp_path, "0::/", {f"{V2}/cpu.max": limit})
    assert hardware.cores(tmp_path) == cores
    assert hardware.owned_cpus(tmp_path) == ((0, 1, 2, 3) if whole else ())


def test_a_part_of_the_only_core_is_one_core_but_not_a_whole_one(
    tmp_path: Path, affinity: Callable[[set[int]], None]
) -> None:
    affinity({0})
    groups(tmp_path, "0::/", {f"{V2}/cpu.max": "50000 100000"})
    assert hardware.cores(tmp_path) == 1
    assert hardware.owned_cpus(tmp_path) == ()


def processors(root: Path, *logical: Mapping[str, object]) -> None:
    """What the system says of its logical CPUs, below `root`."""
    blocks = ["".join(f"{key}\t: {value}\n" for key, value in cpu.items()) for cpu in logical]
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text("\n".join(blocks) + "\n")


def test_processors_are_counted_by_package_and_core(tmp_path: Path) -> None:
    processors(
        tmp_path,
        *(
            {"model name": "A: fast one", "microcode": "", "physical id": p, "core id": c}
            for p in (0, 1)
            for c in (0, 0, 1, 1, 2, 2)
        ),
    )
    assert hardware.cpu_name(tmp_path) == "A: fast one"
    assert hardware.sockets(tmp_path) == 2
    assert hardware.physical_cores(tmp_path) == 6


@pytest.mark.parametrize("told", [True, False], ids=["by name only", "not at all"])
def test_a_system_that_tells_little_of_its_processors_has_one(tmp_path: Path, told: bool) -> None:
    if told:
        processors(tmp_path, {"processor": 0}, {"processor": 1}, {"Hardware": "BCM2835"})
    assert hardware.cpu_name(tmp_path)
    assert hardware.sockets(tmp_path) == 1
    assert hardware.physical_cores(tmp_path) == os.cpu_count()
    assert processor.has_vnni(tmp_path)
