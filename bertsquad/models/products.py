"""The matrix products of a graph, which are most of a BERT's work."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.numpy_helper
from numpy.typing import NDArray

from bertsquad.models.scales import Floats

#: Products with fewer columns stay in float: the span head, two columns wide, saves nothing.
MIN_COLUMNS = 32

#: The operators that calculate matrix products.
PRODUCTS = frozenset(
    """Attention DynamicQuantizeMatMul FusedGemm FusedMatMul Gemm MatMul MatMulInteger
    MatMulIntegerToFloat MultiHeadAttention PackedAttention QAttention QGemm
    QLinearMatMul""".split()
)


@dataclass(frozen=True)
class Product:
    """A MatMul to quantise: its place in the graph, its inputs, its matrix [rows, columns]."""

    node: int
    activation: str
    weight: str
    rows: int
    columns: int


class Constants:
    """The values of a graph's tensors that depend on no input."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def find(self, name: str) -> NDArray[Any] | None:
        """The value of `name`; None where it is no constant, or is made by other operators.

        Exports store weights transposed, shared through Identity, or as float16 with a Cast.
        """
        if name in self._stored:
            return onnx.numpy_helper.to_array(self._stored[name])
        node = self._makers.get(name)
        if node is None:
            return None
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant":
            value = attributes.get("value")
            return None if value is None else onnx.numpy_helper.to_array(value)
        if node.op_type not in ("Cast", "Identity", "Transpose"):
            return None
        found = self.find(node.input[0])
        if found is None or node.op_type == "Identity":
            return found
        if node.op_type == "Transpose":
            return found.transpose(attributes.get("perm"))
        return found.astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))

    def matrix(self, name: str) -> Floats | None:
        """The value of `name` if it is a constant float32 matrix."""
        found = self.find(name)
        if found is None or found.ndim != 2 or found.dtype != np.float32:
            return None
        return found


def products(model: onnx.ModelProto) -> list[Product]:
    """The products of an activation and a constant float32 matrix, in the graph's order."""
    constants = Constants(model.graph)
    found = []
    for index, node in enumerate(model.graph.node):
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        activation, weight = node.input
        matrix = constants.matrix(weight)
        if matrix is None or matrix.shape[1] < MIN_COLUMNS:
            continue
        if constants.find(activation) is None:
            found.append(Product(index, activation, weight, *matrix.shape))
    return found


def count_products(graph: onnx.GraphProto) -> tuple[int, int, int]:
    """How many matrix products there are, how many of them quantised, how many in half precision.

    A product is quantised where its operator is of integers or both its inputs are dequantised,
    and in half precision where one of its inputs is stored so.
    """
    dequantised = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    halves = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    }
    nodes = [node for node in graph.node if node.op_type in PRODUCTS]
    quantised = sum(
        is_integer(node.op_type) or dequantised.issuperset(node.input[:2]) for node in nodes
    )
    return len(nodes), quantised, sum(not halves.isdisjoint(node.input) for node in nodes)


def is_integer(operator: str) -> bool:
    """Whether a product's operator is one of integers."""
    return "Integer" in operator or operator.startswith("Q")
