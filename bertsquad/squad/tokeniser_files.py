"""The files of a model's own tokeniser: which of them transformers saved, and what they say.

They are `tokenizer.json`, or the vocabulary of a WordPiece (`vocab.txt`) or of a byte-level BPE
(`vocab.json` and `merges.txt`), with settings beside it.
"""

import hashlib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bertsquad import typed
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.squad import added_tokens
from bertsquad.squad.added_tokens import LIST

WHOLE = "tokenizer.json"
CONFIG, SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"
#: SentencePiece's own files, by the names that transformers gives them.
SENTENCEPIECE = ("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")
#: The files that belong to a tokeniser, of which any shows that a folder has one of its own.
FILES = (
    *(WHOLE, "vocab.txt", "vocab.json", "merges.txt", *SENTENCEPIECE),
    *(CONFIG, SPECIAL_TOKENS, LIST),
)
#: JSON beside a tokeniser that is no tokeniser.
_OTHER_JSON = (CONFIG, SPECIAL_TOKENS, "vocab.json", "config.json", LIST)
#: The settings of a configuration that count here, and their types.
_TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    **dict.fromkeys(
        """unk_token cls_token sep_token pad_token mask_token tokenizer_class padding_side
        truncation_side""".split(),
        ("text", (str,)),
    ),
    **dict.fromkeys(
        """do_lower_case strip_accents tokenize_chinese_chars add_prefix_space trim_offsets
        split_special_tokens""".split(),
        ("true or false", (bool,)),
    ),
    "model_max_length": ("a number", (int, float)),
    "model_input_names": ("a list", (list,)),
}


class TokeniserFiles:
    """The files of a tokeniser's folder, and the digest of those that were read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digest = hashlib.sha256()
        self._read: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """The content of a file, read once; SuiteError where it can't be read."""
        if name in self._read:
            return self._read[name]
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise unreadable(self._folder / name, error) from error
        self._digest.update(hashlib.sha256(name.encode() + b"\0" + content).digest())
        self._read[name] = content
        return content

    def text(self, name: str) -> str:
        """The content of a text file, its lines ended as Unix ends them."""
        try:
            return self.read(name).decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise SuiteError(f"{self._folder / name} is no vocabulary: {error}") from error

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file, {} where there is no such file."""
        if not (self._folder / name).exists():
            return {}
        try:
            found = typed.parse(self.read(name))
        except typed.NotJson as error:
            raise SuiteError(f"{self._folder / name} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise SuiteError(f"{self._folder / name} should hold a JSON object")
        return found

    def settings(self, name: str) -> dict[str, Any]:
        """The settings in a file that count here; what isn't set is left out."""
        found = {}
        for key, value in self.json(name).items():
            if isinstance(value, dict):
                value = value.get("content")  # a token with more than its text
            if value is None or key not in _TYPES:
                continue
            wanted, types = _TYPES[key]
            if type(value) not in types:  # true is no number
                raise SuiteError(
                    f"{self._folder / name} should have {wanted} as {key}, found "
                    f"{reprlib.repr(value)}"
                )
            found[key] = value
        return found

    def add_tokens(self, library: Tokenizer, whole: bool) -> None:
        """Add the tokens that these files say were added; a `whole` tokeniser lists its own."""
        name, document = CONFIG, self.json(CONFIG).get(added_tokens.DECODER)
        if document is None and not whole:
            name, document = LIST, self.json(LIST)
        try:
            found = added_tokens.read(document or {})
        except ValueError as error:
            raise SuiteError(f"{self._folder / name} lists no added tokens: {error}") from error
        added_tokens.add(library, found, self._folder / name)

    @property
    def digest(self) -> str:
        """The digest of what was read up to now."""
        return self._digest.hexdigest()


def find(path: Path) -> Path:
    """The file that a tokeniser is opened by: `path` itself, or one of its folder."""
    if not path.exists():
        raise SuiteError(f"there is no tokeniser {path}")
    names = [path.name] if path.is_file() else sorted(one.name for one in path.iterdir())
    folder = path.parent if path.is_file() else path
    own = [name for name in names if name.endswith(".json") and name not in _OTHER_JSON]
    if WHOLE in names or (path.is_file() and own):
        return folder / (WHOLE if WHOLE in names else own[0])
    if {"vocab.json", "merges.txt"} & set(names):
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise SuiteError(f"{folder} lacks {name}, without which its tokeniser is not whole")
        return folder / "vocab.json"
    if "vocab.txt" in names or (path.is_file() and path.suffix == ".txt"):
        return folder / ("vocab.txt" if "vocab.txt" in names else path.name)
    if lone := [name for name in names if name in SENTENCEPIECE or name.endswith(".model")]:
        raise SuiteError(f"{folder / lone[0]} is SentencePiece's: {make_whole(folder)}")
    raise SuiteError(
        f"expected a tokeniser ({WHOLE}, vocab.txt, or vocab.json and merges.txt), found none of "
        f"these at {path}: give one with --tokenizer"
    )


def make_whole(folder: Path) -> str:
    """What to do with a folder that lacks a whole tokeniser."""
    return (
        f"make a {WHOLE} of it, in a Python with transformers and sentencepiece: "
        f"transformers.AutoTokenizer.from_pretrained({str(folder)!r})"
        f".save_pretrained({str(folder)!r})"
    )
