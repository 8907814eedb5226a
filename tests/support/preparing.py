"""Models made ready as the worker makes them, with a record of what was opened for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiny
from numpy.typing import NDArray

from bertsquad.assets.fingerprint import ModelFiles
from bertsquad.models.asking import Known
from bertsquad.models.calibration import Calibration
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.models.reads import AS_MLPERF, Reads
from bertsquad.models.signature import Feed, Opener
from bertsquad.models.zoo import files_of
from bertsquad.progress import Show, unseen
from bertsquad.runtime.sessions import open_on_cpu

Run = Callable[[Feed], list[NDArray[np.float32]]]


class Opens:
    """Opens models for the proof as the worker does, and remembers which and what they were fed."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, path: Path) -> Run:
        self.opened.append(path.name)
        run = open_on_cpu(path, threads=1)

        def run_one(feed: Feed) -> list[NDArray[np.float32]]:
            self.shapes |= {array.shape for array in feed.values()}
            return run(feed)

        return run_one


def uncalibrated() -> Calibration:
    raise AssertionError("a calibration was asked for though nothing had to be quantised")


def ready(
    path: Path,
    precision: str = "fp32",
    open_model: Opener | None = None,
    calibration: Callable[[], Calibration] | None = None,
    *,
    key: str | None = None,
    device: str = "cpu",
    show: Show = unseen,
    reads: Reads = AS_MLPERF,
    known: Callable[[], Known] | None = None,
) -> Prepared:
    if calibration is None:
        calibration = tiny.calibration if precision == "int8" else uncalibrated
    files = files_of(path)
    model = ModelFiles(key or files.key, files.files)
    return prepare(model, device, precision, open_model or Opens(), calibration, show, reads, known)
