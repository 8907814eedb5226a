"""Credentials in URLs, which nothing that is written or shown may hold.

A mirror's address may hold a user's name, password or token. Results, pages and messages are made
to be given to others.
"""

import re

_FLAGS = re.IGNORECASE | re.VERBOSE

#: Where an address begins, as it is or percent-encoded inside of another one; a path that was made
#: of it has lost a slash.
_BEGIN = r"(?<! [a-z0-9+.-] ) (?P<begin> [a-z0-9+.-]{2,} (?: :/+ | %3a(?:%2f)+ ) )"
#: Where a word ends, without the marks that a sentence puts behind it.
_END = r"""(?= [])}>'",.;:]* (?: \s | $ ) )"""

#: `user:password@` or `token@` in an address. What stands behind a colon and is no port is taken to
#: be a password, which may hold characters that should have been encoded. Its bounded length
#: keeps the search short in any text.
_IN_ADDRESS = re.compile(
    rf"""{_BEGIN}
    (?: [^\s/?#@]* : (?! \d{{1,5}} (?: [/?#\s)'",.;:] | $ ) ) \S{{0,500}} | [^\s/?#]* )
    (?P<at> @ | %40 )""",
    _FLAGS,
)
#: `user:password@host` where nobody wrote `https://` before it.
_ALONE = re.compile(
    r"(?<! [\w.%+~/\\-] ) [\w.%+~-]+ : (?! : ) [^\s/?#\[\]\\]{1,500} @ (?= [\w\[] )", _FLAGS
)
#: The query of an address, or a fragment with values: signatures and tokens stand there.
_QUERY = re.compile(
    rf"{_BEGIN} (?P<place> [^\s?#]* ) (?: \? | [#] (?= \S*= ) ) \S+? {_END}", _FLAGS
)
#: The same after a path alone, as an HTTP library names what it asked for.
_QUERY_ALONE = re.compile(rf"\? [^\s?]* = \S*? {_END}", _FLAGS)


def masked(text: str) -> str:
    """The text with `***` for each user, password, token and query that stands in a URL of it."""
    if "@" in text or "%40" in text:
        text = _IN_ADDRESS.sub(r"\g<begin>***\g<at>", text)
        text = _ALONE.sub("***@", text)
    if "?" in text or "#" in text:
        text = _QUERY.sub(r"\g<begin>\g<place>?***", text)
        text = _QUERY_ALONE.sub("?***", text)
    return text
