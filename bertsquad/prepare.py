"""A model file made ready to run: its inputs matched, a needlessly fixed signature relaxed.

MLPerf's models were exported with a sequence axis of 384, though nothing in them needs it; at the
data's own lengths they do less than half the work. Such a model is copied once with the axis left
open, and the copy is believed only after it gave the same logits as the original.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from bertsquad import assets
from bertsquad.errors import SuiteError
from bertsquad.features import MAX_TOKENS
from bertsquad.files import write_whole

#: Part of the names in the cache: to be raised whenever preparation does something else.
FORMAT = 1
#: How far the logits of a relaxed model may be from those of the original.
TOLERANCE = 1e-3
#: The lengths at which the two are compared.
PROOF_LENGTHS = (16, 61, 128, 200, 383)

#: The operators that hold a BERT's work.
PRODUCTS = frozenset(
    """Attention DynamicQuantizeMatMul FusedGemm FusedMatMul Gemm MatMul MatMulInteger
    MatMulIntegerToFloat MultiHeadAttention PackedAttention QAttention QGemm
    QLinearMatMul""".split()
)

Feed = Mapping[str, NDArray[Any]]
#: Runs a model file on some feeds; each result is the outputs of one feed.
Runner = Callable[[Path, list[Feed]], list[list[NDArray[np.float32]]]]


@dataclass(frozen=True)
class Signature:
    """How a model is fed: the names of its inputs and outputs by role, and its fixed sizes.

    `segments` is None for models without that input (DistilBERT); `batch` and `length` are None
    where the axis is open. Of the graph's matrix products, `quantised` have inputs that are all
    quantised, `half` some that are stored in half precision.
    """

    ids: str
    mask: str
    segments: str | None
    start: str
    end: str
    dtype: str
    batch: int | None
    length: int | None
    products: int = 0
    quantised: int = 0
    half: int = 0

    def feed(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """The arrays [batch, length] under the names and in the type that the model wants."""
        feed = {self.ids: ids, self.mask: mask}
        if self.segments is not None:
            feed[self.segments] = segments
        if self.dtype != "int64":
            return {name: array.astype(self.dtype) for name, array in feed.items()}
        return feed


@dataclass(frozen=True)
class Prepared:
    """The file to run, how to feed it, and what was done to it, in words for the user."""

    path: Path
    signature: Signature
    note: str


def inspect(path: Path) -> Signature:
    """Read a model's signature; SuiteError says in what way it is no extractive-QA model."""
    return _signature(path, _load(path))


def _load(path: Path) -> onnx.ModelProto:
    try:
        if path.stat().st_size == 0:
            raise SuiteError(f"{path} is empty")
        return onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror}") from error
    except SuiteError:
        raise
    except Exception as error:  # protobuf's DecodeError has no public home
        raise SuiteError(f"{path} is not an ONNX model, or is truncated") from error


def _signature(path: Path, model: onnx.ModelProto) -> Signature:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    names = [value.name for value in inputs]
    ids = _pick(path, "input", names, "ids", exclude=("segment", "type", "position"))
    mask = _pick(path, "input", names, "mask")
    rest = [name for name in names if name not in (ids, mask)]
    if len(rest) > 1 or (rest and not any(word in rest[0].lower() for word in ("segment", "type"))):
        raise SuiteError(
            f"{path}: expected the inputs ids, mask and at most segments, found {', '.join(names)}"
        )
    outputs = [value.name for value in model.graph.output]
    start = _pick(path, "output", outputs, "start")
    end = _pick(path, "output", outputs, "end")
    kinds = {value.type.tensor_type.elem_type for value in inputs}
    integers = {onnx.TensorProto.INT64: "int64", onnx.TensorProto.INT32: "int32"}
    if len(kinds) != 1 or not kinds <= set(integers):
        raise SuiteError(f"{path}: expected inputs of one integer type, int64 or int32")
    shapes = {tuple(_axes(value)) for value in inputs}
    if any(len(shape) != 2 for shape in shapes):
        raise SuiteError(f"{path}: expected inputs of shape [batch, length]")
    batch, length = ({shape[axis] for shape in shapes} - {None} or {None} for axis in (0, 1))
    if len(batch) != 1 or len(length) != 1:
        raise SuiteError(f"{path}: its inputs have different fixed sizes")
    signature = Signature(
        ids,
        mask,
        rest[0] if rest else None,
        start,
        end,
        integers[kinds.pop()],
        batch.pop(),
        length.pop(),
        **_count_products(model.graph),
    )
    if signature.length is not None and signature.length < MAX_TOKENS:
        raise SuiteError(
            f"{path} reads exactly {signature.length} tokens, but SQuAD's windows have up to "
            f"{MAX_TOKENS}"
        )
    return signature


def _count_products(graph: onnx.GraphProto) -> dict[str, int]:
    """How many matrix products the graph has, and how many of them are not in fp32."""
    dequantised = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    halves = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    }
    counts = {"products": 0, "quantised": 0, "half": 0}
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        counts["products"] += 1
        integer = "Integer" in node.op_type or node.op_type.startswith("Q")
        counts["quantised"] += integer or dequantised.issuperset(node.input[:2])
        counts["half"] += not halves.isdisjoint(node.input)
    return counts


def _pick(path: Path, kind: str, names: list[str], word: str, exclude: tuple[str, ...] = ()) -> str:
    found = [
        name
        for name in names
        if word in name.lower() and not any(other in name.lower() for other in exclude)
    ]
    if len(found) != 1:
        raise SuiteError(
            f"{path}: expected one {kind} with {word!r} in its name, found {', '.join(names)}"
        )
    return found[0]


def _axes(value: onnx.ValueInfoProto) -> list[int | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    ]


def prepare(path: Path, key: str, run: Runner) -> Prepared:
    """Make the model at `path` ready, from the cache where that was done before.

    `key` names the model's content (its checksum); `run` is used for the proof only.
    """
    signature = inspect(path)
    if signature.length is None:
        return Prepared(path, signature, "as it is")
    model = _load(path)
    relaxed = Prepared(
        assets.cache_folder() / "prepared" / f"{key}-{FORMAT}.onnx",
        replace(signature, length=None),
        f"sequence axis opened (was {signature.length}), logits proven equal",
    )
    padded = Prepared(
        path, signature, f"needs {signature.length} tokens always, so every sample is padded"
    )
    if any(tensor.external_data for tensor in model.graph.initializer):
        return padded  # the copy would lose sight of the data beside the original
    verdict_file = relaxed.path.with_suffix(".json")
    with assets.lock(relaxed.path.name):
        equal = _read_verdict(verdict_file)
        if equal is None or (equal and not relaxed.path.is_file()):
            write_whole(relaxed.path, lambda file: onnx.save(_relaxed(model, signature), file))
            difference = _difference(path, signature, relaxed, run)
            equal = difference is not None and difference <= TOLERANCE
            if not equal:
                relaxed.path.unlink()
            verdict = json.dumps({"equal": equal, "largest_difference": difference})
            write_whole(verdict_file, lambda file: file.write_text(verdict, encoding="utf-8"))
    return relaxed if equal else padded


def _relaxed(model: onnx.ModelProto, signature: Signature) -> onnx.ModelProto:
    """`model` with the sequence axis of its inputs and outputs left open."""
    wanted = (signature.ids, signature.mask, signature.segments, signature.start, signature.end)
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in wanted and len(dims) >= 2:
            dims[1].dim_param = "seq_len"
    del model.graph.value_info[:]
    return model


def _difference(path: Path, signature: Signature, relaxed: Prepared, run: Runner) -> float | None:
    """The largest difference between the logits of the two, None where the copy doesn't run."""
    rng = np.random.default_rng(0)
    full, short = [], []
    for length in PROOF_LENGTHS:
        shape = (signature.batch or 2, signature.length or MAX_TOKENS)
        ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
        # Ids that every BERT vocabulary has, its special ones left out.
        ids[:, :length] = rng.integers(1000, 20_000, (shape[0], length))
        mask[:, :length] = 1
        segments[:, length // 3 : length] = 1
        full.append(signature.feed(ids, mask, segments))
        short.append(signature.feed(ids[:, :length], mask[:, :length], segments[:, :length]))
    expected = run(path, cast(list[Feed], full))
    try:
        found = run(relaxed.path, cast(list[Feed], short))
    except MemoryError:
        raise  # says nothing of the model, so it must not be remembered
    except Exception:  # ONNX Runtime's exceptions have no common base; any means "can't be opened"
        return None
    differences = [
        np.abs(want[:, : got.shape[1]] - got).max()
        for wants, gots in zip(expected, found, strict=True)
        for want, got in zip(wants, gots, strict=True)
    ]
    return float(np.max(differences))  # NaN where any is


def _read_verdict(path: Path) -> bool | None:
    try:
        return bool(json.loads(path.read_bytes())["equal"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
