"""How an extractive-QA model is fed: its inputs and outputs by role, its fixed sizes, its products.

All of it is read from the ONNX file, without a runtime.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.models.onnx_file import load_model, weight_files
from bertsquad.models.stored import Stored, look_at
from bertsquad.squad.features import MAX_TOKENS

#: The types that ids, mask and segments may have, and NumPy's names of them.
INTEGERS: dict[int, str] = {onnx.TensorProto.INT64: "int64", onnx.TensorProto.INT32: "int32"}
#: The types that logits may have.
FLOATS = frozenset((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE))

Values = Sequence[onnx.ValueInfoProto]
Feed = Mapping[str, NDArray[Any]]
#: Opens a model file once; what it returns gives all outputs of the model for one feed.
Opener = Callable[[Path], Callable[[Feed], list[NDArray[np.float32]]]]


@dataclass(frozen=True)
class Signature:
    """How a model is fed: the names of its inputs and outputs by role, and its fixed sizes.

    `segments` is None for models without that input (DistilBERT); `batch` and `length` are None
    where the axis is open. `stored` says how the graph's matrix products are stored. It is
    `zero_sized` where an axis of an input has the size 0, as some exports write an open one.
    """

    ids: str
    mask: str
    segments: str | None
    start: str
    end: str
    dtype: str
    batch: int | None
    length: int | None
    stored: Stored = field(default_factory=Stored)
    zero_sized: bool = False

    @property
    def products(self) -> int:
        """How many matrix products the graph holds."""
        return self.stored.products

    @property
    def quantised(self) -> int:
        """How many of them are quantised."""
        return self.stored.quantised

    @property
    def half(self) -> int:
        """How many of them are in half precision."""
        return self.stored.half

    def feed(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """The arrays [batch, length] under the names and in the type that the model wants."""
        feed = {self.ids: ids, self.mask: mask}
        if self.segments is not None:
            feed[self.segments] = segments
        return {name: array.astype(self.dtype, copy=False) for name, array in feed.items()}


def examine(path: Path) -> tuple[Signature, list[Path]]:
    """A model's signature, and the other files that hold weights of it.

    SuiteError says in what way it is no extractive-QA model, or which file is missing.
    """
    model = load_model(path, weights=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    # An old model lists its weights among its inputs.
    inputs = [value for value in model.graph.input if value.name not in constants]
    ids, mask, segments = _input_names(path, inputs)
    output_names = [value.name for value in model.graph.output]
    start, end = (_pick(path, "output", output_names, word) for word in ("start", "end"))
    outputs = [value for value in model.graph.output if value.name in (start, end)]
    dtype = _integer_type(path, inputs, outputs)
    batch, length = _fixed_sizes(path, inputs, outputs)
    nothing = any(_is_zero(dim) for value in inputs for dim in value.type.tensor_type.shape.dim)
    names = ids, mask, segments, start, end
    signature = Signature(*names, dtype, batch, length, look_at(model), nothing)
    return signature, weight_files(path, model)


def _input_names(path: Path, inputs: Values) -> tuple[str, str, str | None]:
    """The names of the inputs for ids, mask and segments."""
    names = [value.name for value in inputs]
    ids = _pick(path, "input", names, "ids", exclude=("segment", "type", "position"))
    mask = _pick(path, "input", names, "mask")
    rest = [name for name in names if name not in (ids, mask)]
    if not rest:
        return ids, mask, None
    if len(rest) > 1 or not any(word in rest[0].lower() for word in ("segment", "type")):
        raise SuiteError(
            f"{path}: expected the inputs ids, mask and at most segments, found {', '.join(names)}"
        )
    return ids, mask, rest[0]


def _integer_type(path: Path, inputs: Values, outputs: Values) -> str:
    """NumPy's name of the one type of all inputs; outputs must be floats."""
    types = {value.type.tensor_type.elem_type for value in inputs}
    if len(types) != 1 or not types <= set(INTEGERS):
        raise SuiteError(
            f"{path}: expected inputs of one integer type, int64 or int32, found {_types(inputs)}"
        )
    if not {value.type.tensor_type.elem_type for value in outputs} <= FLOATS:
        raise SuiteError(f"{path}: expected outputs of a float type, found {_types(outputs)}")
    return INTEGERS[types.pop()]


def _fixed_sizes(path: Path, inputs: Values, outputs: Values) -> tuple[int | None, int | None]:
    """The batch and the length that the inputs insist on, each None where it is open."""
    # A model need not say the shape of its outputs.
    shaped = [*inputs, *(value for value in outputs if _axes(value))]
    if any(len(_axes(value)) != 2 for value in shaped):
        raise SuiteError(
            f"{path}: expected inputs and outputs of shape [batch, length], found {_shapes(shaped)}"
        )
    sizes: list[int | None] = []
    for axis in (0, 1):
        fixed = {_axes(value)[axis] for value in inputs} - {None}
        everywhere = {_axes(value)[axis] for value in shaped} - {None}
        if fixed and len(everywhere) > 1:
            raise SuiteError(
                f"{path}: its inputs and outputs have different fixed sizes: {_shapes(shaped)}"
            )
        sizes.append(next(iter(fixed), None))
    batch, length = sizes
    if length is not None and length < MAX_TOKENS:
        raise SuiteError(
            f"{path} reads exactly {length} tokens, but SQuAD's windows have up to {MAX_TOKENS}"
        )
    return batch, length


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


def _types(values: Values) -> str:
    name = onnx.TensorProto.DataType.Name
    return ", ".join(f"{v.name} of {name(v.type.tensor_type.elem_type)}" for v in values)


def _shapes(values: Values) -> str:
    return ", ".join(
        f"{value.name} [{', '.join('?' if n is None else str(n) for n in _axes(value))}]"
        for value in values
    )


def _axes(value: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of a value's axes, None where one is open: named, unknown, -1 or 0."""
    return [
        dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim
    ]


def _is_zero(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return dim.HasField("dim_value") and dim.dim_value == 0
