"""Tiny extractive-QA models of a few kilobytes of real ONNX, and a small data set to run on them.

Every model calculates what `logits` says, so that a test needs no runtime to know the answer.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bertsquad.models.calibration import Calibration
from bertsquad.models.signature import Signature, examine
from bertsquad.squad.features import Features
from bertsquad.squad.mlperf import MlperfReading
from bertsquad.squad.questions import load
from bertsquad.squad.tokenization import Vocabulary

SHARED = Path(__file__).resolve().parents[3] / "shared"
STANDINS = SHARED / "standins"

LENGTH = 384
ROWS, WIDTH = 97, 8
INPUTS = ("input_ids", "input_mask", "segment_ids")
OUTPUTS = ("output_start_logits", "output_end_logits")

_RNG = np.random.default_rng(20)
EMBEDDING = _RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
SEGMENT = _RNG.normal(size=WIDTH).astype(np.float32)
# Sixty-fourths of less than two, so that int8 at the scale 1/64 holds them exactly.
PRODUCT = (_RNG.integers(-100, 100, (WIDTH, 2)) / 64).astype(np.float32)
POSITION = _RNG.normal(size=(LENGTH, 1)).astype(np.float32)
# Two matrices whose product is PRODUCT, the first wide enough to be quantised.
WIDE = _RNG.normal(size=(WIDTH, 48)).astype(np.float32)
NARROW = (np.linalg.pinv(WIDE) @ PRODUCT).astype(np.float32)

#: A context word that stands for its own id, which `model(raises_on=POISON)` can't read.
POISON = 20
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] where is it ? stone river bridge tree".split() + [
    f"word{index}" for index in range(12, 30)
]
VOCABULARY[POISON] = "poison"


def logits(
    ids: NDArray[Any],
    mask: NDArray[Any],
    segments: NDArray[Any] | None,
    hardwired: bool = False,
) -> NDArray[np.float32]:
    """What a model answers to arrays [batch, length]: float32 [batch, length, 2]."""
    embedded = EMBEDDING[ids % ROWS]
    real = mask[..., None].astype(np.float32)
    hidden = embedded + (embedded * real).sum(1, keepdims=True) / real.sum(1, keepdims=True)
    if segments is not None:
        hidden = hidden + segments[..., None].astype(np.float32) * SEGMENT
    answer: NDArray[np.float32] = hidden @ PRODUCT
    return answer + POSITION[: ids.shape[1]] if hardwired else answer


def model(
    path: Path,
    *,
    batch: int | None = None,
    length: int | None = None,
    dtype: str = "int64",
    inputs: tuple[str, ...] = INPUTS,
    outputs: tuple[str, ...] = OUTPUTS,
    hardwired: bool = False,
    unmasked: bool = False,
    nan_when_short: bool = False,
    raises_on: int | None = None,
    quantised: bool = False,
    wide: bool = False,
    half: bool = False,
    product: bool = True,
    external: bool = False,
    slow: bool = False,
) -> Path:
    """Write a model to `path`. None leaves an axis open; two `inputs` mean no segments.

    `hardwired` adds a constant of 384 positions; `unmasked` averages the padding too, so that the
    answer depends on it; `nan_when_short` spoils the end logits of what is shorter than 384;
    `raises_on` is an id at which the model fails at run time; `quantised` and `half` hold the
    product in int8 and half precision; `wide` makes two products of it, the first of which the
    suite quantises; without `product` it multiplies no matrix; `external` puts its weights into a
    file beside it; `slow` makes every batch cost some milliseconds, whatever its size.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def node(op: str, *sources: str, **attributes: Any) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(sources), [name], **attributes))
        return name

    def constant(value: Any, dtype: Any = np.int64) -> str:
        name = f"constant_{len(constants)}"
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    ids = node("Cast", inputs[0], to=TensorProto.INT64)
    row = node("Mod", ids, constant(ROWS))
    if raises_on is not None:
        poisoned = node("Cast", node("Equal", ids, constant(raises_on)), to=TensorProto.INT64)
        row = node("Add", row, node("Mul", poisoned, constant(10**6)))
    embedded = node("Gather", constant(EMBEDDING, np.float32), row)

    last, across = constant([2]), constant([1])
    real = node("Unsqueeze", node("Cast", inputs[1], to=TensorProto.FLOAT), last)
    if unmasked:
        real = node("Add", node("Mul", real, constant(0, np.float32)), constant(1, np.float32))
    total = node("ReduceSum", node("Mul", embedded, real), across)
    hidden = node("Add", embedded, node("Div", total, node("ReduceSum", real, across)))
    if len(inputs) > 2:
        segment = node("Unsqueeze", node("Cast", inputs[2], to=TensorProto.FLOAT), last)
        hidden = node("Add", hidden, node("Mul", segment, constant(SEGMENT, np.float32)))

    if quantised:
        activation, weight = constant(1 / 16, np.float32), constant(1 / 64, np.float32)
        zero = constant(0, np.int8)
        stored = constant(PRODUCT * 64, np.int8)
        answer = node(
            "MatMul",
            node(
                "DequantizeLinear",
                node("QuantizeLinear", hidden, activation, zero),
                activation,
                zero,
            ),
            node("DequantizeLinear", stored, weight, zero),
        )
    elif half:
        halved = node("Cast", hidden, to=TensorProto.FLOAT16)
        answer = node("MatMul", halved, constant(PRODUCT, np.float16))
        answer = node("Cast", answer, to=TensorProto.FLOAT)
    elif wide:
        middle = node("MatMul", hidden, constant(WIDE, np.float32))
        answer = node("MatMul", middle, constant(NARROW, np.float32))
    elif product:
        answer = node("MatMul", hidden, constant(PRODUCT, np.float32))
    else:
        answer = node("Gather", hidden, constant([0, 1]), axis=2)
    if hardwired:
        answer = node("Add", answer, constant(POSITION, np.float32))
    if slow:
        work = node("ReduceSum", node("RandomNormal", shape=[200, 1000]), keepdims=0)
        answer = node("Add", answer, node("Mul", work, constant(0, np.float32)))

    for index, output in enumerate(outputs):
        source = node("Gather", answer, constant(index % 2), axis=2)
        if nan_when_short and index == 1:
            size = node("Cast", node("Shape", ids, start=1), to=TensorProto.FLOAT)
            root = node("Sqrt", node("Sub", size, constant(LENGTH, np.float32)))
            source = node("Add", source, root)
        nodes.append(helper.make_node("Identity", [source], [output]))

    axes = [batch or "batch_size", length or "length"]
    kind = {"int64": TensorProto.INT64, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(name, kind[dtype], axes) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in outputs],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside: dict[str, Any] = {}
    if external:
        beside = {"location": f"{path.name}.data", "size_threshold": 64}
    onnx.save(proto, str(path), save_as_external_data=external, **beside)
    return path


def inspect(path: Path) -> Signature:
    """The signature of the model at `path`."""
    return examine(path)[0]


def calibration(key: str = "some", lengths: tuple[int, ...] = (20, 33, 50)) -> Calibration:
    """Windows of random ids, without padding, to quantise a `wide` model with."""
    rng = np.random.default_rng(4)
    windows = []
    for length in lengths:
        ids = rng.integers(1000, 20_000, (1, length))
        segments = np.arange(length)[None] // (length // 2)
        windows.append((ids, np.ones_like(ids), segments.clip(0, 1)))
    return Calibration(key, f"{len(windows)} windows", tuple(windows))


def build_features(folder: Path, questions: int = 29, poisoned: int | None = None) -> Features:
    """Windows of a data set with one question a context, each context longer than the last.

    The last context gives two windows, of which the first is full (384 tokens), so there is one
    window more than questions. The context of the question `poisoned` holds the word "poison".
    """
    words = VOCABULARY[8:POISON] + VOCABULARY[POISON + 1 :]
    paragraphs = []
    for index in range(questions):
        count = 5 * index + 3 if index < questions - 1 else 450
        context = [words[(index + 3 * place) % len(words)] for place in range(count)]
        if index == poisoned:
            context[1] = "poison"
        paragraphs.append(
            {
                "context": " ".join(context),
                "qas": [
                    {
                        "id": f"q{index}",
                        "question": "where is it ?",
                        "answers": [{"text": context[0], "answer_start": 0}],
                    }
                ],
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    dataset, vocabulary = folder / "tiny.json", folder / "vocab.txt"
    document = {"version": "1.1", "data": [{"title": "tiny", "paragraphs": paragraphs}]}
    dataset.write_text(json.dumps(document), encoding="utf-8")
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return MlperfReading(Vocabulary(vocabulary)).build(load(dataset))


def answers(built: Features, hardwired: bool = False, segments: bool = True) -> list[Any]:
    """What a model answers to every window: a list of float32 [the window's length, 2]."""
    found = []
    for sample in range(len(built)):
        ids, mask, kinds = built.batch([sample])
        found.append(logits(ids, mask, kinds if segments else None, hardwired)[0])
    return found
