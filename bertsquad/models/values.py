"""What a graph says of its inputs and outputs: their types, and the sizes of their axes."""

from collections.abc import Sequence

import onnx

_TYPES = onnx.TensorProto.DataType

#: NumPy's names of the types that a model may be fed with, by ONNX's numbers.
WHOLE = {_TYPES.Value(name.upper()): name for name in ("int64", "int32", "uint64", "uint32")}
SMALL = {_TYPES.Value(name.upper()): name for name in ("int16", "int8", "uint16", "uint8", "bool")}
FLOATS = {_TYPES.FLOAT: "float32", _TYPES.FLOAT16: "float16", _TYPES.DOUBLE: "float64"}

Values = Sequence[onnx.ValueInfoProto]


def type_of(value: onnx.ValueInfoProto) -> int:
    """ONNX's number of a value's element type."""
    return int(value.type.tensor_type.elem_type)


def axes(value: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of a value's axes, None where one is open: named, unknown, -1 or 0."""
    return [
        dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim
    ]


def has_shape(value: onnx.ValueInfoProto) -> bool:
    """Whether the graph says how many axes a value has."""
    return bool(value.type.tensor_type.HasField("shape"))


def zero_sized(value: onnx.ValueInfoProto) -> bool:
    """Whether an axis of a value is said to have the size 0."""
    dims = value.type.tensor_type.shape.dim
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in dims)


def types_in_words(values: Values) -> str:
    """The names of values with their types, for people."""
    return ", ".join(f"{one.name} of {_TYPES.Name(type_of(one))}" for one in values)


def shapes_in_words(values: Values) -> str:
    """The names of values with the sizes of their axes, for people."""
    return ", ".join(
        f"{one.name} [{', '.join('?' if size is None else str(size) for size in axes(one))}]"
        for one in values
    )
