"""Rows as text: aligned for a terminal, for a mail, for a spreadsheet or for a program."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bertsquad.errors import printable

_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


def aligned(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose columns are as wide as their longest cell, numbers to the right."""
    return "\n".join("  ".join(line).rstrip() for line in _padded(head, rows, printable))


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown that is aligned as text too; a cell stays one whatever is in it."""
    lines = [f"| {' | '.join(line)} |" for line in _padded(head, rows, _in_markdown)]
    rule = re.sub(r"[^|]", "-", re.sub(r"\\\|", "--", lines[0]))
    return "\n".join([lines[0], rule, *lines[1:]])


def comma_separated(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV: an empty cell where there is no value, JSON where one has parts."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_json_of_parts(one) for one in row] for row in rows)
    return made.getvalue().removesuffix("\n")


def document(value: Any) -> str:
    """A JSON document, an object or a list a line of its own, in ASCII."""
    return json.dumps(value, indent=2)


def lines_of(values: Iterable[Any]) -> str:
    """A JSON document a line, in ASCII."""
    return "\n".join(map(json.dumps, values))


def cell(value: Any) -> str:
    """A value for people: a dash where there is none, numbers to ten digits."""
    if value is None:
        return "-"
    return f"{value:.10g}" if isinstance(value, float) else str(_json_of_parts(value))


def _json_of_parts(value: Any) -> Any:
    """What has no other form in one cell, as JSON."""
    return json.dumps(value) if isinstance(value, bool | dict | list | tuple) else value


def _padded(head: Sequence[str], rows: Iterable[Sequence[Any]], safe: Any) -> list[list[str]]:
    """The lines of a table as cells that are equally wide in a column."""
    columns = [
        [safe(cell(one)) for one in column] for column in zip(head, *map(tuple, rows), strict=True)
    ]
    padded = []
    for column in columns:
        width = max(map(len, column))
        numbers = [one for one in column[1:] if one not in ("-", "")]
        right = bool(numbers) and all(map(_NUMBER.fullmatch, numbers))
        padded.append([one.rjust(width) if right else one.ljust(width) for one in column])
    return [list(line) for line in zip(*padded, strict=True)]


def _in_markdown(text: str) -> str:
    """A text that neither ends its cell nor becomes anything else than text."""
    for char in "\\|`*<":
        text = text.replace(char, f"\\{char}")
    return printable(" ".join(text.split()))
