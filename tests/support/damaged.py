"""The bundled model with noise on its weights, as something that broke it may leave it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from shared_data import POCKET


def write(path: Path, level: float, seed: int = 0) -> Path:
    """Write the model to `path`, its matrices with noise of `level` times their own deviation."""
    proto = onnx.load(POCKET / "minilm-squad.onnx")
    rng = np.random.default_rng(seed)
    for stored in proto.graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype == np.float16 and values.ndim == 2:
            noise = level * values.std(dtype=np.float64) * rng.standard_normal(values.shape)
            stored.CopyFrom(
                numpy_helper.from_array((values + noise).astype(np.float16), stored.name)
            )
    onnx.save(proto, str(path))
    return path
