"""Links from the page to what a run answered, where its folder still holds that."""

import hashlib
import os
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
        Link(text, _address(file, page))
        for name, text in _SHOWN.items()
        if _holds(file := Path(result.run_dir) / name, result.answers.get(name))
    ]


def _holds(file: Path, checksum: str | None) -> bool:
    """Whether a file is there and has this checksum."""
    try:
        if checksum is None or not file.is_file():
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == checksum
    except (OSError, ValueError):  # which a path from elsewhere may bring
        return False


def _address(file: Path, page: Path | None) -> str:
    """From the page to the file, so that a folder with both can be moved; else the full address."""
    file = file.resolve()
    if page is not None:
        with suppress(ValueError):  # on another drive of Windows
            way = Path(os.path.relpath(file, page.resolve().parent))
            # With a dot before it, no name with a colon in it is taken for a scheme.
            return "./" + quote(os.fsencode(way.as_posix()))
    return file.as_uri()
