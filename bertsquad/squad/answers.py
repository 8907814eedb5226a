"""From logits to the text of an answer.

As in MLPerf's `accuracy-squad.py` and Hugging Face's `run_qa`, the 20 best starts of each window
are paired with its 20 best ends, the pairs that can't be an answer are dropped, and the others are
sorted by the sum of the two logits in double precision. Both use the text of the first one alone,
so only that one is looked for here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.squad.features import Features
from bertsquad.squad.questions import Dataset
from bertsquad.squad.reading import Texts

# n_best_size and max_answer_length: MLPerf Inference, language/bert/accuracy-squad.py; and
# transformers, examples/pytorch/question-answering/run_qa.py.
N_BEST = 20
MAX_ANSWER_TOKENS = 30

#: What both answer where no span of a question's windows can be an answer.
NO_ANSWER = "empty"

Logits = NDArray[np.float32]
#: The first and the last token of a span, and its score.
Span = tuple[int, int, float]


@dataclass(frozen=True)
class Answer:
    """The best span of a question: its text, and its score, which is None where none fits.

    `null_score` is the least score of "no answer" over the question's windows, infinite where there
    is no window; None where every question has an answer.
    """

    text: str
    score: float | None
    null_score: float | None = None

    @property
    def null_odds(self) -> float:
        """By how much "no answer" scores more than the best span."""
        if self.null_score is None:
            return -math.inf
        return self.null_score - (self.score or 0.0)  # run_qa compares with 0 where no span fits

    def given(self, null_threshold: float) -> str:
        """The text, or "" where "no answer" scores more than that by over `null_threshold`."""
        return "" if self.null_odds > null_threshold else self.text


def best_span(
    start: NDArray[np.floating], end: NDArray[np.floating], may_start: NDArray[np.bool_], first: int
) -> tuple[int, int, float] | None:
    """The best answer in one window: the positions of its first and last token, and its score.

    `start`, `end` and `may_start` have the window's length; the context's tokens stand at the
    positions from `first` to the last but one. None where no pair of candidates fits.
    """
    starts, ends, scores = _spans(start, end, may_start, first)
    if len(scores) == 0:
        return None
    best = int(scores.argmax())
    return int(starts[best]), int(ends[best]), float(scores[best])


def _spans(
    start: NDArray[np.floating], end: NDArray[np.floating], may_start: NDArray[np.bool_], first: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """All the spans of a window that may be an answer, as in `best_span`: the better start first.

    Where two have the same score the earlier one counts as better.
    """
    # Stable, so that of equal logits the first counts as better, as with Python's own sort.
    starts = np.argsort(-start, kind="stable")[:N_BEST]
    ends = np.argsort(-end, kind="stable")[:N_BEST]
    span = ends[None, :] - starts[:, None]
    in_context = (ends >= first) & (ends < len(end) - 1)
    fits = (span >= 0) & (span < MAX_ANSWER_TOKENS)
    fits &= may_start[starts][:, None] & in_context[None, :]
    rows, columns = np.nonzero(fits)
    total = start[starts].astype(np.float64)[:, None] + end[ends].astype(np.float64)[None, :]
    return starts[rows], ends[columns], total[rows, columns]


def find(
    dataset: Dataset,
    features: Features,
    texts: Texts,
    logits: Mapping[int, Logits],
) -> dict[str, Answer]:
    """The answer to every question, by its id; left out are those with a window without logits.

    `logits` maps a sample to its float32 [length, 2]: start and end. A question without any window
    (its context holds no token) is answered with `NO_ANSWER`.
    """
    # The windows of each question from the context's begin on, in whatever order they are kept.
    order = np.lexsort((features.doc_start, features.question))
    ends = np.searchsorted(features.question[order], np.arange(len(dataset.questions)), "right")
    answers: dict[str, Answer] = {}
    begin = 0
    for question, end in zip(dataset.questions, ends.tolist(), strict=True):
        samples = order[begin:end].tolist()
        begin = end
        if all(sample in logits for sample in samples):
            windows = [_Window(features, sample, logits[sample]) for sample in samples]
            text_of = partial(texts, question.context)
            answers[question.id] = _answer(windows, text_of, dataset.version_2)
    return answers


class _Window:
    """A window with its logits; SuiteError if these have the wrong shape."""

    def __init__(self, features: Features, sample: int, logits: Logits) -> None:
        low, high = features.offsets[sample : sample + 2]
        if logits.shape != (high - low, 2):
            raise SuiteError(
                f"sample {sample} has {high - low} tokens but its response holds logits of shape "
                f"{logits.shape}: the log belongs to other data"
            )
        self.start, self.end = logits[:, 0], logits[:, 1]
        self.may_start = features.max_context[low:high]
        self.first = int(features.context_start[sample])
        #: From a position in the window to the token's place in its context.
        self.shift = int(features.doc_start[sample]) - self.first

    @property
    def null_score(self) -> float:
        """The score of "no answer": that of the window's first token, as start and end."""
        return float(self.start[0]) + float(self.end[0])

    def best(self) -> Span | None:
        """The best span."""
        found = best_span(self.start, self.end, self.may_start, self.first)
        return found and (found[0] + self.shift, found[1] + self.shift, found[2])

    def spans(self) -> list[Span]:
        """All spans that may be an answer."""
        starts, ends, scores = _spans(self.start, self.end, self.may_start, self.first)
        shifted = (starts + self.shift).tolist(), (ends + self.shift).tolist()
        return list(zip(*shifted, scores.tolist(), strict=True))


def _answer(
    windows: Sequence[_Window], text_of: Callable[[int, int], str], version_2: bool
) -> Answer:
    """The answer to the question of these windows; `text_of` tells the text of a span."""
    found = [span for span in (window.best() for window in windows) if span is not None]
    best = max(found, key=_score, default=None)  # the first of equals
    text = NO_ANSWER if best is None else text_of(*best[:2])
    if not text:
        # A token may stand for no character, as the second of an emoji's bytes does. Such a span
        # is an answer only where none is never one, and where it isn't the only one.
        spans = sorted((s for w in windows for s in w.spans()), key=_score, reverse=True)
        if version_2 or len(spans) == 1:
            texts = ((text_of(*span[:2]), span) for span in spans[:N_BEST])
            text, best = next(((t, span) for t, span in texts if t), (NO_ANSWER, None))
    score = None if best is None else best[2]
    if not version_2:
        return Answer(text, score)
    return Answer(text, score, min((window.null_score for window in windows), default=math.inf))


def _score(span: Span) -> float:
    return span[2]
