"""The forms in which a file can have SQuAD's questions.

SQuAD's own JSON, v1.1 and v2.0, is an object whose `data` are articles of paragraphs. Hugging
Face's rows are objects with a context and one question each: one a line, or in a list, which may be
the `data` of an object.
"""

import math
import reprlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from bertsquad import typed
from bertsquad.squad.json_stream import JsonStream
from bertsquad.typed import NotJson

#: The endings of files with a row a line. Others are looked into.
_LINES = (".jsonl", ".ndjson")
_OF_A_ROW = ("question", "context", "answers")


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

    def __iter__(self) -> Iterator[Passage]:
        """Read the file, once. NotJson or Misfit where something else stands in it."""
        if self._path.suffix.lower() in _LINES:
            return self._lines()
        stream = JsonStream(self._file)
        if stream.peek() == "[":
            return self._list(stream)
        if stream.peek() == "{":
            return self._object(stream)
        _part(stream.value(), "data", list)
        return iter(())

    def _list(self, stream: JsonStream) -> Iterator[Passage]:
        count = 0
        for _ in stream.items():
            yield from _element(stream)
            count += 1
        stream.end()
        if not count:
            raise Misfit("an empty list")

    def _object(self, stream: JsonStream) -> Iterator[Passage]:
        """The passages of an object with `data`, or of lines that begin with an object of one."""
        members = yield from _members(stream, "data", _element)
        if _is_row(members) and stream.peek():
            self._file.seek(0)
            yield from self._lines()
            return
        stream.end()
        if _is_row(members):
            yield _row(members)
        else:
            _part(members, "data", list)
            self.version = str(members.get("version"))

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


def _members(
    stream: JsonStream, key: str, read: Callable[[JsonStream], Iterator[Passage]]
) -> Generator[Passage, None, dict[str, Any]]:
    """The passages that `read` finds in the list under `key` of an object.

    It returns the object's members, of which that list is empty.
    """
    members: dict[str, Any] = {}
    for name in stream.members():
        if name == key and stream.peek() == "[":
            members[name] = []
            for _ in stream.items():
                yield from read(stream)
        else:
            members[name] = stream.value()
    return members


def _element(stream: JsonStream) -> Iterator[Passage]:
    """The passages of an element of a list: an article with paragraphs, or a row."""
    if stream.peek() != "{":
        _part(stream.value(), "paragraphs", list)
    members = yield from _members(stream, "paragraphs", _paragraph)
    if _is_row(members):
        yield _row(members)
    else:
        _part(members, "paragraphs", list)


def _paragraph(stream: JsonStream) -> Iterator[Passage]:
    paragraph = stream.value()
    context, qas = _part(paragraph, "context", str), _part(paragraph, "qas", list)
    yield Passage(context, tuple(map(_asked, qas)), of_row=False)


def _is_row(element: object) -> bool:
    if not isinstance(element, dict) or "paragraphs" in element:
        return False
    return any(key in element for key in _OF_A_ROW)


def _row(row: object) -> Passage:
    return Passage(_part(row, "context", str), (_asked(row),), of_row=True)


def _asked(qa: object) -> Asked:
    name = _part(qa, "id", object)
    if isinstance(name, (int, float)) and not isinstance(name, bool) and math.isfinite(name):
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
