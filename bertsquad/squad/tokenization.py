"""BERT's own tokenisation (uncased), word by word.

The `tokenizers` library's `BertNormalizer` is close to BERT's but not equal: it has no final
sigma ("ΟΔΟΣ"), misses one block of CJK characters and knows an older Unicode than Python does.
MLPerf's features come from BERT's Python code, so the splitting into words is done here and only
WordPiece, which is where the time goes, is left to the library.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable

#: What MLPerf's `create_squad_data` splits a context at; other blanks stay inside a word.
CONTEXT_BLANKS = re.compile("[ \t\r\n\u202f]+")

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


def basic_tokens(text: str) -> list[str]:
    """`text` cleaned, lower-cased, stripped of accents and split at blanks and punctuation."""
    if text.isascii() and text.isprintable():
        return _ASCII_PIECES.findall(text.lower())
    tokens: list[str] = []
    cleaned = unicodedata.normalize("NFC", "".join(map(_cleaned, text)))
    for word in cleaned.split():
        run = ""
        for char in unicodedata.normalize("NFD", word.lower()):
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
            self.pieces = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except OSError as error:
            raise unreadable(path, error) from error
        except UnicodeDecodeError as error:
            raise SuiteError(f"{path} is no vocabulary: {error}") from error
        ids = {piece: index for index, piece in enumerate(self.pieces)}
        if lacking := [piece for piece in ("[CLS]", "[SEP]", "[UNK]") if piece not in ids]:
            raise SuiteError(f"{path} is no vocabulary of BERT: it lacks {lacking[0]}")
        self.cls_id, self.sep_id = ids["[CLS]"], ids["[SEP]"]
        # 100 is the longest word that MLPerf's tokeniser looks up; longer ones are [UNK].
        self._tokenizer = Tokenizer(
            WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)  # noqa: S106
        )
        self._tokenizer.pre_tokenizer = WhitespaceSplit()

    def encode(self, texts: Iterable[str]) -> dict[str, Sequence[int]]:
        """The token ids of every distinct text among `texts`."""
        distinct = list(dict.fromkeys(texts))
        encoded = self._tokenizer.encode_batch_fast(
            [" ".join(basic_tokens(text)) for text in distinct], add_special_tokens=False
        )
        return {text: encoding.ids for text, encoding in zip(distinct, encoded, strict=True)}
