"""Download and verify files, for a machine that will be offline."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bertsquad.assets import registry
from bertsquad.console import Progress, echo, style
from bertsquad.errors import SuiteError
from bertsquad.models.zoo import MODELS
from bertsquad.squad.datasets import DATASETS


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser(
        "fetch", help="download and verify files, for a machine that will be offline"
    )
    made.set_defaults(run=_fetch)
    names = (
        f"a model ({', '.join(MODELS)}), a data set ({', '.join(DATASETS)}) or a file of "
        "data_registry.txt (default: everything)"
    )
    made.add_argument("names", nargs="*", metavar="NAME", help=names)


def _fetch(given: argparse.Namespace) -> int:
    status = 0
    for name in _files(given.names):
        try:
            with Progress(style()) as progress:
                path = registry.fetch(name, show=progress.show)
            echo(f"{name}: {path}")
        except SuiteError as error:
            echo(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


def _files(names: Sequence[str]) -> list[str]:
    """The registry names that models, data sets and file names stand for."""
    if not names:
        return list(registry.entries())
    files: list[str] = []
    for name in names:
        model = MODELS.get(name)
        dataset = DATASETS.get(model.dataset if model else name)
        if model and model.file:  # a random model is built, not fetched
            files.append(model.file)
        if dataset:
            # int8 models are calibrated
            files += filter(None, (dataset.file, dataset.calibration))
        elif name in registry.entries():
            files.append(name)
        else:
            known = ", ".join([*MODELS, *DATASETS, *registry.entries()])
            raise SuiteError(f"expected names among {known}; got {name!r}")
    return list(dict.fromkeys(files))
