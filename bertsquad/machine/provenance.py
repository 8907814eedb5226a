"""The software and the machine that a result was made with."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bertsquad.machine import hardware

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


def installed(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


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


def facts() -> dict[str, Any]:
    """What decides how fast a run is on this machine; docs/results.md explains the keys."""
    return {
        "versions": versions(),
        "cpu": hardware.cpu_name(),
        "cores": hardware.cores(),
        "cpu_quota": hardware.quota(),
        "physical_cores": hardware.physical_cores(),
        "sockets": hardware.sockets(),
        "memory_bytes": hardware.memory_bytes(),
        "operating_system": operating_system(),
        "gpus": list(hardware.gpu_names()),
    }


@cache
def git_revision(folder: Path) -> str | None:
    """The commit that the clone `folder` is at, with `-dirty` where files differ from it."""
    if not (folder / ".git").exists():
        return None
    # `describe --dirty` would write into the clone's index, and disturb a `git` that works there.
    git = ("git", "--no-optional-locks", "-C", str(folder))
    commit = hardware.output_of(*git, "describe", "--always", "--abbrev=12").strip()
    status = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    lines = hardware.output_of(*git, *status).splitlines()
    if not commit or not lines:  # it has at least the line of the branch
        return None
    return commit if all(line.startswith("# ") for line in lines) else f"{commit}-dirty"
