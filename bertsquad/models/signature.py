"""How an extractive-QA model is fed: its inputs and outputs by role, its fixed sizes, its products.

Read from the ONNX file, which no runtime is needed for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.models.products import PRODUCTS
from bertsquad.squad.features import MAX_TOKENS

#: The types in which logits may come.
FLOATS = frozenset((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE))

Feed = Mapping[str, NDArray[Any]]
#: Opens a model file once; what it returns gives all outputs of the model for one feed.
Opener = Callable[[Path], Callable[[Feed], list[NDArray[np.float32]]]]


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


def inspect(path: Path) -> Signature:
    """Read a model's signature; SuiteError says in what way it is no extractive-QA model."""
    return examine(path)[0]


def examine(path: Path) -> tuple[Signature, list[Path]]:
    """A model's signature, and the other files that hold weights of it, beside it and whole.

    Raises SuiteError where one isn't, or as `inspect` does.
    """
    model = load_graph(path)
    return _signature(path, model), _external_files(path, model)


def load_graph(path: Path) -> onnx.ModelProto:
    """An ONNX file without the data stored beside it; SuiteError if it is none."""
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


def _external_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The other files that hold weights; SuiteError unless they lie beside the model, whole."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not _is_beside(path, location):
            raise SuiteError(
                f"{path}: its weights should lie in a file in its own folder, but it names "
                f"{location!r:.200}: give a model that keeps them there"
            )
        try:
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        except ValueError as error:
            raise SuiteError(f"{path} is not an ONNX model, or is damaged: {error}") from error
        needed[location] = max(end, needed.get(location, 0))
    files = []
    for location, size in needed.items():
        file = path.parent / location
        try:
            found = file.stat().st_size if file.is_file() else None
        except OSError:  # a name that is too long
            found = None
        if found is None:
            raise SuiteError(
                f"{path} needs {str(file)[:300]}, which holds weights of it and is missing"
            )
        if found < size:
            raise SuiteError(
                f"{path} needs {file}, which is truncated: expected {size} bytes, found {found}"
            )
        files.append(file)
    return files


def _is_beside(path: Path, location: str) -> bool:
    """Whether `location` is below the folder of the model at `path`, links followed."""
    pure = PureWindowsPath(location)  # whose rules know all separators and drives
    if not location or pure.anchor or ".." in pure.parts:
        return False
    try:
        real = (path.parent / location).resolve()
    except (OSError, RuntimeError, ValueError):  # no path at all, or links in a circle
        return False
    # A model that is a link itself, as in Hugging Face's cache, has its weights where that points.
    return any(real.is_relative_to(at) for at in (path.parent.resolve(), path.resolve().parent))


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors that are stored in a model."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _tensors_in(function.node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_in(graph.node)


def _tensors_in(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of(graph)


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
        raise SuiteError(
            f"{path}: expected inputs of one integer type, int64 or int32, found {_types(inputs)}"
        )
    results = [value for value in model.graph.output if value.name in (start, end)]
    if not {value.type.tensor_type.elem_type for value in results} <= FLOATS:
        raise SuiteError(f"{path}: expected outputs of a float type, found {_types(results)}")
    # A model need not say the shape of its outputs.
    shaped = [*inputs, *(value for value in results if _axes(value))]
    if any(len(_axes(value)) != 2 for value in shaped):
        raise SuiteError(
            f"{path}: expected inputs and outputs of shape [batch, length], found {_shapes(shaped)}"
        )
    batch, length = ({_axes(value)[axis] for value in inputs} - {None} for axis in (0, 1))
    for axis, fixed in enumerate((batch, length)):
        everywhere = {_axes(value)[axis] for value in shaped} - {None}
        if len(fixed) > 1 or (fixed and everywhere != fixed):
            raise SuiteError(
                f"{path}: its inputs and outputs have different fixed sizes: {_shapes(shaped)}"
            )
    signature = Signature(
        ids,
        mask,
        rest[0] if rest else None,
        start,
        end,
        integers[kinds.pop()],
        next(iter(batch), None),
        next(iter(length), None),
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
            f"{path}: expected one {kind} with {word!r} in its name, found "
            f"{', '.join(names) or 'none'}"
        )
    return found[0]


def _types(values: Iterable[onnx.ValueInfoProto]) -> str:
    name = onnx.TensorProto.DataType.Name
    return ", ".join(f"{v.name} of {name(v.type.tensor_type.elem_type)}" for v in values)


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> str:
    return ", ".join(
        f"{value.name} [{', '.join('?' if n is None else str(n) for n in _axes(value))}]"
        for value in values
    )


def _axes(value: onnx.ValueInfoProto) -> list[int | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    ]
