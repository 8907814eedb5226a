"""An ONNX file read without what its weights hold, in milliseconds however large it is.

A protobuf message is its fields one after another, each a key and a value, of which most begin with
their length (https://protobuf.dev/programming-guides/encoding/). So values can be passed over.
"""

from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import GraphProto, ModelProto, TensorProto

#: Where weights are: in a model its graph, in that its initializers.
WEIGHTS = (ModelProto.GRAPH_FIELD_NUMBER, GraphProto.INITIALIZER_FIELD_NUMBER)
#: Fields of a tensor that hold its values.
VALUES = frozenset(
    (
        *(TensorProto.RAW_DATA_FIELD_NUMBER, TensorProto.FLOAT_DATA_FIELD_NUMBER),
        *(TensorProto.INT32_DATA_FIELD_NUMBER, TensorProto.INT64_DATA_FIELD_NUMBER),
        *(TensorProto.DOUBLE_DATA_FIELD_NUMBER, TensorProto.UINT64_DATA_FIELD_NUMBER),
    )
)
#: The most bytes of values that are kept: those of shapes and scales.
MOST_KEPT = 1024

# How a field's value is written.
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}


def skim(path: Path) -> onnx.ModelProto:
    """The model at `path`, its larger weights without values; their names and shapes are there.

    OSError where the file can't be read, ValueError or protobuf's own error where it is no model.
    """
    with path.open("rb") as file:
        return onnx.load_model_from_string(_skim(file, path.stat().st_size, WEIGHTS))


def _skim(file: BinaryIO, end: int, inside: tuple[int, ...]) -> bytes:
    """The message up to `end`, without the values of the weights in its fields `inside`."""
    kept = bytearray()
    while file.tell() < end:
        key = _read_varint(file)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            kept += _varint(key) + _varint(_read_varint(file))
            continue
        size = _read_varint(file) if kind == _DELIMITED else _FIXED.get(kind)
        if size is None or file.tell() + size > end:
            raise ValueError("no protobuf message, or a truncated one")
        if kind == _DELIMITED and inside[:1] == (number,):
            message = _skim(file, file.tell() + size, inside[1:])
            kept += _varint(key) + _varint(len(message)) + message
        elif not inside and number in VALUES and size > MOST_KEPT:
            file.seek(size, 1)
        else:
            length = _varint(size) if kind == _DELIMITED else b""
            kept += _varint(key) + length + file.read(size)
    return bytes(kept)


def _read_varint(file: BinaryIO) -> int:
    """A whole number, seven bits a byte, the lowest first."""
    number = 0
    for index in range(10):
        byte = file.read(1)
        if not byte:
            raise ValueError("a truncated protobuf message")
        number |= (byte[0] & 127) << 7 * index
        if byte[0] < 128:
            return number
    raise ValueError("no protobuf message")


def _varint(number: int) -> bytes:
    """The number as `_read_varint` reads it."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes((*found, number))
