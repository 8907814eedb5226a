"""What this machine is, found out without importing a runtime."""

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

from bertsquad.devices import installed

#: The distributions whose versions decide what a result means.
DISTRIBUTIONS = (
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-ep-openvino",
    "mlcommons-loadgen",
    "numpy",
    "tokenizers",
    "pytest",
    "pytest-benchmark",
)


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def gpu_names() -> tuple[str, ...]:
    """The NVIDIA GPUs that the driver's own tool lists, if it is there."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


@cache
def memory_bytes() -> int:
    """The memory of this machine, in bytes; 0 where it can't be found out."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


@cache
def sockets() -> int:
    """The number of processors, as packages."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 1
    return len({line for line in lines if line.startswith("physical id")}) or 1


@cache
def physical_cores() -> int:
    """The physical cores of all processors, hyper-threads not counted."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return os.cpu_count() or 1
    found = set()
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", block, re.MULTILINE))
        if "core id" in fields:
            found.add((fields.get("physical id"), fields["core id"]))
    return len(found) or os.cpu_count() or 1


@cache
def operating_system() -> str:
    """The operating system's name and its kernel."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def versions() -> dict[str, str]:
    """The installed versions of what decides a result, by distribution; Python's too."""
    found = {name: installed(name) for name in DISTRIBUTIONS}
    return {"python": platform.python_version()} | {
        name: version for name, version in found.items() if version is not None
    }


@cache
def git_revision(folder: Path) -> str | None:
    """The commit that the clone `folder` is at, with `-dirty` where files differ from it."""
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
