"""What this machine is, found out without importing a runtime."""

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path


def siblings(root: Path = Path("/")) -> tuple[tuple[int, ...], ...]:
    """The logical CPUs of each core in the affinity mask, both ascending.

    Where the system knows no affinity each of its logical CPUs is taken for a core. `root` holds
    /proc and /sys.
    """
    if not hasattr(os, "sched_getaffinity"):
        return tuple((cpu,) for cpu in range(os.cpu_count() or 1))
    found: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        # Siblings have the same text here, so it names their core.
        core = text_of(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        found.setdefault(core or f"cpu {cpu}", []).append(cpu)
    return tuple(map(tuple, found.values()))


def core_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """The logical CPUs to compute on, ascending: the lowest of each core in the affinity mask.

    Two hyper-threads share one core's arithmetic, so a matrix product gains nothing from both.
    """
    return tuple(cpus[0] for cpus in siblings(root))


def quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' time the control groups of this process allow it; None without a limit."""
    limits: list[float | None] = []
    groups = text_of(root / "proc/self/cgroup") or ""
    for controllers, path in re.findall(r"^\d+:([^:\n]*):(.*)$", groups, re.MULTILINE):
        if not controllers:  # version 2
            mounts: tuple[str, ...] = ("",)
        elif "cpu" in controllers.split(","):
            mounts = ("cpu,cpuacct", "cpu")
        else:
            continue
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            # In a container the path may be the host's, of which only the top is there.
            group = top / path.strip("/")
            folders = [one for one in (group, *group.parents) if one.is_relative_to(top)]
            limits += [_limit(folder) for folder in folders]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(folder: Path) -> float | None:
    """The CPUs that one control group allows, by version 2's file or version 1's two."""
    both = text_of(folder / "cpu.max")
    if both is None:
        both = f"{text_of(folder / 'cpu.cfs_quota_us')} {text_of(folder / 'cpu.cfs_period_us')}"
    try:
        allowed, period = map(int, both.split())
        share = allowed / period
    except (ValueError, ArithmeticError):  # "max", or nothing there
        return None
    return share if allowed > 0 and period > 0 else None  # version 1 has -1 for "max"


def text_of(path: Path) -> str | None:
    """The text of a file of the system; None where it can't be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _fields(text: str) -> dict[str, str]:
    """The `name: value` lines of a file of the system."""
    lines = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


@cache
def _logical_cpus(root: Path) -> tuple[dict[str, str], ...]:
    """What `/proc/cpuinfo` says of each logical CPU; nothing where there is no such file."""
    text = text_of(root / "proc/cpuinfo") or ""
    return tuple(_fields(block) for block in text.split("\n\n"))


def of_logical_cpus(field: str, root: Path = Path("/")) -> list[str]:
    """The values of a field of `/proc/cpuinfo`, one for each logical CPU that has it."""
    return [cpu[field] for cpu in _logical_cpus(root) if field in cpu]


def cores(root: Path = Path("/")) -> int:
    """The physical cores that this process may use, by its affinity and its control groups."""
    there = len(core_cpus(root))
    limit = quota(root)
    return there if limit is None else max(1, min(there, int(limit)))


def owned_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """The CPUs that threads may be pinned to: `core_cpus`, or none where a quota is the limit.

    Under a quota the CPUs are shared with other processes, with which pinned threads would collide.
    """
    cpus, limit = core_cpus(root), quota(root)
    return cpus if limit is None or limit >= len(cpus) else ()


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's model name."""
    names = [name for name in of_logical_cpus("model name", root) if name]
    return names[0] if names else platform.processor() or platform.machine()


def sockets(root: Path = Path("/")) -> int:
    """The number of processors, as packages."""
    return len(set(of_logical_cpus("physical id", root))) or 1


def physical_cores(root: Path = Path("/")) -> int:
    """The physical cores of all processors, hyper-threads not counted."""
    cpus = _logical_cpus(root)
    found = {(cpu.get("physical id"), cpu["core id"]) for cpu in cpus if "core id" in cpu}
    return len(found) or os.cpu_count() or 1


def output_of(*command: str, timeout_s: float = 10) -> str:
    """What a command prints; nothing where there is no such command, or it fails or takes long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


@cache
def memory_bytes() -> int:
    """The memory of this machine, in bytes; 0 where it can't be found out."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """The memory that a new process may have, in bytes; None where that can't be found out.

    It is what the system has, or what is left to this control group where that is less.
    """
    free = _fields(text_of(root / "proc/meminfo") or "").get("MemAvailable")
    found = [] if free is None else [int(free.removesuffix("kB")) * 1024]
    for most, now in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, used = text_of(root / most), text_of(root / now)
        if limit is not None and used is not None and limit.isdecimal() and used.isdecimal():
            found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


def machine_id(root: Path = Path("/")) -> str:
    """What is the same for processes on one machine, in whatever containers of it they are."""
    return text_of(root / "proc/sys/kernel/random/boot_id") or platform.node()


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had so far, in bytes; None where that isn't known."""
    most = _fields(text_of(Path("/proc/self/status")) or "").get("VmHWM")
    return None if most is None else int(most.removesuffix("kB")) * 1024
