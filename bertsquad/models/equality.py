"""Whether a changed copy of a model gives the logits of the original, on the same windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.assets.cache import Facts
from bertsquad.errors import out_of_memory
from bertsquad.models.signature import Feed, Opener, Signature

#: The largest difference that the logits of an opened model may have from the original's.
TOLERANCE = 1e-3
#: The same for a model in half precision, as a part of the largest logit.
HALF_TOLERANCE = 0.02
#: The lengths at which models are compared.
PROOF_LENGTHS = (16, 61, 128, 200, 383)


@dataclass(frozen=True)
class Equal:
    """The facts of a model that was compared with the original's."""

    equal: bool


@dataclass(frozen=True)
class Compared(Equal):
    """The same, with the largest difference of a logit; None where the model fails."""

    largest_difference: float | None


def compare(
    before: tuple[Path, Signature],
    after: tuple[Path, Signature],
    open_model: Opener,
    tolerance: float,
    relative: bool = False,
) -> Facts:
    """Whether two models give equal logits, and their largest difference.

    It is None where the second model fails, and in parts of the largest logit where `relative`. The
    first model may have a fixed length and is padded to it.
    """

    def answers(path: Path, signature: Signature) -> list[list[NDArray[Any]]]:
        run = open_model(path)
        return [signature.pick(run(feed)) for feed in _proof_feeds(signature)]

    expected = answers(*before)  # whose model is given up then: one in memory at a time
    try:
        found = answers(*after)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if out_of_memory(error):
            raise  # says nothing of the model, so it must not be remembered
        return {"equal": False, "largest_difference": None}
    differences = []
    for wants, gots in zip(expected, found, strict=True):
        for want, got in zip(wants, gots, strict=True):
            if want.ndim == got.ndim > 1:
                want = want[:, : got.shape[1]]
            if want.shape != got.shape:
                return {"equal": False, "largest_difference": None}
            want, got = want.astype(np.float32), got.astype(np.float32)
            scale = np.abs(want).max() if relative and want.any() else 1.0
            differences.append(np.abs(want - got).max() / scale)
    largest = float(np.max(differences))  # NaN where any is
    return {"equal": largest <= tolerance, "largest_difference": largest}


def _proof_feeds(signature: Signature) -> Iterator[Feed]:
    """Random windows of `PROOF_LENGTHS`, padded where the model has a fixed length."""
    rng = np.random.default_rng(0)
    longest = signature.reads.longest
    lengths = {min(length, longest) for length in PROOF_LENGTHS}
    if longest - 1 > max(lengths):
        lengths.add(longest - 1)
    for length in sorted(lengths):
        shape = (signature.batch or 2, signature.length or length)
        ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
        ids[:, :length] = signature.random_ids(rng, (shape[0], length))
        mask[:, :length] = 1
        segments[:, length // 3 : length] = 1
        yield signature.feed(ids, mask, signature.random_segments(segments))
