"""The libraries that the worker alone loads: each is there, or a sentence says what to do.

What is wrong with an installation shows when a module is imported, as an error of any kind or as a
module without content. So they are loaded here, before a module of the suite needs them.
"""

import importlib
from collections.abc import Callable, Collection
from importlib.metadata import distribution
from types import ModuleType

from bertsquad.errors import SuiteError
from bertsquad.machine.distributions import owner, owners, reinstall
from bertsquad.worker.protocol import Loading

#: The modules to load, each with a function of it that the suite calls.
LIBRARIES = {
    "numpy": "load",
    "onnx": "load_model",
    "onnxruntime": "InferenceSession",
    "mlperf_loadgen": "StartTestWithLogSettings",
}


def load(
    send: Callable[[Loading], object], names: Collection[str] = tuple(LIBRARIES)
) -> dict[str, str]:
    """Load all, or only those of the `names`.

    Gives the versions that they say of themselves, by module, where they do.

    Raises SuiteError for the first that can't be loaded. Since one may end the process instead, it
    says before each which it is.
    """
    versions = {}
    for name in names:
        send(Loading(name))
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a broken library may raise anything
            raise SuiteError(_why(name, error)) from error
        if not hasattr(module, LIBRARIES[name]):
            raise SuiteError(_hollow(name, module))
        if isinstance(version := getattr(module, "__version__", None), str):
            versions[name] = version
    send(Loading(None))
    return versions


def _why(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return _hollow(name, None)
    said = " ".join(str(error).split())
    return (
        f"{name} can't be loaded ({type(error).__name__}: {said}): install what it lacks, or all "
        f"of it again with {reinstall(name)}"
    )


def _hollow(name: str, module: ModuleType | None) -> str:
    """What to do about a module of which no more than its name or its folder is there."""
    if not owners(name):
        return f"{name} is not installed: pip install {owner(name)}"
    place = getattr(module, "__file__", None)
    installed = str(distribution(owner(name)).locate_file(name))
    if place is not None and not place.startswith(installed):
        return (
            f"{name} is there in name only: {place} hides what is installed: take its folder off "
            f"PYTHONPATH, or install all of it again with {reinstall(name)}"
        )
    return (
        f"{name} is there in name only, as when its files were removed with another wheel: "
        f"{reinstall(name)}"
    )
