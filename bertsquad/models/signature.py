"""How an extractive-QA model is fed: its inputs and outputs by role, its fixed sizes, its products.

All of it is read from the ONNX file, without a runtime.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.models import outputs, values
from bertsquad.models.embedding import tables
from bertsquad.models.matching import WITH_TOKENISER, Tables, why_too_small
from bertsquad.models.onnx_file import load_model, weight_files
from bertsquad.models.reads import AS_MLPERF, Reads
from bertsquad.models.stored import Stored, look_at
from bertsquad.models.values import Values

Feed = Mapping[str, NDArray[Any]]
#: Opens a model file once; what it returns gives all outputs of the model for one feed.
Opener = Callable[[Path], Callable[[Feed], list[NDArray[Any]]]]

#: The ids that random windows are made of: every BERT vocabulary has them, and none is special.
RANDOM_IDS = (1000, 20_000)


@dataclass(frozen=True)
class Signature:
    """How a model is fed: the names of its inputs and outputs by role, and its fixed sizes.

    `segments` and `positions` are None for models without that input (DistilBERT has neither).
    `start` and `end` are the same for a model that gives both as columns of one output; where the
    graph doesn't tell which outputs these are, `candidates` are those that may be.
    `types` are NumPy's names of the inputs' types, `batch` and `length` are None where the axis is
    open, and `shared_positions` have one row for all windows. `outputs` are all outputs in the
    graph's order. `stored` says how the graph's matrix products are stored. It is `zero_sized`
    where an axis of an input has the size 0, as some exports write an open one. `reads` is what it
    was examined for.
    """

    ids: str
    mask: str
    segments: str | None
    start: str
    end: str
    types: Mapping[str, str] = field(hash=False)
    batch: int | None
    length: int | None
    stored: Stored = field(default_factory=Stored)
    zero_sized: bool = False
    positions: str | None = None
    shared_positions: bool = False
    candidates: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tables: Tables = field(default_factory=Tables)
    reads: Reads = AS_MLPERF

    @property
    def dtype(self) -> str:
        """The type of the inputs, for people; of each where they differ."""
        found = set(self.types.values())
        if len(found) == 1:
            return found.pop()
        return ", ".join(f"{name} {dtype}" for name, dtype in self.types.items())

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs."""
        found = (self.ids, self.mask, self.segments, self.positions)
        return tuple(name for name in found if name is not None)

    @property
    def stacked(self) -> bool:
        """Whether one output [batch, tokens, 2] holds start and end logits as its columns."""
        return self.start == self.end

    @property
    def wanted(self) -> list[str]:
        """The names of the outputs that hold logits, to be asked of a runtime."""
        return [self.start] if self.stacked else [self.start, self.end]

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
        """The arrays [batch, length] under the names and in the types that the model wants.

        Where the mask is 0, ids become those of padding. Nothing is copied that is right already.
        """
        if self.reads.layout.padding_id:
            ids = np.where(mask, ids, self.reads.layout.padding_id)
        feed = {self.ids: ids, self.mask: mask}
        if self.segments is not None:
            feed[self.segments] = segments
        if self.positions is not None:
            feed[self.positions] = self._positions(mask)
        return {name: array.astype(self.types[name], copy=False) for name, array in feed.items()}

    def feed_one(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """The same of one window, padded only where the model wants a fixed length or batch."""
        length = ids.shape[1]
        padding = ((0, 0), (0, (self.length or length) - length))
        arrays = (np.pad(array, padding) for array in (ids, mask, segments))
        ids, mask, segments = (np.repeat(array, self.batch or 1, axis=0) for array in arrays)
        return self.feed(ids, mask, segments)

    def _positions(self, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of the tokens that a mask [batch, length] shows, as `Layout` says."""
        first = self.reads.layout.first_position
        numbers = np.arange(first, first + mask.shape[1])
        if self.shared_positions:
            return numbers[None]
        return (
            np.where(mask, numbers, self.reads.layout.padding_id)
            if first
            else np.tile(numbers, (len(mask), 1))
        )

    def pick(self, found: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs `wanted` among all of the model's."""
        return [found[self.outputs.index(name)] for name in self.wanted]

    def logits(self, found: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Start and end logits [batch, length, 2] of the outputs `wanted`."""
        array = found[0] if self.stacked else np.stack(found, axis=-1)
        return array.astype(np.float32, copy=False)

    def random_ids(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.int64]:
        """Random ids that the model has, none of them padding."""
        lowest, highest = RANDOM_IDS
        rows = self.tables.words
        if rows is not None:
            lowest, highest = min(lowest, rows // 2), min(highest, rows)
        ids = rng.integers(lowest, highest, shape)
        other = highest - 1 if self.reads.layout.padding_id != highest - 1 else lowest
        return np.where(ids == self.reads.layout.padding_id, other, ids)

    def random_segments(self, segments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Segments of a random window, which are all 0 where the model knows one kind alone."""
        return segments * 0 if self.tables.segments == 1 else segments


def examine(path: Path, reads: Reads = AS_MLPERF) -> tuple[Signature, list[Path]]:
    """A model's signature, and the other files that hold weights of it.

    SuiteError says in what way it is no extractive-QA model, or can't be fed with what it `reads`,
    or which file is missing.
    """
    model = load_model(path, weights=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    # An old model lists its weights among its inputs.
    inputs = [value for value in model.graph.input if value.name not in constants]
    ids, mask, segments, positions = _input_names(path, inputs)
    types = _types(path, inputs, (ids, positions))
    dims = next(one for one in inputs if one.name == ids).type.tensor_type.shape.dim
    found = outputs.find(
        path, model.graph.output, dims[1] if len(dims) == 2 else None, reads.outputs
    )
    shared = _share_a_row(inputs, ids, positions)
    pair = [one for one in model.graph.output if one.name in (found.start, found.end)]
    sized = [*inputs, *([] if found.candidates else pair)]
    batch, length = _fixed_sizes(path, inputs, sized, positions if shared else None)
    refuse_short(path, length, reads.longest)
    rows = tables(model, ids, segments, positions)
    small = why_too_small(rows, reads.highest_id, reads.longest, reads.layout.first_position)
    if small is not None:
        raise SuiteError(f"{path} {small}")
    signature = Signature(
        *(ids, mask, segments, found.start, found.end, types, batch, length, look_at(model)),
        zero_sized=any(values.zero_sized(one) for one in inputs),
        positions=positions,
        shared_positions=shared,
        candidates=found.candidates,
        outputs=tuple(one.name for one in model.graph.output),
        tables=rows,
        reads=reads,
    )
    return signature, weight_files(path, model)


def _input_names(path: Path, inputs: Values) -> tuple[str, str, str | None, str | None]:
    """The names of the inputs for ids, mask, segments and positions."""
    names = [value.name for value in inputs]
    ids = _pick(path, names, "ids", exclude=("segment", "type", "position", "mask"))
    mask = _pick(path, names, "mask")
    roles: dict[str, str] = {}
    for name in names:
        if name not in (ids, mask):
            words = {"positions": ("position",), "segments": ("segment", "type")}
            role = next((r for r, of in words.items() if any(w in name.lower() for w in of)), "")
            if not role or role in roles:
                raise SuiteError(
                    f"{path}: expected the inputs ids, mask and at most segments and positions, "
                    f"found {', '.join(names)}"
                )
            roles[role] = name
    return ids, mask, roles.get("segments"), roles.get("positions")


def _types(path: Path, inputs: Values, numbers: tuple[str | None, ...]) -> dict[str, str]:
    """NumPy's names of the inputs' types; those of `numbers` hold ids or positions."""
    flags = values.WHOLE | values.SMALL | values.FLOATS
    types: dict[str, str] = {}
    for one in inputs:
        found = (values.WHOLE if one.name in numbers else flags).get(values.type_of(one))
        if found is None:
            raise SuiteError(
                f"{path}: expected ids and positions of an integer type of 32 or 64 bits, mask and "
                f"segments of an integer type, float or bool, found "
                f"{values.types_in_words(inputs)}"
            )
        types[one.name] = found
    return types


def _share_a_row(inputs: Values, ids: str, positions: str | None) -> bool:
    """Whether positions are given once for all windows of a batch."""
    first = {one.name: (values.axes(one) or [None])[0] for one in inputs}
    return positions is not None and first[positions] == 1 != first[ids]


def _fixed_sizes(
    path: Path, inputs: Values, sized: Values, shared: str | None
) -> tuple[int | None, int | None]:
    """The batch and the length that the inputs insist on, each None where it is open.

    `sized` are inputs and outputs; the batch is not that of the input `shared`.
    """
    # A model need not say the shape of its outputs.
    shaped = [one for one in sized if values.axes(one) or one in inputs]
    if any(len(values.axes(one)) != 2 for one in inputs):
        raise SuiteError(
            f"{path}: expected inputs and outputs of shape [batch, length], found "
            f"{values.shapes_in_words(shaped)}"
        )
    sizes: list[int | None] = []
    for axis in (0, 1):
        counted = [one for one in shaped if axis or one.name != shared]
        fixed = {values.axes(one)[axis] for one in counted if one in inputs} - {None}
        everywhere = {values.axes(one)[axis] for one in counted} - {None}
        if fixed and len(everywhere) > 1:
            raise SuiteError(
                f"{path}: its inputs and outputs have different fixed sizes: "
                f"{values.shapes_in_words(shaped)}"
            )
        sizes.append(next(iter(fixed), None))
    batch, length = sizes
    return batch, length


def refuse_short(path: Path, length: int | None, longest: int) -> None:
    """SuiteError where a model of a fixed length can't read the longest window."""
    if length is not None and length < longest:
        raise SuiteError(
            f"{path} reads exactly {length} tokens, but the windows have up to {longest}: give "
            f"--max-length {length}{WITH_TOKENISER}, or another model"
        )


def _pick(path: Path, names: list[str], word: str, exclude: tuple[str, ...] = ()) -> str:
    found = [
        name
        for name in names
        if word in name.lower() and not any(other in name.lower() for other in exclude)
    ]
    if len(found) != 1:
        raise SuiteError(
            f"{path}: expected one input with {word!r} in its name, found "
            f"{', '.join(names) or 'none'}"
        )
    return found[0]
