"""A model's own tokeniser, opened by the `tokenizers` library as transformers opens it.

What `tokenizer_config.json` and `special_tokens_map.json` say beside it counts more than the
tokeniser's own file, as it does for transformers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers, processors

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.squad import tokeniser_files
from bertsquad.squad.frame import Frame, frame_of
from bertsquad.squad.tokeniser_files import CONFIG, SPECIAL_TOKENS, TokeniserFiles, make_whole

#: The classes of transformers whose `vocab.txt` is all that their BERT-like splitting needs.
_WORDPIECE_CLASSES = tuple(
    f"{name}Tokenizer"
    for name in "Bert DistilBert Electra MobileBert ConvBert SqueezeBert LayoutLM MPNet".split()
)
#: The special tokens of BERT and of RoBERTa, where no file says what they are.
_OF_WORDPIECE = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
_OF_BPE = {
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
#: What the settings in `tokenizer_config.json` are called in `tokenizer.json`.
_OF_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_NO_LIMIT = 10**9
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Tokeniser:
    """A tokeniser with what a model must know of it.

    `kind` is WordPiece, BPE, Unigram or WordLevel; `vocabulary_size` the highest id plus 1, tokens
    that were added counted; `padding_id` None where it has no padding, `longest` the most tokens
    of a window where it says so. Windows are counted from a context's end where it is `from_end`.
    `digest` is that of all its files.
    """

    library: Tokenizer
    source: Path
    kind: str
    vocabulary_size: int
    padding_id: int | None
    longest: int | None
    frame: Frame
    from_end: bool
    digest: str

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens of each text, without special tokens; SuiteError where there can be none."""
        whole = [text if text.isascii() else _SURROGATES.sub("\ufffd", text) for text in texts]
        with _in_a_sentence(f"{self.source} can't tokenise the questions"):
            return self.library.encode_batch(whole, add_special_tokens=False)


@contextmanager
def _in_a_sentence(beginning: str) -> Iterator[None]:
    """Make a SuiteError of whatever the library raises, which has no type of its own for it."""
    try:
        yield
    except (SuiteError, OSError, MemoryError):
        raise
    except BaseException as error:
        # Where the library itself is at fault, it raises what is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SuiteError(
            f"{beginning}: {' '.join(str(error).split())!s:.200}; save the tokeniser anew with "
            "transformers, or give another one with --tokenizer"
        ) from error


def load(path: Path) -> Tokeniser:
    """The tokeniser in a folder, or of one of its files; SuiteError says why it can't be used."""
    try:
        source = tokeniser_files.find(path)
        files = TokeniserFiles(source.parent)
        config = files.settings(SPECIAL_TOKENS) | files.settings(CONFIG)
    except OSError as error:
        raise unreadable(error.filename or path, error) from error
    with _in_a_sentence(f"{source} is no tokeniser"):
        return _opened(source, files, config)


def _opened(source: Path, files: TokeniserFiles, config: Mapping[str, Any]) -> Tokeniser:
    """The tokeniser in a file, as transformers opens it."""
    if source.name == "vocab.json":
        config = {**_OF_BPE, **config}
        library = _byte_level(files, config)
    elif source.suffix == ".txt":
        config = {**_OF_WORDPIECE, **config}
        library = _wordpiece(source, files, config)
    else:
        library = Tokenizer.from_buffer(files.read(source.name))
        _apply(library, config)
    files.add_tokens(library, whole=source.suffix == ".json" and source.name != "vocab.json")
    library.encode_special_tokens = config.get("split_special_tokens", False)
    if getattr(library.model, "dropout", None):
        library.model.dropout = None  # with which the same text has other tokens each time
    return _described(library, source, files, config)


def _wordpiece(source: Path, files: TokeniserFiles, config: Mapping[str, Any]) -> Tokenizer:
    """BERT's WordPiece with a vocabulary, a piece a line."""
    kind = config.get("tokenizer_class", "BertTokenizer").removesuffix("Fast")
    if kind not in _WORDPIECE_CLASSES:
        raise SuiteError(
            f"{source} is the vocabulary of a {kind}, which may split words by rules of its own: "
            f"{make_whole(source.parent)}"
        )
    pieces = files.text(source.name).rstrip("\n").split("\n")
    ids = {piece: index for index, piece in enumerate(pieces)}
    names = [config[name] for name in _OF_WORDPIECE]
    if lacking := [name for name in names[:3] if name not in ids]:
        raise SuiteError(f"{source} is no vocabulary of WordPiece: it lacks {lacking[0]}")
    library = Tokenizer(models.WordPiece(ids, unk_token=names[0]))
    # An uncased vocabulary has no piece with a capital letter, but for those in brackets.
    cased = any(piece != piece.lower() for piece in pieces if piece[:1] not in "[<")
    library.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", not cased),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.add_special_tokens([name for name in names if name in ids])
    return library


def _byte_level(files: TokeniserFiles, config: Mapping[str, Any]) -> Tokenizer:
    """A byte-level BPE, as GPT-2's and RoBERTa's."""
    merges = [line.split(" ") for line in files.text("merges.txt").split("\n")]
    pairs = [(pair[0], pair[1]) for pair in merges if len(pair) == 2 and pair[0] != "#version:"]
    library = Tokenizer(models.BPE(files.json("vocab.json"), pairs))
    prefix = config.get("add_prefix_space", False)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    library.post_processor = processors.ByteLevel(
        add_prefix_space=prefix, trim_offsets=config.get("trim_offsets", True)
    )
    names = [config[name] for name in _OF_BPE]
    library.add_special_tokens([name for name in names if library.token_to_id(name) is not None])
    return library


def _apply(library: Tokenizer, config: Mapping[str, Any]) -> None:
    """Let a whole tokeniser do what its configuration says beside it."""
    prefix = {name: name for name in ("add_prefix_space", "trim_offsets")}
    for part, kinds, settings in (
        ("normalizer", (normalizers.BertNormalizer,), _OF_NORMALIZER),
        ("pre_tokenizer", (pre_tokenizers.ByteLevel,), {"add_prefix_space": "add_prefix_space"}),
        ("post_processor", (processors.RobertaProcessing, processors.ByteLevel), prefix),
    ):
        one = getattr(library, part)
        if not isinstance(one, kinds):
            continue
        state = json.loads(one.__getstate__())
        said = {
            own: config[name] for name, own in settings.items() if name in config and own in state
        }
        if said.items() <= state.items():
            continue
        del state["type"]
        # The library takes no `cls` by name.
        named: list[Any] = [tuple(state.pop(name)) for name in ("sep", "cls") if name in state]
        setattr(library, part, type(one)(*named, **(state | said)))


def _described(
    library: Tokenizer, source: Path, files: TokeniserFiles, config: Mapping[str, Any]
) -> Tokeniser:
    """What a model must know of a tokeniser, whose own truncation and padding are switched off."""
    padding, truncation = library.padding or {}, library.truncation or {}
    side = config.get("padding_side") or padding.get("direction") or "right"
    if side.lower() == "left":
        raise SuiteError(
            f"{source} pads on the left, so that a model of it reads contexts before their "
            f"questions, which the suite can't: set padding_side to right in {CONFIG} if this "
            "model reads the question first"
        )
    cut = config.get("truncation_side") or truncation.get("direction") or "right"
    library.no_padding()
    library.no_truncation()
    names = (config.get("pad_token"), padding.get("pad_token"), "[PAD]", "<pad>")
    found = (library.token_to_id(name) for name in names if name is not None)
    longest = config.get("model_max_length")
    return Tokeniser(
        library,
        source,
        type(library.model).__name__,
        max(library.get_vocab(with_added_tokens=True).values(), default=-1) + 1,
        next((token for token in found if token is not None), None),
        # transformers writes 10**30 where it knows no limit.
        int(longest) if longest is not None and 1 <= longest < _NO_LIMIT else None,
        frame_of(library, source, config),
        cut.lower() == "left",
        files.digest,
    )
