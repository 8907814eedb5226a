"""The software and the machine that a result was made with."""

import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bertsquad.machine import gpus, hardware, identity, processor
from bertsquad.machine.distributions import RUNTIME, installed, owner, owners

#: The modules whose versions decide what a result means.
_MODULES = (
    *(RUNTIME, "onnxruntime_ep_openvino", "mlperf_loadgen", "numpy"),
    *("tokenizers", "pytest", "pytest_benchmark"),
)

#: The versions that modules say of themselves, by their names, where none has been loaded.
_UNKNOWN: Mapping[str, str] = MappingProxyType({})


@cache
def operating_system() -> str:
    """The operating system's name and its kernel."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def versions(ran: Mapping[str, str] = _UNKNOWN) -> dict[str, str]:
    """The versions of what decides a result, by distribution; Python's too.

    `ran` are those that the worker's modules say of themselves. They count most, then what modules
    of this process say, then what is installed.
    """
    found = {"python": platform.python_version()}
    for module in _MODULES:
        for name in owners(module) or (owner(module),):
            here = getattr(sys.modules.get(module), "__version__", None)
            version = ran.get(module) or here or installed(name)
            if version is not None:
                found[name] = version
    return found


def claimed(ran: Mapping[str, str]) -> dict[str, str]:
    """The versions that are installed by name, where modules of another release ran.

    Files of two wheels are mixed then, or another folder comes first on the import path. What
    stands behind a release, as `.dev20260101` or `+cu12`, is often missing in a module.
    """
    told = {
        owner(module): version
        for module, version in ran.items()
        if version and len(owners(module)) == 1
    }
    return {
        name: known
        for name, version in told.items()
        if (known := installed(name)) is not None and _release(known) != _release(version)
    }


def _release(version: str) -> str:
    return re.split(r"\+|\.dev", version)[0]


def facts(ran: Mapping[str, str]) -> dict[str, Any]:
    """What decides how fast a run is on this machine; docs/results.md explains the keys.

    `ran` are the versions that the modules which ran say of themselves.
    """
    return {
        "machine": identity.name(),
        "machine_id": identity.identity(),
        "runtime": owner(RUNTIME),
        "versions": versions(ran),
        "versions_claimed": claimed(ran),
        "cpu": hardware.cpu_name(),
        "cores": hardware.cores(),
        "cpu_quota": hardware.quota(),
        "physical_cores": hardware.physical_cores(),
        "sockets": hardware.sockets(),
        **processor.read().facts(),
        "memory_bytes": hardware.memory_bytes(),
        "operating_system": operating_system(),
        "gpus": [gpu.name for gpu in gpus.visible() if gpu.name],
        "gpu_ids": [],
    }


def gpus_used(device_ids: Iterable[int]) -> dict[str, Any]:
    """What a result says of the GPUs that it used, by their places among the visible ones.

    Each counts once, however many instances it has.
    """
    visible = gpus.visible()
    used = [visible[place] for place in sorted(set(device_ids)) if place < len(visible)]
    return {"gpus": [gpu.name for gpu in used], "gpu_ids": [gpu.id for gpu in used]}


@cache
def source_digest(folder: Path) -> str:
    """The SHA-256 of all Python code below `folder`, by which two copies of it are told apart."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


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
