"""The forms in which a file can have SQuAD's questions.

SQuAD's own JSON, v1.1 and v2.0, is an object whose `data` are articles of paragraphs. Hugging
Face's rows are objects with a context and one question each: one a line, or in a list, which may be
the `data` of an object.
"""

import json
import math
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import ijson

from bertsquad import typed
from bertsquad.typed import PIECEMEAL, NotJson

#: The endings of files with a row a line. Others are looked into.
_LINES = (".jsonl", ".ndjson")
_OF_A_ROW = ("question", "context", "answers")

_BEGUN = {"start_map": dict, "start_array": list}
#: So deep stands a paragraph: the whole, its list, an article, its list, and the paragraph.
_DEEPEST = 5
#: So many characters are read at a time.
_PIECE = 1 << 16


class Misfit(Exception):
    """JSON that isn't SQuAD's; the text says what was found."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as a file has it, with the text and the offset of each answer.

    `impossible` is what the file says of that, None where it doesn't.
    """

    id: str
    question: str
    answers: tuple[tuple[str, object], ...]
    impossible: bool | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A context and what is asked about it; that of a row may come again in other rows."""

    context: str
    asked: tuple[Asked, ...]
    of_row: bool


class Passages:
    """The passages of an open file, in its order; `version` is what the file says at its end."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.version = ""
        self._line = 1

    def __iter__(self) -> Iterator[Passage]:
        """Read the file, once. NotJson or Misfit where something else stands in it."""
        if self._path.suffix.lower() in _LINES:
            return self._lines()
        return self._whole()

    def _whole(self) -> Iterator[Passage]:
        """The passages of the one value in the file, or of the lines of which it is the first."""
        whole: Any = None
        try:
            source = ijson.from_iter(self._pieces())
            for whole, *inner in _ends(PIECEMEAL.basic_parse(source, use_float=True)):
                if inner:
                    yield from _ended(whole, *inner)
                elif _is_row(whole) and any(map(str.strip, self._file)):
                    self._file.seek(0)
                    yield from self._lines()
                    return
        except (ijson.JSONError, json.JSONDecodeError) as error:
            said = str(getattr(error, "msg", error))
            raise NotJson(f"read up to line {self._line}: {said:.200}") from error
        if whole == []:
            raise Misfit("an empty list")
        if _is_row(whole):
            yield _row(whole)
        elif not isinstance(whole, list):
            _part(whole, "data", list)
            self.version = str(whole.get("version"))

    def _pieces(self) -> Iterator[bytes]:
        """The file, at most a line at a time."""
        while piece := self._file.readline(_PIECE):
            yield piece.encode()
            self._line += piece.endswith("\n")

    def _lines(self) -> Iterator[Passage]:
        for number, line in enumerate(self._file, 1):
            if not line.strip():
                continue
            try:
                yield _row(typed.parse(line))
            except NotJson as error:
                raise NotJson(f"line {number}, which should be a row: {error}") from error
            except Misfit as error:
                raise Misfit(f"{error} (line {number})") from error


def _ends(events: Iterable[tuple[str, Any]]) -> Iterator[list[Any]]:
    """Each value where it ends, behind the objects and lists in which it stands, outermost first.

    Those hold what has been read of them by then. Values deeper than a paragraph are left out.
    """
    inside: list[Any] = []
    key = ""
    for event, value in events:
        if event == "map_key":
            key = value
            continue
        if event not in ("end_map", "end_array"):
            if event in _BEGUN:
                value = _BEGUN[event]()
            if inside and isinstance(inside[-1], list):
                inside[-1].append(value)
            elif inside:
                inside[-1][key] = value
            inside.append(value)
        if event not in _BEGUN:
            if len(inside) <= _DEEPEST:
                yield inside
            inside.pop()


def _ended(*inside: Any) -> Iterator[Passage]:
    """The passage that ended, the last of `inside`; it is let go of. None for another value."""
    match inside:
        case [{"data": data}, list() as outer, *inner] if outer is data:
            inside = (outer, *inner)
    match inside:
        case [list() as outer, element]:
            if _is_row(element):
                yield _row(element)
            else:  # an article, of which each paragraph has ended before
                _part(element, "paragraphs", list)
            outer[-1] = None
        case [list(), {"paragraphs": held}, list() as paragraphs, last] if held is paragraphs:
            context, qas = _part(last, "context", str), _part(last, "qas", list)
            yield Passage(context, tuple(map(_asked, qas)), of_row=False)
            paragraphs[-1] = None


def _is_row(element: object) -> bool:
    if not isinstance(element, dict) or "paragraphs" in element:
        return False
    return any(key in element for key in _OF_A_ROW)


def _row(row: object) -> Passage:
    return Passage(_part(row, "context", str), (_asked(row),), of_row=True)


def _asked(qa: object) -> Asked:
    name = _part(qa, "id", object)
    if type(name) is int or (isinstance(name, float) and math.isfinite(name)):
        name = str(name)
    impossible = qa.get("is_impossible") if isinstance(qa, dict) else None
    if impossible is not None and not isinstance(impossible, bool):
        raise Misfit(
            f"{reprlib.repr(impossible)} as 'is_impossible', which should be true or false"
        )
    return Asked(_checked(name, "id", str), _part(qa, "question", str), _answers(qa), impossible)


def _answers(qa: object) -> tuple[tuple[str, object], ...]:
    """The answers: a list of objects, or an object of lists as Hugging Face has it."""
    answers = _part(qa, "answers", object)
    if isinstance(answers, dict):
        texts, starts = _part(answers, "text", list), _part(answers, "answer_start", list)
        if len(texts) != len(starts):
            raise Misfit(f"{len(texts)} texts and {len(starts)} offsets in {reprlib.repr(answers)}")
        return tuple(
            (_checked(text, "text", str), start) for text, start in zip(texts, starts, strict=True)
        )
    return tuple(
        (_part(answer, "text", str), _part(answer, "answer_start", object))
        for answer in _checked(answers, "answers", list)
    )


_Kind = TypeVar("_Kind")


def _part(holder: object, key: str, kind: type[_Kind]) -> _Kind:
    """What a JSON object holds under `key`; Misfit says what is there instead of a `kind`."""
    if not isinstance(holder, dict) or key not in holder:
        raise Misfit(f"no {key!r} in {reprlib.repr(holder)}")
    return _checked(holder[key], key, kind)


def _checked(value: object, key: str, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        wanted = "text" if kind is str else "a list"
        raise Misfit(f"{reprlib.repr(value)} as {key!r}, which should be {wanted}")
    return value
