"""Tiny models whose matrix products are written in the ways that exporters and quantisers have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Writer:
    """Adds nodes and constants to a model, and takes what it writes in place of a product."""

    def __init__(self, model: onnx.ModelProto, activation: str, weight: NDArray[Any]) -> None:
        self.model = model
        self.x = activation
        self.w = weight
        self.nodes: list[onnx.NodeProto] = []

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        if domain and domain not in {entry.domain for entry in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(domain, 1))
        name = f"{op}_{len(self.model.graph.initializer)}_{len(self.nodes)}_{self.x}"
        self.nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.tensor(tensor)

    def tensor(self, tensor: onnx.TensorProto) -> str:
        tensor.name = f"stored_{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(tensor)
        return tensor.name

    def fake(self, source: str, scale: Any, dtype: Any = np.int8, **attributes: Any) -> str:
        """`source`, quantised and dequantised."""
        parameters = self.constant(scale), self.constant(np.zeros(np.shape(scale)), dtype)
        codes = self.node("QuantizeLinear", source, *parameters, **attributes)
        return self.node("DequantizeLinear", codes, *parameters, **attributes)


MS = "com.microsoft"
Form = Callable[[Writer], str]


def _codes(weight: NDArray[Any], bits: int = 8) -> tuple[NDArray[Any], float]:
    largest = 2 ** (bits - 1) - 1
    scale = float(np.abs(weight).max() / largest)
    return np.round(weight / scale), scale


def transposed(make: Writer) -> str:
    """Fake quantisation as PyTorch's tools export it: Q, DQ and Transpose behind a weight."""
    weight = make.w.T.copy()
    opset = next(entry.version for entry in make.model.opset_import if entry.domain == "")
    scale: Any = np.abs(weight).max(axis=1) / 127
    kept = make.fake(make.constant(weight), scale, axis=0) if opset >= 13 else None
    kept = kept or make.fake(make.constant(weight), scale.max())
    return make.node("MatMul", make.fake(make.x, 0.05), make.node("Transpose", kept, perm=[1, 0]))


def dynamic(make: Writer) -> str:
    """As ONNX Runtime saves a dynamically quantised product once it has optimised it."""
    codes, scale = _codes(make.w)
    inputs = make.x, make.constant(codes, np.int8), make.constant(scale), make.constant(0, np.int8)
    return make.node("DynamicQuantizeMatMul", *inputs, domain=MS)


def weights(make: Writer) -> str:
    """A product whose weight alone is dequantised."""
    codes, scale = _codes(make.w)
    inputs = make.constant(codes, np.int8), make.constant(scale)
    return make.node("MatMul", make.x, make.node("DequantizeLinear", *inputs))


def by_hand(make: Writer) -> str:
    """A product whose weight is dequantised without an operator for it."""
    codes, scale = _codes(make.w)
    widened = make.node("Cast", make.constant(codes, np.int8), to=TensorProto.FLOAT)
    return make.node("MatMul", make.x, make.node("Mul", widened, make.constant(scale)))


def four_bits(make: Writer) -> str:
    """A product whose weight is stored in four bits and dequantised."""
    codes, scale = _codes(make.w, bits=4)
    stored = helper.make_tensor("", TensorProto.INT4, codes.shape, codes.astype(int).ravel())
    widened = make.node("DequantizeLinear", make.tensor(stored), make.constant(scale))
    return make.node("MatMul", make.x, widened)


def packed(make: Writer) -> str:
    """ONNX Runtime's own product with weights in blocks."""
    rows, columns = make.w.shape
    blocks = -(-rows // 16)
    filled = np.pad(make.w, ((0, blocks * 16 - rows), (0, 0)))
    codes, scale = _codes(filled.T.reshape(columns, blocks, 16))
    inputs = make.constant(codes + 128, np.uint8), make.constant(np.full(columns * blocks, scale))
    sizes = {"K": rows, "N": columns, "bits": 8, "block_size": 16}
    return make.node("MatMulNBits", make.x, *inputs, domain=MS, **sizes)


def half(make: Writer) -> str:
    """A product in half precision whose weight is transposed first."""
    weight = make.node("Transpose", make.constant(make.w.T, np.float16), perm=[1, 0])
    halved = make.node("Cast", make.x, to=TensorProto.FLOAT16)
    return make.node("Cast", make.node("MatMul", halved, weight), to=TensorProto.FLOAT)


def double(make: Writer) -> str:
    """A product in double precision."""
    widened = make.node("Cast", make.x, to=TensorProto.DOUBLE)
    product = make.node("MatMul", widened, make.constant(make.w, np.float64))
    return make.node("Cast", product, to=TensorProto.FLOAT)


def plain(make: Writer) -> str:
    """A float product."""
    return make.node("MatMul", make.x, make.constant(make.w))


def biased(make: Writer) -> str:
    """A float product with a bias, as any linear layer has one."""
    return make.node("Add", plain(make), make.constant(np.zeros(make.w.shape[1])))


def einsum(make: Writer) -> str:
    """A float product by the summation convention."""
    return make.node("Einsum", make.x, make.constant(make.w), equation="abc,cd->abd")


def conv(make: Writer) -> str:
    """A float product as a convolution of width one."""
    turned = make.node("Transpose", make.x, perm=[0, 2, 1])
    weight = make.constant(make.w.T[:, :, None])
    return make.node("Transpose", make.node("Conv", turned, weight), perm=[0, 2, 1])


def in_a_function(form: Form) -> Form:
    """The nodes of `form` as a function of the model."""

    def wrapped(make: Writer) -> str:
        result = form(make)
        stored = {tensor.name for tensor in make.model.graph.initializer}
        inputs = sorted({n for node in make.nodes for n in node.input if n in stored} | {make.x})
        name = f"Product{len(make.model.functions)}"
        opsets = make.model.opset_import
        function = helper.make_function("own", name, inputs, [result], make.nodes, opsets)
        make.model.functions.append(function)
        make.nodes = []
        made = make.node(name, *inputs, domain="own")
        make.nodes[-1].output[0] = made
        return made

    return wrapped


def in_a_branch(form: Form) -> Form:
    """The nodes of `form` in both branches of an If, of which an input decides."""

    def wrapped(make: Writer) -> str:
        result = form(make)
        value = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        branch = helper.make_graph(make.nodes, "branch", [], [value])
        make.nodes = []
        largest = make.node("ReduceMax", make.x, keepdims=0)
        asked = make.node("Greater", largest, make.constant(0))
        return make.node("If", asked, then_branch=branch, else_branch=branch)

    return wrapped


def model(path: Path, form: Form, opset: int = 21, **options: Any) -> Path:
    """Write a tiny model, its two products written by `form`, the rest as `tiny.model` does."""
    tiny.model(path, wide=True, **options)
    proto = onnx.load(str(path))
    proto.ir_version = 10
    next(entry for entry in proto.opset_import if entry.domain == "").version = opset
    stored = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        if opset < 13 and node.op_type in ("Unsqueeze", "ReduceSum"):
            node.attribute.append(helper.make_attribute("axes", stored[node.input.pop()].tolist()))
        if node.op_type != "MatMul":
            nodes.append(node)
            continue
        make = Writer(proto, node.input[0], stored[node.input[1]])
        result = form(make)
        nodes += make.nodes
        nodes.append(helper.make_node("Identity", [result], node.output))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, str(path))
    return path
