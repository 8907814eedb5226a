"""Which of a model's outputs hold the start and the end logits.

Names say it for most models. Where they don't, the outputs of the right shape are candidates, which
questions with known answers tell apart (`asking.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from bertsquad.errors import SuiteError
from bertsquad.models import values
from bertsquad.models.values import Values

#: What is in the names of outputs with start and with end logits.
WORDS = ("start", "end")


@dataclass(frozen=True)
class Outputs:
    """The names of the outputs with the start and the end logits.

    They are the same where one output [batch, tokens, 2] holds both as its columns. Where names
    and shapes don't tell, there are `candidates`, and the two names are only the first of these.
    """

    start: str
    end: str
    candidates: tuple[str, ...] = ()


def find(
    path: Path,
    outputs: Values,
    length: onnx.TensorShapeProto.Dimension | None,
    asked: tuple[str, str] | None = None,
) -> Outputs:
    """The outputs of the model at `path` with its logits, by their names and shapes.

    `length` is the sequence axis of its inputs; `asked` are the names that the user gave. Raises
    SuiteError where no outputs can be those.
    """
    by_name = {one.name: one for one in outputs}
    if asked is not None:
        return _as_asked(path, by_name, length, asked)
    fitting = [one for one in outputs if _may_be_pair(one, length)]
    for among in (outputs, fitting):
        starts, ends = ([one.name for one in among if word in one.name.lower()] for word in WORDS)
        if len(starts) == len(ends) == 1 and starts != ends:
            _check_pair(path, [by_name[starts[0]], by_name[ends[0]]])
            return Outputs(starts[0], ends[0])
    stacked = [one for one in outputs if _may_be_stacked(one, length)]
    sure = [one for one in stacked if values.has_shape(one) and values.axes(one)[2] == 2]
    told = [one for one in fitting if values.has_shape(one)]
    if len(sure) == 1 and len(told) < 2:
        return Outputs(sure[0].name, sure[0].name)
    names = [one.name for one in outputs if one in fitting or one in stacked]
    if len(told) == len(names) == 2 and len(starts) + len(ends) == 1:
        # The one that has no such word is the other.
        other = next(name for name in names if name not in (*starts, *ends))
        return Outputs((starts or [other])[0], (ends or [other])[0])
    if len(told) < 2 and len(names) == len(told):
        raise SuiteError(
            f"{path}: expected one output with 'start' and one with 'end' in its name, two outputs "
            f"of shape [batch, tokens] or one of [batch, tokens, 2], found "
            f"{values.shapes_in_words(outputs) or 'none'}"
        )
    return Outputs(names[0], names[-1], tuple(names))


def _as_asked(
    path: Path,
    outputs: Mapping[str, onnx.ValueInfoProto],
    length: onnx.TensorShapeProto.Dimension | None,
    asked: tuple[str, str],
) -> Outputs:
    """The outputs that the user named; SuiteError where they can't be logits."""
    missing = [name for name in asked if name not in outputs]
    if missing:
        raise SuiteError(
            f"{path} has no output {missing[0]!r}: give --outputs START,END with names among "
            f"{', '.join(outputs)}"
        )
    start, end = asked
    fits = _may_be_stacked if start == end else _may_be_pair
    wrong = [outputs[name] for name in asked if not fits(outputs[name], length)]
    if wrong:
        expected = "one of [batch, tokens, 2]" if start == end else "two of [batch, tokens]"
        raise SuiteError(
            f"{path}: expected float outputs for the start and the end logits, {expected}, but "
            f"--outputs names {values.shapes_in_words(wrong[:1])}, "
            f"{values.types_in_words(wrong[:1])}: give others of {', '.join(outputs)}"
        )
    return Outputs(start, end)


def _check_pair(path: Path, pair: Values) -> None:
    """SuiteError unless outputs that are called start and end may be logits."""
    if not {values.type_of(one) for one in pair} <= values.FLOATS.keys():
        raise SuiteError(
            f"{path}: expected outputs of a float type, found {values.types_in_words(pair)}"
        )
    # A model need not say the shape of its outputs.
    if any(len(values.axes(one)) not in (0, 2) for one in pair):
        raise SuiteError(
            f"{path}: expected outputs of shape [batch, length], found "
            f"{values.shapes_in_words(pair)}"
        )


def _may_be_pair(
    value: onnx.ValueInfoProto, length: onnx.TensorShapeProto.Dimension | None
) -> bool:
    """Whether a value may be the start or the end logits, [batch, tokens]."""
    if values.type_of(value) not in values.FLOATS:
        return False
    dims = value.type.tensor_type.shape.dim
    return not values.has_shape(value) or (len(dims) == 2 and _may_be_tokens(dims[1], length))


def _may_be_stacked(
    value: onnx.ValueInfoProto, length: onnx.TensorShapeProto.Dimension | None
) -> bool:
    """Whether a value may hold start and end logits as its columns, [batch, tokens, 2]."""
    if values.type_of(value) not in values.FLOATS:
        return False
    dims = value.type.tensor_type.shape.dim
    if not values.has_shape(value):
        return True
    return len(dims) == 3 and values.axes(value)[2] in (None, 2) and _may_be_tokens(dims[1], length)


def _may_be_tokens(
    axis: onnx.TensorShapeProto.Dimension, length: onnx.TensorShapeProto.Dimension | None
) -> bool:
    """Whether an axis of an output may be the sequence axis `length` of the inputs."""
    if axis.dim_value <= 0 or length is None:
        return True
    return axis.dim_value == length.dim_value
