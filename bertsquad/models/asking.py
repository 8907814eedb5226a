"""Questions with known answers, asked of a model whose outputs don't say which logits they hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.models.outputs import Outputs
from bertsquad.models.signature import Feed, Signature
from bertsquad.squad import features
from bertsquad.squad.known_questions import KnownSet

#: How much better than guessing the known answers must be found, and than by any other two outputs,
#: in nats over all questions. Where outputs know nothing of the answers, the chance that they reach
#: this is at most exp(-MARGIN), 2e-9, whatever their logits: the mean of (probability given to the
#: answer / probability of a guess) is 1 then, so Markov's inequality bounds it. A model that
#: answers gains some 4 nats with each output and question.
MARGIN = 20.0


@dataclass(frozen=True)
class Known:
    """Questions with known answers: windows [windows, length], padded where the mask is 0.

    `starts` and `ends` [windows] are the positions of the answers' first and last tokens.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    segments: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def up_to(self, longest: int) -> "Known":
        """Those of them that have at most so many tokens."""
        short = self.mask.sum(1) <= longest
        arrays = (self.ids, self.mask, self.segments, self.starts, self.ends)
        return Known(*(array[short] for array in arrays))


def known_from(chosen: KnownSet) -> Known:
    """The known questions that `chosen` names, read from the file of their features."""
    arrays = features.load(Path(chosen.features)).batch(chosen.windows)
    return Known(*arrays, np.array(chosen.starts, np.int64), np.array(chosen.ends, np.int64))


@dataclass(frozen=True)
class Reply:
    """What a model made of one known window: its `outputs`, fed with ids of `shape`."""

    shape: tuple[int, ...]
    outputs: Mapping[str, NDArray[Any]]


def tell_apart(candidates: Sequence[str], known: Known, answers: Sequence[Reply]) -> Outputs:
    """Which of the candidates hold the logits, by what they answered to the known questions.

    LookupError where that isn't clear.
    """
    if not answers:
        raise LookupError("there was none to ask")
    shapes = {name: [tuple(one.outputs[name].shape) for one in answers] for name in candidates}
    asked = [tuple(one.shape) for one in answers]
    pairs = [name for name in candidates if shapes[name] == asked]
    stacked = [name for name in candidates if shapes[name] == [(*shape, 2) for shape in asked]]
    if len(stacked) == 1 and len(pairs) < 2:
        return Outputs(stacked[0], stacked[0])
    gains = {
        name: [
            sum(
                gain(one.outputs[name][0, : int(known.mask[index].sum())], int(places[index]))
                for index, one in enumerate(answers)
            )
            for places in (known.starts, known.ends)
        ]
        for name in pairs
    }
    choices = {(a, b): gains[a][0] + gains[b][1] for a, b in permutations(pairs, 2)}
    best = max(choices, key=lambda one: choices[one], default=None)
    if best is None:
        raise LookupError("no two outputs have a number for each token")
    others = [total for choice, total in choices.items() if choice != best]
    # A gain that isn't finite is neither.
    if not all(choices[best] - other >= MARGIN for other in (0.0, *others)):
        raise LookupError("none are clearly better than guessing and than all others")
    return Outputs(*best)


def gain(logits: NDArray[Any], place: int) -> float:
    """By how many nats logits [tokens] give `place` a higher probability than guessing would."""
    wide = logits.astype(np.float64)
    highest = wide.max()
    return float(wide[place] - highest - np.log(np.exp(wide - highest).sum()) + np.log(len(wide)))


def ask(
    path: Path,
    signature: Signature,
    known: Callable[[], Known] | None,
    open_model: Callable[[], Callable[[Feed], Sequence[NDArray[Any]]]],
) -> tuple[Outputs, int]:
    """The outputs of a model that answer known questions, and how many of these were asked.

    SuiteError where there are no such outputs, or `known` is None; it names the user's `path`.
    """
    unclear = (
        f"{path}: the names of its outputs {', '.join(signature.candidates)} don't tell which "
        "hold the start and the end logits"
    )
    give = "give two of them as --outputs START,END"
    if known is None:
        raise SuiteError(f"{unclear}: {give}")
    asked = known().up_to(signature.reads.longest)
    run = open_model()
    answers = []
    for index, length in enumerate(asked.mask.sum(1)):
        arrays = (asked.ids, asked.mask, asked.segments)
        ids, mask, segments = (array[index : index + 1, :length] for array in arrays)
        feed = signature.feed_one(ids, mask, segments)
        found = dict(zip(signature.outputs, run(feed), strict=True))
        chosen = {name: found[name] for name in signature.candidates}
        answers.append(Reply(feed[signature.ids].shape, chosen))
    try:
        return tell_apart(signature.candidates, asked, answers), len(answers)
    except LookupError as error:
        why = f"nor do {len(answers)} known questions, since {error}"
        raise SuiteError(f"{unclear}, {why}: {give}") from None
