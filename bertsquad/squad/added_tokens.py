"""Tokens that were added to a vocabulary, as the files beside it say."""

from collections.abc import Mapping
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from bertsquad.errors import SuiteError

#: Where older versions of transformers list them, without their settings.
LIST = "added_tokens.json"
#: Their key in `tokenizer_config.json`, since then.
DECODER = "added_tokens_decoder"
_SETTINGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read(document: object) -> dict[int, AddedToken]:
    """The added tokens by id, as LIST has them or DECODER; ValueError where that can't be."""
    if not isinstance(document, dict):
        raise ValueError("expected an object")
    found = {}
    for key, value in document.items():
        # LIST has the id of each text, DECODER the text and its settings of each id.
        token, number = (value, key) if isinstance(value, dict) else ({"content": key}, value)
        content = token.get("content")
        if not (isinstance(content, str) and content and str(number).isdecimal()):
            raise ValueError(f"{key!r:.60} should be a token with its id")
        settings = {name: token[name] for name in _SETTINGS if type(token.get(name)) is bool}
        found[int(number)] = AddedToken(content, **settings)
    return found


def add(library: Tokenizer, tokens: Mapping[int, AddedToken], source: Path) -> None:
    """Let `library` know those of `tokens` that weren't added to it yet.

    SuiteError where one would have another id than it should, as the file `source` says.
    """
    known = {token.content for token in library.get_added_tokens_decoder().values()}
    for number, token in sorted(tokens.items()):
        if token.content in known:
            continue
        library.add_tokens([token])
        found = library.token_to_id(token.content)
        if found != number:
            raise SuiteError(
                f"{source} gives the added token {token.content!r:.60} the id {number}, but after "
                f"the vocabulary beside it, it would have {found}: give a folder whose files "
                "belong together"
            )
