"""The special tokens of a window: before its question, between that and its context, and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models

from bertsquad.errors import SuiteError

#: How many separators stand between question and context, by the token that begins a window: in
#: BERT's windows, which have segments, and in RoBERTa's, which have none.
_SEPARATORS = {"[CLS]": 1, "<s>": 2}


@dataclass(frozen=True)
class Frame:
    """The special tokens around the question and the context of a window; one comes `after` them.

    Segments are 1 from `segment` tokens after the question on; None where all are 0.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: int
    segment: int | None

    @property
    def tokens(self) -> int:
        """How many tokens these are."""
        return len(self.before) + len(self.between) + 1


def frame_of(library: Tokenizer, source: Path, config: Mapping[str, Any]) -> Frame:
    """What the tokeniser of the file `source` puts around a question and its context.

    Where it puts nothing, `config` must say what begins a window and what separates its parts.
    """
    # What a post-processor adds is the same for all texts: two texts of one token each show it.
    probe = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))  # noqa: S106
    if library.post_processor is not None:
        probe.post_processor = library.post_processor
    pair = probe.encode("a", "b")
    if len(pair.ids) == 2:
        return _usual(library, source, config)
    segments, parts = pair.type_ids, pair.sequence_ids
    if [part for part in parts if part is not None] == [0, 1]:
        question, context = parts.index(0), parts.index(1)
        ones = segments.index(1) if 1 in segments else None
        rising = ones is None or segments == [0] * ones + [1] * (len(segments) - ones)
        if context == len(parts) - 2 and rising and (ones is None or question < ones <= context):
            kept = "token_type_ids" in config.get("model_input_names", ["token_type_ids"])
            return Frame(
                tuple(pair.ids[:question]),
                tuple(pair.ids[question + 1 : context]),
                pair.ids[-1],
                ones - question - 1 if kept and ones is not None else None,
            )
    raise SuiteError(
        f"{source} puts special tokens around question a and context b as no model of BERT's "
        f"family reads them: {' '.join(pair.tokens)}, with the segments "
        f"{' '.join(map(str, segments))}; give another tokeniser with --tokenizer"
    )


def _usual(library: Tokenizer, source: Path, config: Mapping[str, Any]) -> Frame:
    """BERT's or RoBERTa's frame, of the special tokens that `config` names."""
    begin, separator = (config.get(name, "") for name in ("cls_token", "sep_token"))
    ids = library.token_to_id(begin), library.token_to_id(separator)
    if ids[0] is None or ids[1] is None or begin not in _SEPARATORS:
        raise SuiteError(
            f"{source} doesn't say which special tokens stand around a question and its context: "
            "add a post_processor to it, or name cls_token and sep_token in a "
            "tokenizer_config.json beside it ([CLS] for BERT's windows, <s> for RoBERTa's)"
        )
    count = _SEPARATORS[begin]
    segment = count if begin == "[CLS]" else None
    return Frame((ids[0],), (ids[1],) * count, ids[1], segment)
