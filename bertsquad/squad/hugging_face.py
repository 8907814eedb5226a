"""Hugging Face's reading: a model's own tokeniser, windows and answers as `run_qa` makes them.

A window holds the special tokens that the tokeniser puts around a question and a context, the whole
question, and as much of the context as there is room for. A context that doesn't fit gives several
windows, each of which begins with the last `doc_stride` tokens of the one before. An answer is cut
out of its context at the characters where its tokens begin and end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
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
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.reading import Texts
from bertsquad.squad.tokeniser import Tokeniser

#: By how many tokens windows overlap where nobody asks for another number: run_qa's 128 in windows
#: of 384, and the same share of shorter ones.
DOC_STRIDE = 128
_SHARE = MAX_TOKENS // DOC_STRIDE


@dataclass(frozen=True)
class CharacterFeatures(Features):
    """Windows, with the characters at which the contexts' tokens begin and end."""

    char_starts: NDArray[np.int32]  # [sum of context lengths]
    char_ends: NDArray[np.int32]  # [sum of context lengths]


class HuggingFaceReading:
    """A model's own tokenisation, and windows and answers by the rules of `run_qa`."""

    def __init__(
        self,
        tokeniser: Tokeniser,
        max_length: int | None = None,
        doc_stride: int | None = None,
        longest: int | None = None,
    ) -> None:
        """Windows of at most `max_length` tokens that overlap by `doc_stride`.

        `longest` is the most tokens that the model takes. SuiteError where a number doesn't fit.
        """
        limits = [limit for limit in (longest, tokeniser.longest) if limit is not None]
        self.max_length = min([MAX_TOKENS, *limits]) if max_length is None else max_length
        if limits and self.max_length > min(limits):
            raise SuiteError(
                f"--max-length {max_length} is more than the {min(limits)} tokens that this model "
                f"takes: give {min(limits)} or fewer"
            )
        share = min(DOC_STRIDE, self.max_length // _SHARE)
        self.doc_stride = share if doc_stride is None else doc_stride
        room = self.max_length - tokeniser.frame.tokens
        if room <= self.doc_stride:
            raise SuiteError(
                f"windows of --max-length {self.max_length} have {max(room, 0)} tokens for a "
                f"question and its context, which is too few for an overlap of --doc-stride "
                f"{self.doc_stride}: give a larger --max-length or a smaller --doc-stride"
            )
        self.tokeniser = tokeniser
        does = f"{tokenizers.__version__} {tokeniser.digest}"
        self.key = f"hugging face {does} {self.max_length} {self.doc_stride}"

    def build(self, dataset: Dataset, show: Show = unseen) -> CharacterFeatures:
        """Cut all questions of a data set into windows.

        SuiteError names a question that leaves too little room for its context.
        """
        show(Step("featurising"))
        tokens, char_starts, char_ends, offsets = self._contexts(dataset.contexts)
        frame = self.tokeniser.frame
        tail = np.array([frame.after], np.int32)
        windows = Windows()
        for index, (question, query) in enumerate(self._questions(dataset.questions)):
            show(Step("featurising", index, len(dataset.questions), "questions"))
            head = np.array([*frame.before, *query, *frame.between], np.int32)
            low, high = offsets[question.context : question.context + 2].tolist()
            segment = None
            if frame.segment is not None:
                segment = len(frame.before) + len(query) + frame.segment
            room = self.max_length - frame.tokens - len(query)
            for start, end in self._spans(question, high - low, room):
                piece = tokens[low + start : low + end]
                length = len(head) + len(piece) + 1
                where = length if segment is None else segment
                windows.add(index, head, piece, tail, doc_start=start, segment_start=where)
        return CharacterFeatures(
            **windows.arrays(),
            context_offsets=offsets,
            char_starts=char_starts,
            char_ends=char_ends,
        )

    def _spans(self, question: Question, tokens: int, room: int) -> list[tuple[int, int]]:
        """The slices of a context of `tokens` that its windows show, `room` of them at most."""
        step = room - self.doc_stride
        if tokens <= room:
            step = room = max(tokens, 1)
        elif step < 1:
            length = self.max_length - self.tokeniser.frame.tokens - room
            raise SuiteError(
                f"question {question.id!r:.60} has {length} tokens, which leaves {max(room, 0)} of "
                f"--max-length {self.max_length} for its context, too few for an overlap of "
                f"--doc-stride {self.doc_stride}: shorten it, or give a larger --max-length"
            )
        starts = window_starts(tokens, room, step)
        spans = [(start, min(start + room, tokens)) for start in starts]
        if self.tokeniser.from_end:
            return [(tokens - end, tokens - start) for start, end in spans]
        return spans

    def _contexts(
        self, contexts: Sequence[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """The tokens of all contexts, where each begins and ends, and each context's first."""
        tokens, starts, ends = (Growing(np.int32) for _ in range(3))
        offsets = [0]
        for begin, end in portions(map(len, contexts)):
            for found in self.tokeniser.encode(contexts[begin:end]):
                ids = found.ids
                flat = chain.from_iterable(found.offsets)
                characters = np.fromiter(flat, np.int32, 2 * len(ids)).reshape(-1, 2)
                tokens.add(np.array(ids, np.int32))
                starts.add(characters[:, 0])
                ends.add(characters[:, 1])
                offsets.append(len(tokens))
        return tokens.array(), starts.array(), ends.array(), np.array(offsets, np.int64)

    def _questions(self, questions: Sequence[Question]) -> Iterator[tuple[Question, list[int]]]:
        """Each question with its tokens; blanks before it would only take room, says run_qa."""
        for begin, end in portions(len(question.text) for question in questions):
            some = questions[begin:end]
            found = self.tokeniser.encode([question.text.lstrip() for question in some])
            for question, tokens in zip(some, found, strict=True):
                yield question, tokens.ids

    def load(self, path: Path) -> CharacterFeatures:
        """What `build` made, from the file that `features.save` wrote; errors as it has."""
        return load_as(CharacterFeatures, path)

    def texts(self, dataset: Dataset, features: Features) -> Texts:
        """What tells the text of a span of the tokens of these features."""
        assert isinstance(features, CharacterFeatures)

        def text(context: int, first: int, last: int) -> str:
            begin = int(features.context_offsets[context])
            start, end = features.char_starts[begin + first], features.char_ends[begin + last]
            return dataset.contexts[context][start:end]

        return text
