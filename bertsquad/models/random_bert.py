"""A BERT in the shape and with the names of MLPerf's `model.onnx`, its weights drawn at random.

Speed doesn't depend on what the weights are, so it can be measured where the 1.34 GB can't be
downloaded. The answers mean nothing.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bertsquad.files import write_whole
from bertsquad.squad.features import MAX_TOKENS

#: Part of the name in the cache: to be raised whenever this module writes something else.
FORMAT = 1
#: Initial weights have this standard deviation (BERT's `initializer_range`).
DEVIATION = 0.02
#: BERT's `layer_norm_eps`.
EPSILON = 1e-12
#: What is added to the attention scores of masked tokens.
MASKED = -10_000.0

INPUTS = ("input_ids", "input_mask", "segment_ids")
OUTPUTS = ("output_start_logits", "output_end_logits")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a BERT; `hidden` is a multiple of `heads`, `positions` at least 384."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    positions: int = 512
    vocabulary: int = 30_522


#: BERT-large, uncased: 334 million parameters, 1.34 GB (Devlin et al., 2018, section 3).
BERT_LARGE = Architecture(layers=24, hidden=1024, heads=16, intermediate=4096)


def write(path: Path, architecture: Architecture = BERT_LARGE) -> None:
    """Write a model of `architecture` to `path`, whole or not at all; OSError where it can't be.

    The same versions of NumPy and onnx write the same bytes each time. The inputs `input_ids`,
    `input_mask` and `segment_ids` are int64 ["batch_size", 384], the outputs `output_start_logits`
    and `output_end_logits` float32 ["batch_size", 384]. Only the signature says 384: as in MLPerf's
    export the graph reads its sizes from its input.
    """
    write_whole(path, partial(_save, _build(architecture)))


def _save(graph: "_Graph", path: Path) -> None:
    """Write the model with one weight in memory at a time; onnx.save would hold all three times.

    A protobuf message is its fields one after another. Only the graph's length has to be written
    by hand, once it is known.
    """
    model = onnx.ModelProto(ir_version=6, opset_import=[helper.make_opsetid("", 11)])
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(bytes([onnx.ModelProto.GRAPH_FIELD_NUMBER << 3 | 2]))
        length_at = file.tell()
        file.write(bytes(5))
        file.write(graph.proto.SerializeToString())
        for weight in graph.weights:
            tensor = numpy_helper.from_array(weight.values(rng), weight.name)
            file.write(onnx.GraphProto(initializer=[tensor]).SerializeToString())
        length = file.tell() - length_at - 5
        file.seek(length_at)
        file.write(_varint(length))


def _varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first; here in five bytes.

    All bytes but the last have their highest bit set.
    """
    groups = [number >> 7 * place & 0x7F for place in range(5)]
    return bytes([*(group | 0x80 for group in groups[:4]), groups[4]])


def _build(architecture: Architecture) -> "_Graph":
    graph = _Graph()
    hidden = _embeddings(graph, architecture)
    mask = graph.node("Unsqueeze", graph.node("Unsqueeze", INPUTS[1], axes=[1]), axes=[2])
    mask = graph.node("Cast", mask, to=TensorProto.FLOAT)
    mask = graph.node("Sub", graph.constant(1.0), mask)
    mask = graph.node("Mul", mask, graph.constant(MASKED))
    for layer in range(architecture.layers):
        hidden = _layer(graph, architecture, f"bert.encoder.layer.{layer}", hidden, mask)
    answer = graph.linear("qa_outputs", hidden, architecture.hidden, 2)
    halves = ["start", "end"]
    graph.emit("Split", [answer], halves, axis=-1, split=[1, 1])
    for half, output in zip(halves, OUTPUTS, strict=True):
        graph.emit("Squeeze", [half], [output], axes=[-1])
    return graph


def _embeddings(graph: "_Graph", architecture: Architecture) -> str:
    ids, _, segments = INPUTS
    scope, width = "bert.embeddings", architecture.hidden
    words = graph.weight(f"{scope}.word_embeddings.weight", architecture.vocabulary, width)
    places = graph.weight(f"{scope}.position_embeddings.weight", architecture.positions, width)
    kinds = graph.weight(f"{scope}.token_type_embeddings.weight", 2, width)
    place = graph.node("Range", graph.constant(0), graph.size(ids, 1), graph.constant(1))
    place = graph.node("Unsqueeze", place, axes=[0])
    place = graph.node("Expand", place, graph.node("Shape", ids))
    total = graph.node("Add", graph.node("Gather", words, ids), graph.node("Gather", places, place))
    total = graph.node("Add", total, graph.node("Gather", kinds, segments))
    return graph.layer_norm(f"{scope}.LayerNorm", total, width)


def _layer(graph: "_Graph", architecture: Architecture, scope: str, hidden: str, mask: str) -> str:
    width, heads = architecture.hidden, architecture.heads
    size = width // heads

    def projected(name: str) -> str:
        return graph.linear(f"{scope}.attention.self.{name}", hidden, width, width)

    def split(source: str, perm: list[int]) -> str:
        return graph.node("Transpose", graph.reshape(source, heads, size), perm=perm)

    query, key, value = (projected(name) for name in ("query", "key", "value"))
    query, value = (split(source, [0, 2, 1, 3]) for source in (query, value))
    scores = graph.node("MatMul", query, split(key, [0, 2, 3, 1]))
    scores = graph.node("Div", scores, graph.constant(math.sqrt(size)))
    weights = graph.node("Softmax", graph.node("Add", scores, mask), axis=3)
    context = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    context = graph.reshape(context, width)
    attended = graph.linear(f"{scope}.attention.output.dense", context, width, width)
    attended = graph.node("Add", attended, hidden)
    attended = graph.layer_norm(f"{scope}.attention.output.LayerNorm", attended, width)

    inner = architecture.intermediate
    wide = graph.gelu(graph.linear(f"{scope}.intermediate.dense", attended, width, inner))
    output = graph.linear(f"{scope}.output.dense", wide, inner, width)
    output = graph.node("Add", output, attended)
    return graph.layer_norm(f"{scope}.output.LayerNorm", output, width)


class _Weight(NamedTuple):
    """A float32 weight: filled with `value`, or drawn at random where that is None."""

    name: str
    shape: tuple[int, ...]
    value: float | None

    def values(self, rng: np.random.Generator) -> NDArray[np.float32]:
        if self.value is not None:
            return np.full(self.shape, self.value, np.float32)
        drawn = rng.standard_normal(self.shape, dtype=np.float32)
        drawn *= DEVIATION
        return drawn


class _Graph:
    """A graph being built as PyTorch's exporter of 2020 did, and the weights that belong to it.

    ONNX Runtime recognises layer norms, GELUs and attention by the nodes that the exporter made of
    them.
    """

    def __init__(self) -> None:
        axes: list[str | int | None] = ["batch_size", MAX_TOKENS]
        self.proto = helper.make_graph(
            [],
            "torch-jit-export",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in INPUTS],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in OUTPUTS],
        )
        self.weights: list[_Weight] = []

    def weight(self, name: str, *shape: int, value: float | None = None) -> str:
        self.weights.append(_Weight(name, shape, value))
        return name

    def constant(self, value: Any) -> str:
        """A node that holds integers as int64, all else as float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        return self.node("Constant", value=numpy_helper.from_array(array))

    def emit(self, op: str, sources: list[str], outputs: list[str], **attributes: Any) -> None:
        name = f"{op}_{len(self.proto.node)}"
        self.proto.node.append(helper.make_node(op, sources, outputs, name, **attributes))

    def node(self, op: str, *sources: str, **attributes: Any) -> str:
        """A node of one output, whose name is returned."""
        output = f"{op}_{len(self.proto.node)}"
        self.emit(op, list(sources), [output], **attributes)
        return output

    def size(self, source: str, axis: int) -> str:
        """The scalar size of an axis at run time."""
        return self.node("Gather", self.node("Shape", source), self.constant(axis), axis=0)

    def reshape(self, source: str, *sizes: int) -> str:
        """`source` [batch, length, ...] as [batch, length, *sizes]."""
        axes = [self.node("Unsqueeze", self.size(source, axis), axes=[0]) for axis in (0, 1)]
        axes += [self.constant([size]) for size in sizes]
        return self.node("Reshape", source, self.node("Concat", *axes, axis=0))

    def linear(self, scope: str, source: str, inputs: int, outputs: int) -> str:
        # The exporter transposes PyTorch's weight and gives it a number for a name.
        product = self.node("MatMul", source, self.weight(f"{scope}.weight.T", inputs, outputs))
        return self.node("Add", product, self.weight(f"{scope}.bias", outputs, value=0))

    def layer_norm(self, scope: str, source: str, width: int) -> str:
        centred = self.node("Sub", source, self.node("ReduceMean", source, axes=[-1]))
        squares = self.node("Pow", centred, self.constant(2.0))
        variance = self.node("ReduceMean", squares, axes=[-1])
        root = self.node("Sqrt", self.node("Add", variance, self.constant(EPSILON)))
        normal = self.node("Div", centred, root)
        scaled = self.node("Mul", normal, self.weight(f"{scope}.weight", width, value=1))
        return self.node("Add", scaled, self.weight(f"{scope}.bias", width, value=0))

    def gelu(self, source: str) -> str:
        error = self.node("Erf", self.node("Div", source, self.constant(math.sqrt(2))))
        grown = self.node("Mul", source, self.node("Add", error, self.constant(1.0)))
        return self.node("Mul", grown, self.constant(0.5))
