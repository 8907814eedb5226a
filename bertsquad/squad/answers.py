"""From logits to the text of an answer, as MLPerf's `accuracy-squad.py` finds it.

That script pads every window's logits to 384 positions with -10000, pairs the 20 best starts of
each window with its 20 best ends, drops the pairs that can't be an answer, and sorts the others by
the sum of the two logits in double precision. It uses the text of the first one alone, so only that
one is found here.
"""

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.squad.features import Features
from bertsquad.squad.questions import Dataset
from bertsquad.squad.tokenization import Vocabulary, basic_tokens, context_words

# MLPerf Inference, language/bert/accuracy-squad.py: n_best_size and max_answer_length.
N_BEST = 20
MAX_ANSWER_TOKENS = 30

#: What MLPerf's script answers where no span of a question's windows can be an answer.
NO_ANSWER = "empty"


def best_span(
    start: NDArray[np.floating], end: NDArray[np.floating], may_start: NDArray[np.bool_], first: int
) -> tuple[int, int, float] | None:
    """The best answer in one window: the positions of its first and last token, and its score.

    `start`, `end` and `may_start` have the window's length; the context's tokens stand at the
    positions from `first` to the last but one. None where no pair of candidates fits.
    """
    # Stable, so that of equal logits the first counts as better, as with Python's own sort.
    starts = np.argsort(-start, kind="stable")[:N_BEST]
    ends = np.argsort(-end, kind="stable")[:N_BEST]
    span = ends[None, :] - starts[:, None]
    in_context = (ends >= first) & (ends < len(end) - 1)
    fits = (span >= 0) & (span < MAX_ANSWER_TOKENS)
    fits &= may_start[starts][:, None] & in_context[None, :]
    candidates = np.flatnonzero(fits)
    if len(candidates) == 0:
        return None
    total = start[starts].astype(np.float64)[:, None] + end[ends].astype(np.float64)[None, :]
    row, column = divmod(int(candidates[total.flat[candidates].argmax()]), len(ends))
    return int(starts[row]), int(ends[column]), float(total[row, column])


class AnswerTexts:
    """Turns a span of context tokens back into the words of the original text."""

    def __init__(self, dataset: Dataset, features: Features, vocabulary: Vocabulary) -> None:
        self._dataset = dataset
        self._features = features
        self._pieces = vocabulary.pieces
        self._words: dict[int, list[str]] = {}
        # A word can be as long as its context, and many questions be answered from it.
        self._normal = lru_cache(maxsize=1000)(lambda word: " ".join(basic_tokens(word)))

    def text(self, context: int, first: int, last: int) -> str:
        """The text of the tokens `first` to `last` of `context`, both included.

        MLPerf's script finds the tokens in the normalised text of the words that they belong to.
        If that has as many letters as the original text, it cuts the answer out of the original
        letter by letter; if not, or if the tokens aren't found, it answers with the whole words.
        """
        words = self._words.get(context)
        if words is None:
            words = self._words[context] = context_words(self._dataset.contexts[context])
        begin, end = self._features.context_offsets[context : context + 2]
        word_of_token = self._features.word_of_token[begin:end]
        tokens = self._features.context_tokens[begin:end]
        first_word, last_word = word_of_token[[first, last]]
        covered = words[first_word : last_word + 1]
        original = " ".join(covered)

        normal = " ".join(filter(None, map(self._normal, covered)))
        predicted = " ".join(self._pieces[token] for token in tokens[first : last + 1])
        predicted = " ".join(predicted.replace(" ##", "").replace("##", "").split())

        at = normal.find(predicted)
        letters = list(accumulate(map(len, covered)))  # up to the end of each word
        if at < 0 or not predicted or letters[-1] != len(normal) - normal.count(" "):
            return original
        first_letter = at - normal.count(" ", 0, at)
        last_letter = first_letter + len(predicted) - predicted.count(" ") - 1
        # Before a letter, `original` has a blank for each word that ends before it.
        begins, ends = (one + bisect_right(letters, one) for one in (first_letter, last_letter))
        return original[begins : ends + 1]


def find(
    dataset: Dataset,
    features: Features,
    vocabulary: Vocabulary,
    logits: Mapping[int, NDArray[np.float32]],
) -> dict[str, str]:
    """The answer to every question, by its id; left out are those with a window without logits.

    `logits` maps a sample to its float32 [length, 2]: start and end. A question without any
    window (its context holds no token) is answered "empty", as MLPerf's script does.
    """
    texts = AnswerTexts(dataset, features, vocabulary)
    windows: list[list[int]] = [[] for _ in dataset.questions]
    for sample, question_index in enumerate(features.question):
        windows[question_index].append(sample)
    answers: dict[str, str] = {}
    for question, samples in zip(dataset.questions, windows, strict=True):
        if not all(sample in logits for sample in samples):
            continue
        best: tuple[float, int, int, int] | None = None
        for sample in samples:
            span = _span_of(features, sample, logits[sample])
            if span is not None and (best is None or span[2] > best[0]):
                best = (span[2], sample, span[0], span[1])
        if best is None:
            answers[question.id] = NO_ANSWER
            continue
        _, sample, start, end = best
        shift = int(features.doc_start[sample]) - int(features.context_start[sample])
        answers[question.id] = texts.text(question.context, start + shift, end + shift)
    return answers


def _span_of(
    features: Features, sample: int, logits: NDArray[np.float32]
) -> tuple[int, int, float] | None:
    """The best answer in the window `sample`; SuiteError if its logits have the wrong shape."""
    low, high = features.offsets[sample : sample + 2]
    if logits.shape != (high - low, 2):
        raise SuiteError(
            f"sample {sample} has {high - low} tokens but its response holds logits of shape "
            f"{logits.shape}: the log belongs to other data"
        )
    return best_span(
        logits[:, 0],
        logits[:, 1],
        features.max_context[low:high],
        int(features.context_start[sample]),
    )
