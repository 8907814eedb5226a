"""What an option takes: each parser makes a value of its text, or says in a sentence what is wrong.

All raise SuiteError.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable, user_path
from bertsquad.loadgen.user_conf import content
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad.features import MAX_TOKENS


def choice(*names: str) -> Callable[[str], str]:
    """A parser that takes one of `names`."""

    def parse(text: str) -> str:
        if text not in names:
            raise SuiteError(f"expected one of {', '.join(names)}, got {text!r}")
        return text

    return parse


def count(text: str) -> int:
    """A parser that takes a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise SuiteError(f"expected a whole number of at least 1, got {text!r}")
    return value


def size(text: str) -> int | str:
    """A parser that takes a number of samples, or `all`."""
    return text if text == "all" else count(text)


def tokens(text: str) -> int:
    """A parser that takes a batch's token budget, which must have room for the longest window."""
    value = count(text)
    if value < MAX_TOKENS:
        raise SuiteError(
            f"expected at least {MAX_TOKENS}, the tokens of the longest sample, got {text!r}"
        )
    return value


def number(text: str) -> float:
    """A parser that takes a finite number."""
    value = _number(text)
    if not math.isfinite(value):
        raise SuiteError(f"expected a number, got {text!r}")
    return value


def _number(text: str) -> float:
    """The number in a text, NaN where there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive(text: str) -> float:
    """A parser that takes a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise SuiteError(f"expected a number above 0, got {text!r}")
    return value


def per_cent(text: str) -> float:
    """A parser that takes a number above 1 and at most 100, since what is less is a fraction."""
    value = positive(text)
    if value <= 1:
        raise SuiteError(
            f"expected per cent, got {text!r}, which looks like a fraction: {100 * value:g} is "
            "that in per cent"
        )
    if value > 100:
        raise SuiteError(f"expected per cent, at most 100, got {text!r}")
    return value


def band(text: str) -> float:
    """A parser that takes the per cent by which a figure may be worse."""
    value = _number(text)
    if not 0 < value <= 100:
        raise SuiteError(
            f"expected per cent above 0, and at most 100, got {text!r}: write --gate=5, or --gate "
            "as the last word of the command"
        )
    return value


#: The end of a case's name.
_CASE = re.compile(rf".+-({'|'.join(SCENARIOS)})-({'|'.join(DEVICES)})-({'|'.join(PRECISIONS)})")


def required(text: str) -> tuple[str, ...]:
    """A parser that takes the name of a case, or the path of a file with such names."""
    if _CASE.fullmatch(text) and "/" not in text:
        return (text,)
    try:
        lines = user_path(text).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise SuiteError(
            f"expected a case such as {_SOME_CASE}, or a file, got {text!r}"
        ) from error
    except OSError as error:
        raise unreadable(text, error) from error
    except ValueError as error:
        raise SuiteError(f"{text} can't be read: it is no text ({error})") from error
    names = tuple(name for line in lines if (name := line.partition("#")[0].strip()))
    for name in names or (f"nothing in {text}",):
        if not _CASE.fullmatch(name):
            raise SuiteError(
                f"{text}: expected a case a line, such as {_SOME_CASE}, got {name!r:.80}"
            )
    return names


_SOME_CASE = "minilm-pocket-offline-cpu-fp32"


def user_conf(text: str) -> Path:
    """A parser that takes the path of a text file; what LoadGen reads in it shows later."""
    path = user_path(text)
    content(path)
    return path


def pair(text: str) -> tuple[str, str]:
    """A parser that takes two names with a comma between."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise SuiteError(f"expected two names with a comma between, got {text!r}")
    return names[0], names[1]


def existing(text: str) -> Path:
    """A parser that takes the path of a file or folder."""
    path = user_path(text)
    if not path.exists():
        raise SuiteError(f"there is no file or folder {text}")
    return path


def output(text: str) -> Path:
    """A parser that takes the path of a folder, which need not exist yet."""
    path = user_path(text)
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise SuiteError(f"expected a folder, but {str(there)!r} is a file")
    return path
