"""What a result says of the software and the machine that it was made with."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bertsquad.machine.hardware import (
    cores,
    cpu_name,
    gpu_names,
    memory_bytes,
    physical_cores,
    quota,
    sockets,
)

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
    """What decides how fast a run is here, for its provenance (keys as in docs/results.md)."""
    return {
        "versions": versions(),
        "cpu": cpu_name(),
        "cores": cores(),
        "cpu_quota": quota(),
        "physical_cores": physical_cores(),
        "sockets": sockets(),
        "memory_bytes": memory_bytes(),
        "operating_system": operating_system(),
        "gpus": list(gpu_names()),
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
