"""BERT's own tokenisation (uncased), word by word.

The `tokenizers` library's `BertNormalizer` is close to BERT's but not equal: it has no final
sigma ("ΟΔΟΣ"), misses one block of CJK characters and knows an older Unicode than Python does.
MLPerf's features come from BERT's Python code, so the splitting into words is done here and only
WordPiece, which is where the time goes, is left to the library.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable

#: What MLPerf's `create_squad_data` splits a context at; other blanks stay inside a word.
CONTEXT_BLANKS = re.compile("[ \t\r\n\u202f]+")

#: A text of up to so many characters is normalised quickly, whatever it is made of.
LONG_TEXT = 1000

#: How many tokens are cut into pieces at once.
AT_ONCE = 10_000

#: BERT's `_is_chinese_char`: ideographs stand alone, as if surrounded by blanks.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_WORDS = re.compile(r"\S+")
_ASCII_PIECES = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")


def context_words(context: str) -> list[str]:
    """The words that MLPerf's script splits a context into; an answer is made of these."""
    return [word for word in CONTEXT_BLANKS.split(context) if word]


@lru_cache(maxsize=4096)
def _cleaned(char: str) -> str:
    """`char` as BERT's `_clean_text` and `_tokenize_chinese_chars` leave it."""
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if char == "\ufffd" or category.startswith("C"):
        return ""
    if any(first <= ord(char) <= last for first, last in _IDEOGRAPHS):
        return f" {char} "
    return char


@lru_cache(maxsize=4096)
def _is_punctuation(char: str) -> bool:
    """Whether BERT takes `char` for punctuation: any sign of ASCII, or what Unicode calls so."""
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


@lru_cache(maxsize=4096)
def _decomposed(char: str) -> str:
    return unicodedata.normalize("NFD", char)


def _is_mark(char: str) -> bool:
    """Whether `char` may change its place among others that belong to one letter."""
    return unicodedata.combining(char) > 0


def _normalised(form: Literal["NFC", "NFD"], text: str) -> str:
    """`unicodedata.normalize`, which takes hours where megabytes of marks follow one letter.

    It brings marks into their order by moving each past those before it. Here they are sorted.
    """
    apart = map(_decomposed, set(text)) if len(text) > LONG_TEXT else ()
    if any(map(_is_mark, "".join(apart))):
        runs = groupby("".join(map(_decomposed, text)), key=_is_mark)
        text = "".join(
            "".join(sorted(run, key=unicodedata.combining) if marks else run) for marks, run in runs
        )
    return unicodedata.normalize(form, text)


def basic_tokens(text: str) -> list[str]:
    """`text` cleaned, lower-cased, stripped of accents and split at blanks and punctuation."""
    if text.isascii() and text.isprintable():
        return _ASCII_PIECES.findall(text.lower())
    tokens: list[str] = []
    cleaned = _normalised("NFC", "".join(map(_cleaned, text)))
    for word in map(re.Match.group, _WORDS.finditer(cleaned)):
        run = ""
        for char in _normalised("NFD", word.lower()):
            if unicodedata.category(char) == "Mn":
                continue
            if _is_punctuation(char):
                tokens += [run, char] if run else [char]
                run = ""
            else:
                run += char
        if run:
            tokens.append(run)
    return tokens


class Vocabulary:
    """A WordPiece vocabulary, one piece a line; a piece's id is its line, counted from 0."""

    def __init__(self, path: Path) -> None:
        """Read a file of pieces; SuiteError where it is none."""
        try:
            content = path.read_bytes()
            self.pieces = content.decode("utf-8").rstrip("\n").split("\n")
        except OSError as error:
            raise unreadable(path, error) from error
        except UnicodeDecodeError as error:
            raise SuiteError(f"{path} is no vocabulary: {error}") from error
        ids = {piece: index for index, piece in enumerate(self.pieces)}
        if lacking := [piece for piece in ("[CLS]", "[SEP]", "[UNK]") if piece not in ids]:
            raise SuiteError(f"{path} is no vocabulary of BERT: it lacks {lacking[0]}")
        self.digest = hashlib.sha256(content).hexdigest()
        self.cls_id, self.sep_id = ids["[CLS]"], ids["[SEP]"]
        # 100 is the longest word that MLPerf's tokeniser looks up; longer ones are [UNK].
        self._tokenizer = Tokenizer(
            WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)  # noqa: S106
        )
        self._tokenizer.pre_tokenizer = WhitespaceSplit()

    def encode(self, texts: Iterable[str]) -> dict[str, Sequence[int]]:
        """The token ids of every distinct text among `texts`."""
        tokens_of = {text: basic_tokens(text) for text in dict.fromkeys(texts)}
        # Each token once, and some at a time: the library keeps far more of them than the ids.
        distinct = list(dict.fromkeys(chain.from_iterable(tokens_of.values())))
        ids: dict[str, list[int]] = {}
        for start in range(0, len(distinct), AT_ONCE):
            some = distinct[start : start + AT_ONCE]
            encoded = self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
            ids |= {token: one.ids for token, one in zip(some, encoded, strict=True)}
        return {
            text: [piece for token in tokens for piece in ids[token]]
            for text, tokens in tokens_of.items()
        }
