"""Engines on tiny models."""

from functools import partial
from pathlib import Path

import numpy as np
import tiny
from numpy.typing import NDArray

from bertsquad.devices import DEVICES, Device
from bertsquad.models.preparation import prepare
from bertsquad.models.reads import AS_MLPERF, Reads
from bertsquad.models.zoo import files_of
from bertsquad.runtime import sessions
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.parallelism import Parallelism

CPU, OPENVINO, CUDA = DEVICES["cpu"], DEVICES["openvino"], DEVICES["cuda"]


ONE = Parallelism(1, 1)


Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def make_engine(
    path: Path,
    device: Device = CPU,
    precision: str = "fp32",
    parallelism: Parallelism = ONE,
    reads: Reads = AS_MLPERF,
) -> Engine:
    open_model = partial(sessions.open_on_cpu, threads=1)
    files, calibration = files_of(path), tiny.calibration
    prepared = prepare(files, device.name, precision, open_model, calibration, reads=reads)
    return Engine(prepared, device, precision, parallelism)


def arrays(batch: int, length: int) -> Arrays:
    ids = np.arange(batch * length).reshape(batch, length) * 7 + 5
    mask, segments = np.ones_like(ids), np.zeros_like(ids)
    mask[0, length - 3 :] = 0
    segments[:, length // 2 :] = 1
    return ids, mask, segments


def is_a_sentence(text: str) -> bool:
    return "\n" not in text and len(text) > 20 and "Traceback" not in text
