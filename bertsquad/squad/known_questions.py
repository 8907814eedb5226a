"""Questions whose answers are known to the token, to be asked of a model."""

from dataclasses import dataclass

import numpy as np

from bertsquad.squad.features import Features
from bertsquad.squad.questions import Dataset
from bertsquad.squad.reading import Texts

#: How many questions are enough: a model that answers half of them tells its outputs apart by far.
QUESTIONS = 24
#: The most tokens of a window to choose, since a model reads them once more than a run needs.
MOST_TOKENS = 200
#: The most tokens of an answer to look for.
MOST_ANSWER = 12


@dataclass(frozen=True)
class KnownSet:
    """Windows of the features in a file, and the positions of their answers' first and last tokens.

    The path is text, so that it is JSON.
    """

    features: str
    windows: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def choose(dataset: Dataset, features: Features, texts: Texts, file: str) -> KnownSet:
    """The first short windows of `features`, kept in `file`, that show where their answer is.

    Those that show their whole context come first, and no question has two. `texts` is that of the
    reading that made the features. An answer has two tokens at least, so that its start isn't its
    end, and stands in its context once.
    """
    windows, starts, ends, asked = [], [], [], set[int]()
    counts = np.bincount(features.question, minlength=len(dataset.questions))
    short = np.flatnonzero(features.lengths <= MOST_TOKENS)
    for window in short[np.argsort(counts[features.question[short]], kind="stable")]:
        index = int(features.question[window])
        question = dataset.questions[index]
        if index in asked or not question.answers:
            continue
        context = dataset.contexts[question.context]
        if context.count(question.answers[0]) != 1:
            continue
        tokens = int(np.diff(features.context_offsets[question.context : question.context + 2])[0])
        found = _place(question.context, tokens, question.answers[0], texts)
        if found is None or found[0] == found[1]:
            continue
        head = int(features.context_start[window])
        shift = head - int(features.doc_start[window])
        # The last token of a window is a separator.
        if found[0] + shift < head or found[1] + shift >= features.lengths[window] - 1:
            continue
        asked.add(index)
        windows.append(int(window))
        starts.append(found[0] + shift)
        ends.append(found[1] + shift)
        if len(windows) == QUESTIONS:
            break
    return KnownSet(file, tuple(windows), tuple(starts), tuple(ends))


def _place(context: int, tokens: int, answer: str, texts: Texts) -> tuple[int, int] | None:
    """The only tokens, first and last, whose text is `answer`; None where none or several have."""
    found = [
        (first, last)
        for first in range(tokens)
        for last in range(first, min(first + MOST_ANSWER, tokens))
        if texts(context, first, last) == answer
    ]
    return found[0] if len(found) == 1 else None
