"""Matrix products, which are most of a BERT's work: what they are, and which can be quantised.

What an operator calculates is said here alone, for those who look at a graph (`stored.py`) and for
those who look at what ran (`runtime/proofs.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.numpy_helper
from numpy.typing import NDArray

from bertsquad.models.scales import Floats

#: Products with fewer columns stay in float: the span head, two columns wide, saves nothing.
MIN_COLUMNS = 32

#: What a product is called that takes its weights, or what enters it, quantised, and yet isn't one
#: of integers.
PARTLY = "partly quantised"

#: The precision of a float product, by the type of what enters it as ONNX Runtime writes it.
FLOATS = {"float": "fp32", "double": "fp64", "float16": "fp16", "bfloat16": "bf16"}

#: The types of counts and positions.
_WHOLE = frozenset(("int32", "int64", "uint32", "uint64"))

#: The precisions of half the bits.
HALVES = frozenset(("fp16", "bf16"))

#: The operators of ONNX and ONNX Runtime that calculate matrix products: of floats, of integers,
#: and of floats with quantised weights. Convolutions and recurrent layers are products, too, and so
#: is an Einsum; an exporter may write any linear layer as one of them.
_FLOAT = """Attention AttnLSTM CausalConvWithState Conv ConvTranspose ConvTransposeWithDynamicPads
    DecoderAttention DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DeformConv
    DynamicSparseAttention Einsum FusedConv FusedGemm FusedMatMul FusedMatMulActivation GRU Gemm
    GemmFastGelu GroupQueryAttention LSTM LinearAttention LongformerAttention MatMul MoE
    MultiHeadAttention NhwcConv NhwcFusedConv PackedAttention PackedMultiHeadAttention
    PagedAttention RNN SparseAttention SparsePagedAttention SparseToDenseMatMul TransposeMatMul
    VarlenCausalConvWithState WordConvEmbedding"""
_INTEGER = """ConvInteger DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulInteger
    MatMulIntegerToFloat QAttention QGemm QLinearConv QLinearConvTranspose QLinearMatMul
    QOrderedAttention QOrderedLongformerAttention QOrderedMatMul"""
_PARTLY = """GatherBlockQuantized GemmFloat8 MatMulBlockQuantizedFp4Weight
    MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulNBits MatMulNBitsMlp
    MatMulNBitsQkv QMoE"""

#: How each of these operators calculates; None where that is said by the type of what enters it.
PRODUCTS: Mapping[str, str | None] = {
    **dict.fromkeys(_FLOAT.split()),
    **dict.fromkeys(_INTEGER.split(), "int8"),
    **dict.fromkeys(_PARTLY.split(), PARTLY),
}


def kind_of(operator: str, types: Sequence[str]) -> str | None:
    """How an operator calculates its matrix product: a precision, or `PARTLY`.

    `types` are the element types of its inputs, as ONNX Runtime writes them; what enters the
    product comes first, and "", which isn't known, is taken for a float. None where the operator
    calculates no product, or one of whole numbers such as positions.
    """
    if operator not in PRODUCTS:
        return None
    kind = PRODUCTS[operator]
    if kind is not None or not types or not types[0]:
        return kind or "fp32"
    return None if types[0] in _WHOLE else FLOATS.get(types[0], PARTLY)


def is_quantiser(operator: str) -> bool:
    """Whether an operator, which calculates no product, makes or reads quantised values."""
    return operator.startswith(("Dequantize", "DynamicQuantize", "QLinear", "QOrdered", "Quantize"))


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
