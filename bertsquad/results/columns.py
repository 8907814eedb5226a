"""The keys of `result.json` as columns: those within others joined by dots.

As `qps`, `provenance.cores` or `provenance.versions.numpy`; a place in a list is a number, as in
`f1_interval.0`.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.results.result import Missing, Result

#: What of the provenance a table has that names no columns.
_PROVENANCE = (
    *("started_at", "machine", "machine_id", "cpu", "cores", "operating_system"),
    *("suite_version", "git_revision", "runtime", "instances", "threads", "batch_tokens"),
    *("model_checksum", "dataset_checksum"),
)
#: So many names are said of those that were perhaps meant.
_NEAR = 3


def usual() -> tuple[str, ...]:
    """The columns of a table for programs: each key that has one value, and what it ran on."""
    single = (str, int, float, bool)
    hints = typing.get_type_hints(Result)
    flat = [
        name for name, hint in hints.items() if hint in (*single, *(one | None for one in single))
    ]
    return (*flat, *(f"provenance.{key}" for key in _PROVENANCE))


def short(outcome: Result | Missing, columns: Sequence[str] = ()) -> dict[str, Any]:
    """What `result.json` has, without the timeline where no column is of that."""
    wanted = any(key.partition(".")[0] == "timeline" for key in columns)
    if isinstance(outcome, Result) and not wanted:
        document = replace(outcome, timeline={}).as_dict()
        del document["timeline"]
        return document
    return outcome.as_dict()


def value(document: Any, key: str) -> Any:
    """The value of a key, the keys of others before it joined by dots; KeyError if none is there.

    A key may have dots itself, as those of a `user.conf` have.
    """
    if isinstance(document, Mapping):
        if key in document:
            return document[key]
        for name, inner in document.items():
            if key.startswith(f"{name}."):
                try:
                    return value(inner, key[len(name) + 1 :])
                except KeyError:
                    continue
    elif isinstance(document, list | tuple):
        place, _, rest = key.partition(".")
        if place.isdecimal() and int(place) < len(document):
            found = document[int(place)]
            return value(found, rest) if rest else found
    raise KeyError(key)


def rows(documents: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[list[Any]]:
    """A row for each document, None where it lacks a column.

    SuiteError names a column that none of them has.
    """
    known = {*usual(), *(field.name for field in dataclasses.fields(Result))}
    found: list[list[Any]] = []
    unknown = set(columns) - known
    for document in documents:
        row = []
        for key in columns:
            try:
                row.append(value(document, key))
                unknown.discard(key)
            except KeyError:
                row.append(None)
        found.append(row)
    for key in columns:
        if key in unknown:
            raise no_such(key, documents)
    return found


def no_such(key: str, documents: Iterable[Mapping[str, Any]]) -> SuiteError:
    """The error for a key that no result has."""
    known = dict.fromkeys(name for one in documents for name in _names(one))
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(key, known, _NEAR) or [
        last[one] for one in difflib.get_close_matches(key.rpartition(".")[2], last, _NEAR)
    ]
    near = f", near which are {', '.join(close)}" if close else ""
    return SuiteError(
        f"expected keys of result.json, such as qps or provenance.cores, got {key!r}{near}: "
        "docs/results.md lists them all"
    )


def _names(document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of a document and of the objects in it."""
    for key, one in document.items():
        yield f"{prefix}{key}"
        if isinstance(one, Mapping):
            yield from _names(one, f"{prefix}{key}.")
