"""Files that somebody's disk, editor or ill will has changed, made from good ones by hypothesis."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

#: In the fast suite the same examples each time, so that a failure is everyone's.
quick = settings(max_examples=25, deadline=None, derandomize=True)
long = settings(max_examples=500, deadline=None)

_DEPTHS = (63, 64, 65, 100, 900, 1_000, 10_000, 100_000)

#: JSON texts, of which some are none.
_ODD = [
    *("null", "true", "false", "0", "-0", "-0.0", "1.5", "-1", "3000000000", '""', '"x"'),
    *("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-320", "1e308", "5e18"),
    *("1" * 400, "-" + "1" * 400, "1" * 5_000, "9" * 309, "1." + "1" * 5_000),
    *("[]", "{}", "[[]]", '{"a": 1, "a": 2}', "[1, 2]", "[null]", '{"": {}}'),
    *(r'"\ud800"', r'"\udc80\ud800"', r'"\u001b[2J\u001b]0;x\u0007"', r'"two\nlines"'),
    *(r'"\u0000"', r'"\u202e\u2028"', json.dumps("y" * 5_000), '"unfinished', "", "}", "//"),
    *("[" * depth + "]" * depth for depth in _DEPTHS),
    *('{"a":' * depth + "1" + "}" * depth for depth in _DEPTHS),
    "[" * 100_000,
]

_MARK = "here something odd is put"

#: A text of JSON that fits nowhere or only in some places.
odd = st.sampled_from(_ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
).map(json.dumps)


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a document of JSON, each as the keys that lead there."""
    yield before
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inner:
        if isinstance(value, (dict, list)):
            yield from places(value, (*before, key))
        else:
            yield (*before, key)


def _replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[place[0]] = _replaced(copy[place[0]], place[1:], value)
    return copy


def _without(document: Any, place: tuple[Any, ...]) -> Any:
    copy = dict(document) if isinstance(document, dict) else list(document)
    if place[1:]:
        copy[place[0]] = _without(copy[place[0]], place[1:])
    else:
        del copy[place[0]]
    return copy


@st.composite
def texts(draw: st.DrawFn, document: Any) -> str:
    """The text of a document with something odd at one place, with a part left out, or cut off."""
    place = draw(st.sampled_from(list(places(document))))
    how = draw(st.integers(0, 9))
    if how == 0 and place:
        return json.dumps(_without(document, place))
    if how == 1:
        text = json.dumps(document)
        return text[: draw(st.integers(0, len(text)))]
    text = json.dumps(_replaced(document, place, _MARK))
    return text.replace(json.dumps(_MARK), draw(odd))


@st.composite
def contents(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file's bytes, some of them changed, put in or left out; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        upto = at + draw(st.sampled_from((0, 1, 1, 1, 4, 1_000_000)))
        content[at:upto] = draw(st.binary(max_size=4))
    return bytes(content)


def sentence(error: BaseException, path: Path | None = None) -> None:
    """Hold that an error says in one line, short and printable, what is wrong with which file."""
    said = str(error)
    assert said and said.isprintable(), repr(said)
    assert said.encode("utf-8")
    name = "" if path is None else str(path)
    assert name in said
    assert len(said) < 4 * len(name) + 600, said
