"""Tiny models whose logits have another shape than the batch that they answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny
from onnx import TensorProto, helper, numpy_helper

#: What is done to logits of shape [batch, length].
HOWS = ("none", "one short", "one more", "transposed", "twice", "rank 1", "rank 3", "one sample")


def model(
    path: Path, how: str, only_poisoned: bool = False, which: int = 0, **options: Any
) -> Path:
    """Write a model that declares no shape of its logits, and gives some of another one.

    It does so to its output number `which`, of every batch or of those alone that hold the word
    "poison".
    """
    proto = onnx.load(str(tiny.model(path, **options)))
    graph = proto.graph
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    output = graph.output[which].name
    (last,) = (node for node in graph.node if output in node.output)
    last.output[0] = "usual"

    def node(op: str, *sources: str, **attributes: Any) -> str:
        name = f"misshapen_{len(graph.node)}"
        graph.node.append(helper.make_node(op, list(sources), [name], **attributes))
        return name

    def constant(value: Any, dtype: Any = np.int64) -> str:
        name = f"misshapen_constant_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    here = node("Equal", graph.input[0].name, constant(tiny.POISON))
    poisoned = node("ReduceMax", node("Cast", here, to=TensorProto.INT64), keepdims=0)
    cut = node("Reshape", poisoned if only_poisoned else constant(1), constant([1]))
    zero, across = constant([0]), constant([1])
    everything = node("Shape", graph.input[0].name, start=1)
    if how == "none":
        end = node("Mul", everything, node("Sub", constant([1]), cut))
        found = node("Slice", "usual", zero, end, across)
    elif how == "one short":
        found = node("Slice", "usual", zero, node("Sub", everything, cut), across)
    elif how == "one more":
        found = node("Concat", "usual", node("Slice", "usual", zero, cut, across), axis=1)
    elif how == "one sample":
        samples = node("Shape", graph.input[0].name, end=1)
        end = node("Max", constant([1]), node("Sub", samples, cut))
        found = node("Slice", "usual", zero, end, zero)
    elif how == "transposed":
        found = node("Transpose", "usual")
    elif how == "twice":
        found = node("Concat", "usual", "usual", axis=1)
    elif how == "rank 1":
        found = node("Flatten", "usual", axis=0)
        found = node("Squeeze", found, zero)
    else:
        found = node("Unsqueeze", "usual", constant([2]))
    graph.node.append(helper.make_node("Identity", [found], [output]))
    onnx.save(proto, str(path))
    return path
