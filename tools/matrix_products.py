"""A model's matrix products: their work, and the best rate at which this machine does them."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.numpy_helper
import onnx.parser
from numpy.typing import NDArray

from bertsquad.devices import Device
from bertsquad.errors import SuiteError
from bertsquad.models import products
from bertsquad.models.onnx_file import load_model
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.inference import side_by_side
from bertsquad.runtime.proofs import one_product
from bertsquad.runtime.sessions import make_session

#: A measurement of the ceiling lasts this long, for each shape.
CEILING_S = 0.4


@dataclass(frozen=True)
class Work:
    """What a model calculates: its constant matrices [rows, columns], and its attention layers."""

    matrices: tuple[tuple[int, int], ...]
    attentions: int

    def flop(self, lengths: NDArray[np.integer]) -> float:
        """Operations for windows of these lengths, in matrix products alone, padding left out."""
        linear = sum(2 * rows * columns for rows, columns in self.matrices) * lengths.sum()
        hidden = self.matrices[0][0]
        # Scores and their product with the values: 2 x 2 x length x length x hidden.
        return float(linear + self.attentions * 4 * hidden * (lengths.astype(float) ** 2).sum())


def count_work(path: Path) -> Work:
    """The products of the float model at `path`."""
    model = load_model(path)
    found = products.products(model)
    if not found:
        raise SuiteError(f"{path} holds no float products with constant matrices to count")
    total = sum(node.op_type == "MatMul" for node in model.graph.node)
    # Beside those found there are two in each attention, and the span head's.
    matrices = tuple((product.rows, product.columns) for product in found)
    return Work(matrices, (total - len(found)) // 2)


class Ceiling:
    """The rate of matrix products of some shapes at a precision, on all instances at once."""

    def __init__(self, engine: Engine, shapes: Sequence[tuple[int, int]]) -> None:
        """Make a model of one product for each of `shapes`, [rows, columns]."""
        self._engine = engine
        self._shapes = list(dict.fromkeys(shapes))
        self._sessions = [
            make_session(
                product_model(shape, engine.device, engine.precision),
                engine.device,
                engine.float_precision,
                dataclasses.replace(engine.parallelism, pins=()),
            )
            for shape in self._shapes
        ]

    def measure(self) -> float:
        """Operations a second of the fastest shape."""
        return max(map(self._rate, self._sessions, self._shapes))

    def _rate(self, session: Any, shape: tuple[int, int]) -> float:
        rows, columns = shape
        tokens = self._engine.batch_tokens
        entry = session.get_inputs()[0]
        kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
        feed = {entry.name: np.ones((tokens, rows), kinds[entry.type])}
        done = [0] * self._engine.instances
        session.run(None, feed)
        end = time.perf_counter() + CEILING_S

        def work(instance: int) -> None:
            while time.perf_counter() < end:
                session.run(None, feed)
                done[instance] += 1

        start = time.perf_counter()
        side_by_side(self._engine.parallelism, work)
        seconds = time.perf_counter() - start
        return sum(done) * 2 * tokens * rows * columns / seconds


def product_model(shape: tuple[int, int], device: Device, precision: str) -> bytes:
    """A model that multiplies [tokens, rows] by a constant matrix, as the suite's models do."""
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    if precision != "int8":
        return one_product(weight, precision)
    kind, zero = ("int8", np.int8(0)) if device.symmetric_int8 else ("uint8", np.uint8(128))
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        product ({kind}[tokens, {shape[0]}] x) => (float[tokens, {shape[1]}] y) {{
            x_real = DequantizeLinear (x, scale, zero)
            w_real = DequantizeLinear <axis = 1> (w, w_scale, w_zero)
            y = MatMul (x_real, w_real)
        }}
    """)
    constants: dict[str, NDArray[Any]] = {
        "w": np.rint(weight * 30).clip(-127, 127).astype(np.int8),
        "w_scale": np.full(shape[1], 0.01, np.float32),
        "w_zero": np.zeros(shape[1], np.int8),
        "scale": np.array(0.02, np.float32),
        "zero": np.array(zero),
    }
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return bytes(model.SerializeToString())
