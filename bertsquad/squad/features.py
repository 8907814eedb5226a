"""Windows: what the model reads, equal to MLPerf's `create_squad_data` but never padded.

A window is `[CLS] question [SEP] slice of the context [SEP]` of at most 384 tokens. A context that
doesn't fit gives several windows, each 128 tokens after the one before. A LoadGen sample is one
window; its index is its place in file order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertsquad import arrays
from bertsquad.progress import Show, Step, unseen
from bertsquad.squad.questions import Dataset
from bertsquad.squad.tokenization import Vocabulary, context_words

# MLPerf Inference, language/bert: max_seq_length, max_query_length and doc_stride.
MAX_TOKENS = 384
MAX_QUESTION_TOKENS = 64
DOC_STRIDE = 128

#: Part of the cache's key: to be raised whenever this module computes something else.
FORMAT = 1


@dataclass(frozen=True)
class Features:
    """All windows of a data set, ragged.

    Window `i` has the tokens `tokens[offsets[i]:offsets[i + 1]]`; its context slice begins at the
    position `context_start[i]` of the window and at the token `doc_start[i]` of its context.
    Context `c` has the tokens `context_tokens[context_offsets[c]:context_offsets[c + 1]]`, and
    `word_of_token` says for each of those to which of `context_words` it belongs.
    """

    tokens: NDArray[np.int32]  # [sum of lengths]
    offsets: NDArray[np.int64]  # [windows + 1]
    question: NDArray[np.int32]  # [windows], index into Dataset.questions
    context_start: NDArray[np.int32]  # [windows]
    doc_start: NDArray[np.int32]  # [windows]
    max_context: NDArray[np.bool_]  # [sum of lengths], may an answer start here?
    context_tokens: NDArray[np.int32]  # [sum of context lengths]
    context_offsets: NDArray[np.int64]  # [contexts + 1]
    word_of_token: NDArray[np.int32]  # [sum of context lengths]

    def __len__(self) -> int:
        return len(self.question)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of every window, int64 [windows]."""
        return np.diff(self.offsets)

    def batch(
        self, samples: Sequence[int] | NDArray[np.integer], length: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, mask and segments of `samples`, int64 [samples, length].

        Padded with zeros to `length`, or to the longest of the samples where that is None.
        """
        lengths = [int(self.offsets[s + 1] - self.offsets[s]) for s in samples]
        shape = (len(lengths), length or max(lengths))
        ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (sample, n) in enumerate(zip(samples, lengths, strict=True)):
            start = self.offsets[sample]
            ids[row, :n] = self.tokens[start : start + n]
            mask[row, :n] = 1
            segments[row, self.context_start[sample] : n] = 1
        return ids, mask, segments


def _window_starts(tokens: int, room: int) -> list[int]:
    """Where the windows over a context of `tokens` begin if each has room for `room` of them."""
    if tokens == 0:
        return []
    starts = [0]
    while starts[-1] + room < tokens:
        starts.append(starts[-1] + min(room, DOC_STRIDE))
    return starts


def _max_context(starts: list[int], ends: list[int], window: int) -> NDArray[np.bool_]:
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


def build(dataset: Dataset, vocabulary: Vocabulary, show: Show = unseen) -> Features:
    """Cut all questions of a data set into windows."""
    show(Step("featurising"))
    words_of = [context_words(context) for context in dataset.contexts]
    ids_of_word = vocabulary.encode(word for words in words_of for word in words)
    ids_of_question = vocabulary.encode(question.text for question in dataset.questions)

    contexts: list[NDArray[np.int32]] = []
    word_indices: list[NDArray[np.int32]] = []
    for words in words_of:
        pieces = [ids_of_word[word] for word in words]
        contexts.append(np.array([i for ids in pieces for i in ids], np.int32))
        counts = np.array([len(ids) for ids in pieces], np.int64)
        word_indices.append(np.repeat(np.arange(len(words), dtype=np.int32), counts))

    cls, sep = np.array([vocabulary.cls_id], np.int32), np.array([vocabulary.sep_id], np.int32)
    # Each begins with nothing, since there may be no window.
    tokens = [np.empty(0, np.int32)]
    max_context = [np.empty(0, np.bool_)]
    # For each window:
    lengths: list[int] = []
    question_of_window: list[int] = []
    context_starts: list[int] = []
    doc_starts: list[int] = []
    for index, question in enumerate(dataset.questions):
        show(Step("featurising", index, len(dataset.questions), "questions"))
        query = np.array(ids_of_question[question.text][:MAX_QUESTION_TOKENS], np.int32)
        context = contexts[question.context]
        room = MAX_TOKENS - len(query) - 3
        starts = _window_starts(len(context), room)
        ends = [min(start + room, len(context)) for start in starts]
        for window, (start, end) in enumerate(zip(starts, ends, strict=True)):
            head = len(query) + 2  # the tokens before the context
            tokens += [cls, query, sep, context[start:end], sep]
            alone = len(starts) == 1  # as most are
            may_start = np.ones(end, np.bool_) if alone else _max_context(starts, ends, window)
            max_context += [np.zeros(head, np.bool_), may_start, np.zeros(1, np.bool_)]
            lengths.append(head + end - start + 1)
            question_of_window.append(index)
            context_starts.append(head)
            doc_starts.append(start)

    return Features(
        tokens=np.concatenate(tokens),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        question=np.array(question_of_window, np.int32),
        context_start=np.array(context_starts, np.int32),
        doc_start=np.array(doc_starts, np.int32),
        max_context=np.concatenate(max_context),
        context_tokens=np.concatenate(contexts),
        context_offsets=np.cumsum([0, *map(len, contexts)], dtype=np.int64),
        word_of_token=np.concatenate(word_indices),
    )


def cache_key(dataset_file: Path, vocabulary_file: Path) -> str:
    """What names the cached features: the content of both files and this module's format."""
    digest = hashlib.sha256(f"features {FORMAT}".encode())
    for path in (dataset_file, vocabulary_file):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def save(features: Features, path: Path) -> None:
    """Write `features` to the `.npz` file `path`, which appears whole or not at all."""
    arrays.save(features, path)


def load(path: Path) -> Features:
    """Read what `save` wrote; LookupError if arrays are missing, ValueError if it is anything else.

    Either names the file. OSError where there is a file that can't be read.
    """
    try:
        found = arrays.load(Features, path)
        _check(found)
    except LookupError as error:
        raise LookupError(f"{path} is an older cache of features: {error}") from error
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{path} is not a cache of features: {error}") from error
    return found


def _check(found: Features) -> None:
    """Raise ValueError unless the arrays have the lengths that belong together."""
    windows, tokens = len(found.question), len(found.tokens)
    context_tokens = len(found.context_tokens)
    expected = {
        "offsets": windows + 1,
        "context_start": windows,
        "doc_start": windows,
        "max_context": tokens,
        "word_of_token": context_tokens,
    }
    for name, length in expected.items():
        if len(getattr(found, name)) != length:
            raise ValueError(f"{name} has {len(getattr(found, name))} numbers, not {length}")
    for offsets, total in ((found.offsets, tokens), (found.context_offsets, context_tokens)):
        ends = [*offsets[:1], *offsets[-1:]]
        if ends != [0, total] or (np.diff(offsets) < 0).any():
            raise ValueError("the offsets don't fit the tokens")
