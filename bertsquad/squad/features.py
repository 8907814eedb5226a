"""Windows: what the model reads, whatever made them, and the file that keeps them.

A window is the question, a slice of its context, and the special tokens around both; it is never
padded. A context that doesn't fit gives several windows that overlap. A LoadGen sample is one
window; its index is its place in file order. What makes windows is a `reading`.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertsquad import arrays

#: The most tokens of a window, in MLPerf Inference (language/bert: max_seq_length) and, where
#: nobody asks for another number, in Hugging Face's `run_qa`.
MAX_TOKENS = 384

#: Part of the cache's key: to be raised whenever a reading makes something else of the same input.
FORMAT = 2


@dataclass(frozen=True)
class Inputs:
    """Windows, ragged, as far as a model reads them.

    Window `i` has the tokens `tokens[offsets[i]:offsets[i + 1]]`.
    """

    tokens: NDArray[np.int32]  # [sum of lengths]
    offsets: NDArray[np.int64]  # [windows + 1]
    segment_start: NDArray[np.int32]  # [windows], from here on segments are 1; or the length

    def __len__(self) -> int:
        return len(self.segment_start)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of every window, int64 [windows]."""
        return np.diff(self.offsets)

    def take(self, samples: Sequence[int] | NDArray[np.integer]) -> "Inputs":
        """These windows alone, in this order."""
        chosen = np.asarray(samples, np.int64)
        starts, ends = self.offsets[chosen], self.offsets[chosen + 1]
        slices = [self.tokens[start:end] for start, end in zip(starts, ends, strict=True)]
        tokens = np.concatenate(slices) if slices else self.tokens[:0]
        offsets = np.concatenate(([0], np.cumsum(ends - starts)))
        return Inputs(tokens, offsets.astype(np.int64), self.segment_start[chosen])

    def batch(
        self, samples: Sequence[int] | NDArray[np.integer], length: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, mask and segments of `samples`, int64 [samples, length].

        Padded with zeros to `length`, or to the longest of the samples where that is None.
        """
        lengths = [int(self.offsets[s + 1] - self.offsets[s]) for s in samples]
        shape = (len(lengths), length or max(lengths, default=0))
        ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (sample, n) in enumerate(zip(samples, lengths, strict=True)):
            start = self.offsets[sample]
            ids[row, :n] = self.tokens[start : start + n]
            mask[row, :n] = 1
            segments[row, self.segment_start[sample] : n] = 1
        return ids, mask, segments


@dataclass(frozen=True)
class Features(Inputs):
    """All windows of a data set, ragged: what the model and the search for answers need.

    The context slice of window `i` begins at the position `context_start[i]` of the window and at
    the token `doc_start[i]` of its context, and ends before the window's last token, a special one.
    Context `c` has `context_offsets[c + 1] - context_offsets[c]` tokens. A reading's own kind of
    features adds arrays with one number for each of those.
    """

    question: NDArray[np.int32]  # [windows], index into Dataset.questions
    context_start: NDArray[np.int32]  # [windows]
    doc_start: NDArray[np.int32]  # [windows]
    max_context: NDArray[np.bool_]  # [sum of lengths], may an answer start here?
    context_offsets: NDArray[np.int64]  # [contexts + 1]


def window_starts(tokens: int, room: int, step: int) -> range:
    """Where windows over a context of `tokens` begin, `step` apart, each with room for `room`.

    There are as many as are needed to reach the last token, and none where there is no token.
    """
    return range(0, max(tokens - room, 0) + step, step) if tokens else range(0)


#: How many texts, and characters of them, are tokenised at once: what that takes is dropped then.
AT_ONCE = 1000
CHARACTERS_AT_ONCE = 500_000


def portions(lengths: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Where the portions of texts of these `lengths` begin and end that are tokenised at once.

    A text that is too long for any portion is one of its own.
    """
    begin, end, characters = 0, 0, 0
    for length in lengths:
        if end > begin and (end - begin == AT_ONCE or characters + length > CHARACTERS_AT_ONCE):
            yield begin, end
            begin, characters = end, 0
        end, characters = end + 1, characters + length
    if end > begin:
        yield begin, end


class Growing:
    """Numbers of one type that come piece by piece, in one array that grows."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes) // self._dtype.itemsize

    def add(self, piece: bytes | NDArray[Any]) -> None:
        """Put a piece behind the others: an array of this type, or its bytes."""
        self._bytes += piece if isinstance(piece, bytes) else piece.tobytes()

    def array(self) -> NDArray[Any]:
        """All the numbers, not copied; from then on none can be added."""
        return np.frombuffer(self._bytes, self._dtype)


class Windows:
    """Windows that are being made, in arrays that grow: none of its own for each window."""

    def __init__(self) -> None:
        self._tokens, self._may_start = bytearray(), bytearray()
        self._lengths, self._question = array("i"), array("i")
        self._context_start, self._segment_start = array("i"), array("i")
        self._doc_start = array("i")

    def add(
        self,
        question: int,
        head: NDArray[np.int32],
        context: NDArray[np.int32],
        tail: NDArray[np.int32],
        *,
        doc_start: int,
        segment_start: int | None = None,
        may_start: NDArray[np.bool_] | None = None,
    ) -> None:
        """Put the window of the tokens `head`, `context` and `tail` behind the others.

        `segment_start` is where the context starts unless something else is given; an answer may
        start at each token of `context`, or where `may_start` says so.
        """
        before, inside, after = len(head), len(context), len(tail)
        self._tokens += head.tobytes() + context.tobytes() + tail.tobytes()
        allowed = b"\1" * inside if may_start is None else may_start.tobytes()
        self._may_start += b"\0" * before + allowed + b"\0" * after
        self._lengths.append(before + inside + after)
        self._context_start.append(before)
        self._segment_start.append(before if segment_start is None else segment_start)
        self._question.append(question)
        self._doc_start.append(doc_start)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of `Features` but for those of contexts, by name."""
        return {
            "tokens": np.frombuffer(self._tokens, np.int32),
            "offsets": np.concatenate(([0], np.cumsum(self._lengths, dtype=np.int64))),
            "question": np.frombuffer(self._question, np.int32),
            "context_start": np.frombuffer(self._context_start, np.int32),
            "segment_start": np.frombuffer(self._segment_start, np.int32),
            "doc_start": np.frombuffer(self._doc_start, np.int32),
            "max_context": np.frombuffer(self._may_start, np.bool_),
        }


def cache_key(dataset_file: Path, reading: str) -> str:
    """What names the cached features: the data set's content, the reading's key, and `FORMAT`."""
    digest = hashlib.sha256(f"features {FORMAT} {reading}".encode())
    with dataset_file.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def save(features: Features, path: Path) -> None:
    """Write `features` to the `.npz` file `path`, which appears whole or not at all."""
    arrays.save(features, path)


Kind = TypeVar("Kind", bound=Features)


def load(path: Path) -> Features:
    """The windows of what `save` wrote, whichever reading made them; errors as `load_as` has."""
    return load_as(Features, path)


def load_as(kind: type[Kind], path: Path) -> Kind:
    """Read what `save` wrote; LookupError if arrays are missing, ValueError if it is anything else.

    Either names the file. OSError where there is a file that can't be read.
    """
    try:
        found = arrays.load(kind, path)
        _check(found)
    except LookupError as error:
        raise LookupError(f"{path} is an older cache of features: {error}") from error
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{path} is not a cache of features: {error}") from error
    return found


def _check(found: Features) -> None:
    """Raise ValueError unless the arrays have the lengths that belong together."""
    windows, tokens = len(found.question), len(found.tokens)
    for offsets, total in ((found.offsets, tokens), (found.context_offsets, None)):
        if not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("the offsets don't rise from 0")
        if total is not None and offsets[-1] != total:
            raise ValueError("the offsets don't fit the tokens")
    expected = {
        "offsets": windows + 1,
        "context_start": windows,
        "segment_start": windows,
        "doc_start": windows,
        "max_context": tokens,
    }
    common = {field.name for field in fields(Features)}
    own = (field.name for field in fields(found) if field.name not in common)
    for name, length in (expected | dict.fromkeys(own, int(found.context_offsets[-1]))).items():
        if len(getattr(found, name)) != length:
            raise ValueError(f"{name} has {len(getattr(found, name))} numbers, not {length}")
