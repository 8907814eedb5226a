"""What is installed, as far as its metadata says: versions, and whose a module is.

Nothing is imported for that, so it may be wrong; what really runs is what the worker loads.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version

#: The usual distributions of modules that have another name.
_USUAL = {"mlperf_loadgen": "mlcommons-loadgen"}

#: The module that several distributions bring: onnxruntime, onnxruntime-gpu, onnxruntime-openvino
#: and others.
RUNTIME = "onnxruntime"


def installed(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def owners(module: str) -> tuple[str, ...]:
    """The installed distributions that bring a top-level module; several overwrite each other."""
    found = packages_distributions().get(module, ())
    return tuple(sorted({re.sub(r"[-_.]+", "-", name).lower() for name in found if name}))


def owner(module: str) -> str:
    """The distribution that brings a top-level module, by its usual name where none does."""
    return next(iter(owners(module)), _USUAL.get(module, module))


def reinstall(module: str) -> str:
    """The command that brings all files of a module again."""
    return f"pip install --force-reinstall {owner(module)}"
