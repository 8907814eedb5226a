"""MLPerf's reading: windows equal to its `create_squad_data`, answers in its words.

A window is `[CLS] question [SEP] slice of the context [SEP]` of at most 384 tokens. A context that
doesn't fit gives several windows, each 128 tokens after the one before.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertsquad.assets import registry
from bertsquad.progress import Show, Step, unseen
from bertsquad.squad.features import (
    MAX_TOKENS,
    Features,
    Growing,
    Windows,
    load_as,
    portions,
    window_starts,
)
from bertsquad.squad.questions import Dataset
from bertsquad.squad.reading import Texts
from bertsquad.squad.tokenization import Vocabulary, basic_tokens, context_words

#: MLPerf's vocabulary, BERT's uncased one, in the registry.
VOCABULARY = "pocket/vocab.txt"

# MLPerf Inference, language/bert: max_query_length and doc_stride.
MAX_QUESTION_TOKENS = 64
DOC_STRIDE = 128

#: How many distinct words' ids are kept for the contexts that follow.
WORDS_KEPT = 100_000


@dataclass(frozen=True)
class MlperfFeatures(Features):
    """Windows, with the contexts' tokens and to which of `context_words` each of them belongs."""

    context_tokens: NDArray[np.int32]  # [sum of context lengths]
    word_of_token: NDArray[np.int32]  # [sum of context lengths]


class MlperfReading:
    """BERT's own tokenisation, and windows and answers by MLPerf's rules."""

    max_length = MAX_TOKENS

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.key = f"mlperf {vocabulary.digest}"

    def build(self, dataset: Dataset, show: Show = unseen) -> MlperfFeatures:
        """Cut all questions of a data set into windows."""
        show(Step("featurising"))
        tokens, word_of_token, offsets = self._contexts(dataset.contexts)
        windows = Windows()
        count = len(dataset.questions)
        sep = np.array([self.vocabulary.sep_id], np.int32)
        for begin, end in portions(len(question.text) for question in dataset.questions):
            some = dataset.questions[begin:end]
            ids = self.vocabulary.encode(question.text for question in some)
            for index, question in enumerate(some, begin):
                show(Step("featurising", index, count, "questions"))
                query = ids[question.text][:MAX_QUESTION_TOKENS]
                head = np.array([self.vocabulary.cls_id, *query, sep[0]], np.int32)
                low, high = offsets[question.context : question.context + 2].tolist()
                _cut(windows, index, head, tokens[low:high], sep)
        return MlperfFeatures(
            **windows.arrays(),
            context_offsets=offsets,
            context_tokens=tokens,
            word_of_token=word_of_token,
        )

    def _contexts(
        self, contexts: Sequence[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """The tokens of all contexts, the word of each, and where each context's begin."""
        tokens, word_of_token = Growing(np.int32), Growing(np.int32)
        offsets = [0]
        ids_of_word: dict[str, Sequence[int]] = {}
        for begin, end in portions(map(len, contexts)):
            words_of = [context_words(context) for context in contexts[begin:end]]
            if len(ids_of_word) > WORDS_KEPT:
                ids_of_word.clear()
            ids_of_word |= self.vocabulary.encode(
                word for words in words_of for word in words if word not in ids_of_word
            )
            for words in words_of:
                pieces = [ids_of_word[word] for word in words]
                counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
                tokens.add(np.array([i for ids in pieces for i in ids], np.int32))
                word_of_token.add(np.repeat(np.arange(len(words), dtype=np.int32), counts))
                offsets.append(len(tokens))
        return tokens.array(), word_of_token.array(), np.array(offsets, np.int64)

    def load(self, path: Path) -> MlperfFeatures:
        """What `build` made, from the file that `features.save` wrote; errors as it has."""
        return load_as(MlperfFeatures, path)

    def texts(self, dataset: Dataset, features: Features) -> Texts:
        """What tells the words of a span of the tokens of these features."""
        assert isinstance(features, MlperfFeatures)
        return AnswerTexts(dataset, features, self.vocabulary).text


@cache
def mlperf_reading() -> MlperfReading:
    """MLPerf's reading with its vocabulary, which is bundled."""
    return MlperfReading(Vocabulary(registry.fetch(VOCABULARY)))


def _cut(
    windows: Windows,
    question: int,
    head: NDArray[np.int32],
    context: NDArray[np.int32],
    tail: NDArray[np.int32],
) -> None:
    """Add the windows of one question over the tokens of its `context`."""
    room = MAX_TOKENS - len(head) - len(tail)
    starts = window_starts(len(context), room, DOC_STRIDE)
    ends = [min(start + room, len(context)) for start in starts]
    for window, (start, end) in enumerate(zip(starts, ends, strict=True)):
        alone = len(starts) == 1  # as most are
        may_start = None if alone else _max_context(starts, ends, window)
        piece = context[start:end]
        windows.add(question, head, piece, tail, doc_start=start, may_start=may_start)


def _max_context(starts: Sequence[int], ends: Sequence[int], window: int) -> NDArray[np.bool_]:
    """For each token of `window`: does no other window show it with more context around it?

    As in BERT's `_check_is_max_context`, a window's score for a token is the smaller of the
    contexts to its left and right, plus 0.01 of the window's length; of equals the first wins.
    """
    # A window is no longer than 3 strides, so those further away share no token with it.
    reach = MAX_TOKENS // DOC_STRIDE
    first = max(0, window - reach)
    near, own = slice(first, window + reach + 1), starts[window]
    spans = zip(starts[near], ends[near], strict=True)
    return _most_context(tuple((start - own, end - own) for start, end in spans), window - first)


@lru_cache(maxsize=1000)
def _most_context(spans: tuple[tuple[int, int], ...], window: int) -> NDArray[np.bool_]:
    """`_max_context` among these windows; of a long context nearly all have the same neighbours."""
    position = np.arange(*spans[window])
    scores = []
    for start, end in spans:
        context = np.minimum(position - start, end - 1 - position)
        scores.append(np.where(context < 0, -1.0, context + 0.01 * (end - start)))
    return np.asarray(np.argmax(scores, axis=0) == window)


class AnswerTexts:
    """Turns a span of context tokens back into the words of the original text."""

    def __init__(self, dataset: Dataset, features: MlperfFeatures, vocabulary: Vocabulary) -> None:
        self._features = features
        self._pieces = vocabulary.pieces
        # Many questions can be asked about a context, one after the other, and each context have
        # one. A word can be as long as its context, and many questions be answered from it.
        self._words = lru_cache(maxsize=1000)(lambda at: context_words(dataset.contexts[at]))
        self._normal = lru_cache(maxsize=1000)(lambda word: " ".join(basic_tokens(word)))

    def text(self, context: int, first: int, last: int) -> str:
        """The text of the tokens `first` to `last` of `context`, both included.

        MLPerf's script finds the tokens in the normalised text of the words that they belong to.
        If that has as many letters as the original text, it cuts the answer out of the original
        letter by letter; if not, or if the tokens aren't found, it answers with the whole words.
        """
        words = self._words(context)
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
