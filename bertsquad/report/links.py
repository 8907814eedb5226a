"""Links from the page to what a run answered, where its folder still holds that."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bertsquad.results.predictions import PREDICTIONS, WORST
from bertsquad.results.result import Result

_SHOWN = {WORST: "the worst answers", PREDICTIONS: "all answers"}


@dataclass(frozen=True)
class Link:
    """What a reader clicks on, and where that leads."""

    text: str
    address: str


def answers(result: Result, page: Path | None) -> list[Link]:
    """Links to the files of answers of a result, from a page in the file `page`.

    There is none to a file that is gone, or that has become another run's.
    """
    return [
        Link(text, address)
        for name, text in _SHOWN.items()
        for address in _address(Path(result.run_dir) / name, result.answers.get(name), page)
    ]


def _address(file: Path, checksum: str | None, page: Path | None) -> Iterator[str]:
    """The address of a file if it is the one with this checksum."""
    with suppress(OSError, ValueError):  # which a path from elsewhere may bring
        if checksum is None or not file.is_file():
            return
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != checksum:
                return
        yield _relative(file.resolve(), page) if page else file.resolve().as_uri()


def _relative(file: Path, page: Path) -> str:
    """From the page to the file, so that a folder with both can be moved; else the full address."""
    try:
        way = Path(os.path.relpath(file, page.resolve().parent))
    except ValueError:  # on another drive of Windows
        return file.as_uri()
    # With a dot before it, no name with a colon in it is taken for a scheme.
    return "./" + quote(os.fsencode(way.as_posix()))
