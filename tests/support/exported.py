"""Tiny models as the exporters of Hugging Face's models write them, whose embeddings have limits.

A model answers with the start at each token that is `START` and the end at each that is `END`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROWS, POSITIONS, WIDTH = 300, 390, 8
START, END = 250, 251
NUMBERS: dict[str, int] = {
    **{name: TensorProto.DataType.Value(name.upper()) for name in ("int64", "int32", "bool")},
    **{name: TensorProto.DataType.Value(name.upper()) for name in ("uint8", "float16")},
    "float32": TensorProto.FLOAT,
}

#: How its table of words is stored.
STORED = ("initializer", "Constant", "half", "int8", "int8 after", "Identity", "function")


def model(
    path: Path,
    *,
    rows: int = ROWS,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    types: Mapping[str, str] | None = None,
    outputs: Sequence[str] = ("start_logits", "end_logits"),
    extras: Sequence[str] = (),
    floats: str = "float32",
    stored: str = "initializer",
    shapes: bool = True,
    sharp: float = 8.0,
    length: int | None = None,
    batch: int | None = None,
    shared_row: bool = False,
    opset: int = 17,
) -> Path:
    """Write a model.

    Where `inputs` have no positions, it counts them itself, from 0 on. Of two outputs the first
    holds the start's logits, one holds both; before them stand the `extras`: "hidden" of the shape
    [batch, tokens, 8], "pooled" [batch, 8], "attention" [batch, 1, tokens, tokens], "same", which
    is the start's logits again, and "flat", which has equal numbers [batch, tokens]. `stored` is
    one of `STORED`. Without `shapes` outputs don't declare any. `sharp` is how sure it is.
    """
    types = types or {}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    functions: list[onnx.FunctionProto] = []
    rng = np.random.default_rng(7)

    def node(op: str, *sources: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(sources), [f"{op}_{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def constant(value: Any, dtype: Any = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(constants)}"))
        return constants[-1].name

    def table(rows: int, seed: int) -> NDArray[np.float32]:
        return np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)

    ids, mask = inputs[:2]
    by_role = {name.split("_")[0]: name for name in inputs[2:]}
    words = table(rows, 1)
    words[:, :2] = 0
    if rows > END:
        words[START, 0] = words[END, 1] = sharp
    hidden = _embedded(words, node("Cast", ids, to=TensorProto.INT64), stored, node, constant)
    if stored == "function":
        opsets = [helper.make_opsetid("", opset)]
        inside = [helper.make_node("Gather", ["words", "ids"], ["found"])]
        functions.append(
            helper.make_function("own", "Embed", ["words", "ids"], ["found"], inside, opsets)
        )
    positions = by_role.get("position")
    if positions is None:
        sizes = node("Shape", ids)
        size = node("Gather", sizes, constant(1))
        positions = node("Range", constant(0), size, constant(1))
    else:
        positions = node("Cast", positions, to=TensorProto.INT64)
    places = table(POSITIONS, 2)
    places[:, :2] = rng.normal(size=(POSITIONS, 2)) / 100
    hidden = node("Add", hidden, node("Gather", constant(places, np.float32), positions))
    if "token" in by_role:
        kinds = table(2, 3)
        kinds[:, :2] = [[0.0, 0.0], [0.25, -0.25]]
        segments = node("Cast", by_role["token"], to=TensorProto.INT64)
        hidden = node("Add", hidden, node("Gather", constant(kinds, np.float32), segments))
    last, across = constant([2]), constant([1])
    real = node("Unsqueeze", node("Cast", mask, to=TensorProto.FLOAT), last)
    total = node("ReduceSum", node("Mul", hidden, real), across)
    mean = node("Div", total, node("ReduceSum", real, across))
    hidden = node("Add", hidden, node("Mul", mean, constant([0.01], np.float32)))
    head = np.zeros((WIDTH, 2), np.float32)
    head[:2, :2] = np.eye(2)
    answer = node("MatMul", hidden, constant(head, np.float32))
    if floats == "float16":
        answer = node("Cast", answer, to=TensorProto.FLOAT16)
    kind = NUMBERS[floats]

    made: dict[str, tuple[str, int, list[Any]]] = {}
    tokens: Any = length or "tokens"
    rows_of: Any = batch or "batch"
    first = node("Gather", answer, constant(0), axis=2)
    second = node("Gather", answer, constant(1), axis=2)
    scores = node("MatMul", hidden, node("Transpose", hidden, perm=[0, 2, 1]))
    others = {
        "hidden": (hidden, TensorProto.FLOAT, [rows_of, tokens, WIDTH]),
        "pooled": (node("Squeeze", mean, across), TensorProto.FLOAT, [rows_of, WIDTH]),
        "attention": (
            node("Unsqueeze", scores, across),
            TensorProto.FLOAT,
            [rows_of, 1, tokens, tokens],
        ),
        "same": (first, kind, [rows_of, tokens]),
        "flat": (
            node(
                "Cast", node("Mul", ids, node("Cast", constant(0), to=_type(types, ids))), to=kind
            ),
            kind,
            [rows_of, tokens],
        ),
    }
    for extra in extras:
        made[extra] = others[extra]
    if len(outputs) == 1:
        made[outputs[0]] = answer, kind, [rows_of, tokens, 2]
    for output, source in zip(outputs, (first, second), strict=False):
        made.setdefault(output, (source, kind, [rows_of, tokens]))
    for name, (source, _, _) in made.items():
        nodes.append(helper.make_node("Identity", [source], [name]))
    declared = []
    for name in inputs:
        axes = [1 if shared_row and name == by_role.get("position") else rows_of, tokens]
        declared.append(helper.make_tensor_value_info(name, _type(types, name), axes))
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "exported",
            declared,
            [
                helper.make_tensor_value_info(name, kind, axes if shapes else None)
                for name, (_, kind, axes) in made.items()
            ],
            constants,
        ),
        functions=functions,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("own", 1)],
        ir_version=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(path))
    return path


def fused(path: Path) -> Path:
    """Write a model of the operators that ONNX Runtime's optimiser makes of a BERT."""
    rng = np.random.default_rng(5)
    shapes = {
        **{"words": (ROWS, WIDTH), "places": (POSITIONS, WIDTH), "kinds": (2, WIDTH)},
        **{"gamma": (WIDTH,), "beta": (WIDTH,), "bias": (WIDTH,), "head": (WIDTH, 2)},
        **{"qkv": (WIDTH, 3 * WIDTH), "qkv_bias": (3 * WIDTH,)},
    }
    names = ("input_ids", "token_type_ids", "attention_mask")

    def own(op: str, sources: Sequence[str], made: Sequence[str], **more: Any) -> onnx.NodeProto:
        return helper.make_node(op, sources, made, domain="com.microsoft", **more)

    tables = ["words", "places", "kinds", "gamma", "beta"]
    nodes = [helper.make_node("Cast", [one], [f"{one}32"], to=TensorProto.INT32) for one in names]
    nodes += [
        own(
            "EmbedLayerNormalization",
            ["input_ids32", "token_type_ids32", *tables, "attention_mask32"],
            ["embedded", "lengths"],
        ),
        own("Attention", ["embedded", "qkv", "qkv_bias", "lengths"], ["attended"], num_heads=2),
        own(
            "SkipLayerNormalization",
            ["attended", "embedded", "gamma", "beta", "bias"],
            ["hidden"],
        ),
        own("BiasGelu", ["hidden", "bias"], ["activated"]),
        helper.make_node("MatMul", ["activated", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info(one, TensorProto.INT64, ["b", "n"]) for one in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "n", 2])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def _type(types: Mapping[str, str], name: str) -> int:
    return NUMBERS[types.get(name, "int64")]


def _embedded(words: NDArray[np.float32], ids: str, stored: str, node: Any, constant: Any) -> str:
    """The vectors of `ids`, of a table that is stored in some way."""
    if stored == "function":
        return str(node("Embed", constant(words, np.float32), ids, domain="own"))
    if stored == "Constant":
        table = node("Constant", value=numpy_helper.from_array(words))
    elif stored == "half":
        table = node("Cast", constant(words, np.float16), to=TensorProto.FLOAT)
    elif stored == "int8":
        scale, zero = constant(1 / 8, np.float32), constant(0, np.int8)
        table = node("DequantizeLinear", constant((words * 8).round(), np.int8), scale, zero)
    elif stored == "int8 after":
        scale, zero = constant(1 / 8, np.float32), constant(0, np.int8)
        chosen = node("Gather", constant((words * 8).round(), np.int8), ids)
        return str(node("DequantizeLinear", chosen, scale, zero))
    elif stored == "Identity":
        table = node("Identity", constant(words, np.float32))
    else:
        table = constant(words, np.float32)
    return str(node("Gather", table, ids))
