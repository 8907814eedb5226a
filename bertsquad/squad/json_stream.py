"""A file of JSON read piece by piece, so that memory never holds the whole of it.

A data set may have hundreds of megabytes, and Python's objects for it several times as much.
"""

import re
from collections.abc import Iterator
from typing import Any, TextIO

from bertsquad import typed
from bertsquad.typed import NotJson

#: So many characters are read at a time, or as many as an element has had so far without its end.
_PIECE = 1 << 20
_BLANKS = re.compile(r"[ \t\n\r]*")


class JsonStream:
    """JSON in a text file that is open at its begin; whoever reads it says what comes next.

    NotJson names the line of what is no JSON. Python's own errors of a file that can't be read
    or decoded pass through.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._line = 1  # in which `_text` begins

    def peek(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        if self._at < len(self._text) and self._text[self._at] > " ":  # as nearly always
            return self._text[self._at]
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None  # it fits anywhere
            self._at = blanks.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = typed.first(self._text, self._at)
            except NotJson as error:
                if self._more():  # maybe its end hasn't been read
                    continue
                raise self._error(str(error), error.at) from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._at = end
            return value

    def members(self) -> Iterator[str]:
        """The keys of an object; before the next is asked for, the value of each is to be read."""
        self._take("{")
        while self.peek() != "}":
            key = self.value()
            if not isinstance(key, str):
                raise self._error("expected a key in double quotes", self._at)
            self._take(":")
            yield key
            if not self._comma("}"):
                break
        self._take("}")

    def items(self) -> Iterator[None]:
        """A turn for each element of a list, which is to be read in it."""
        self._take("[")
        while self.peek() != "]":
            yield
            if not self._comma("]"):
                break
        self._take("]")

    def end(self) -> None:
        """NotJson unless nothing more comes."""
        if self.peek():
            raise self._error("more text behind the end of the JSON", self._at)

    def _comma(self, closing: str) -> bool:
        """Whether a comma comes, with another element behind it."""
        if self.peek() != ",":
            return False
        self._take(",")
        if self.peek() == closing:
            raise self._error(f"a comma before {closing}", self._at)
        return True

    def _take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self._error(f"expected {wanted}", self._at)
        self._at += 1

    def _more(self) -> bool:
        """Read more of the file and drop what is done with; whether there was more."""
        piece = self._file.read(max(_PIECE, len(self._text) - self._at))
        if piece:
            self._line += self._text.count("\n", 0, self._at)
            self._text = self._text[self._at :] + piece
            self._at = 0
        return bool(piece)

    def _error(self, said: str, at: int) -> NotJson:
        line = self._line + self._text.count("\n", 0, at)
        what = "the file ends too early" if at >= len(self._text) else said
        return NotJson(f"line {line}: {what}")
