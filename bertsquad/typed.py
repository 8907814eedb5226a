"""JSON read: a document that any code may walk, and dataclasses of which every field fits."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import ijson

_Made = TypeVar("_Made")


#: For what is too long to stand in memory as a whole. It is the one of ijson's readers that is in
#: Python: those in C end the process at some faulty files, change half a surrogate pair to "?"
#: without a word, and refuse an integer of more than 64 bits.
PIECEMEAL = ijson.get_backend("python")
#: What this suite, LoadGen, pytest-benchmark and SQuAD write is nested ten deep or so.
DEEPEST = 64
#: Of this many digits on, an integer is more than a float can hold.
_MOST_DIGITS = 308


class NotJson(ValueError):
    """Text or bytes that hold no JSON, or JSON that is nested too deep; the text says which."""


def parse(content: str | bytes, strict: bool = True) -> Any:
    """The JSON in `content`; NotJson where there is none, for whatever reason.

    What is given back is at most `DEEPEST` deep, so that a walk over it needs no care, and an
    integer that no float can hold is infinite, so that sums with it need none. Where it isn't
    `strict`, texts may hold control characters.
    """
    try:
        document = json.loads(content, strict=strict, parse_int=_integer)
    except RecursionError as error:
        raise NotJson(f"nested deeper than {DEEPEST}") from error
    except ValueError as error:
        raise NotJson(str(error)) from error
    if _too_deep(document):
        raise NotJson(f"nested deeper than {DEEPEST}")
    return document


def _too_deep(document: Any) -> bool:
    if not isinstance(document, (dict, list)):
        return False
    level = [document]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _inside(value: Any) -> list[Any]:
    """The objects and lists in an object or a list."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [one for one in value if isinstance(one, (dict, list))]


class Misfit(Exception):
    """A field that is missing or has another type than its annotation says; the text names it."""


def build(cls: type[_Made], document: Mapping[str, Any], whole: bool = False) -> _Made:
    """An object of the dataclass `cls` from a JSON object; Misfit names the field that is wrong.

    Fields with a default may be missing unless it must be `whole`. Keys that are no field are
    passed over, so that what a later version writes can be read.
    """
    of: Any = cls  # for type checkers, which can't know that it is a dataclass
    hints = _hints(of)
    values = {}
    for field in dataclasses.fields(of):
        if field.name in document:
            try:
                values[field.name] = _fitted(document[field.name], hints[field.name], whole)
            except Misfit as error:
                raise Misfit(f"{field.name} {error}") from None
        elif whole or not _has_default(field):
            raise Misfit(f"{field.name} is missing")
    return cls(**values)


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _fitted(value: Any, hint: Any, whole: bool) -> Any:
    """A value of JSON as the annotation `hint` wants it: lists become tuples, objects dataclasses.

    Misfit where it has another type.
    """
    if hint is Any or type(value) is hint:  # as nearly all are
        return value
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _any_of(value, parts, whole)
    if origin is list and isinstance(value, list):
        return [_fitted(one, parts[0], whole) for one in value]
    if origin is tuple and isinstance(value, (list, tuple)):
        if parts[1:] == (...,):
            return tuple(_fitted(one, parts[0], whole) for one in value)
        if len(value) == len(parts):
            return tuple(_fitted(*pair, whole) for pair in zip(value, parts, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _fitted(one, parts[1], whole) for key, one in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, whole)
    kinds = (int, float) if hint is float else hint
    is_odd = isinstance(value, bool) and hint is not bool  # Python counts it among the numbers
    if isinstance(hint, type) and isinstance(value, kinds) and not is_odd:
        return value
    wanted = hint.__name__ if isinstance(hint, type) else hint
    raise Misfit(f"is {_shown(value)}, and should be {wanted}")


def _any_of(value: Any, hints: tuple[Any, ...], whole: bool) -> Any:
    """The value as the first of `hints` that it fits."""
    if value is None and types.NoneType in hints:
        return None
    wanted = [hint for hint in hints if hint is not types.NoneType]
    if isinstance(value, dict):  # a dataclass's, if there is one: its error says most
        wanted = [hint for hint in wanted if dataclasses.is_dataclass(hint)] or wanted
    for hint in wanted[:-1]:
        try:
            return _fitted(value, hint, whole)
        except Misfit:
            continue
    return _fitted(value, wanted[-1], whole)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
