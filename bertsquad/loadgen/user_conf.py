"""LoadGen's `user.conf`: what LoadGen reads in it for BERT.

The file is LoadGen's to read (`loadgen/reading.py`, in the worker); this is what it found.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.scenarios import SCENARIOS

#: LoadGen's name of the benchmark. Any other silently loses BERT's constants.
BENCHMARK = "bert"

#: No user.conf is larger; LoadGen's own mlperf.conf has 8 kB.
MOST_BYTES = 2**16


@dataclass(frozen=True)
class UserConf:
    """What LoadGen reads of a user.conf: for each scenario the keys that the file sets.

    Values are in the file's own units (target_latency in ms, percentiles in per cent, 1 for true).
    `own` has LoadGen's values of these keys without the file, `passed_over` the lines that seem to
    be about BERT but have no effect. Paths are text, so that it is JSON.
    """

    file: str
    settings: dict[str, dict[str, float]]
    own: dict[str, dict[str, float]]
    passed_over: list[str]

    def of(self, scenario: str) -> dict[str, float]:
        """The value of each key that the file sets in a scenario."""
        return self.settings.get(scenario, {})

    def as_dict(self) -> dict[str, Any]:
        """The file, and what LoadGen read in it, by keys that a user.conf may have."""
        settings = {
            f"{BENCHMARK}.{SCENARIOS[scenario].loadgen_name}.{key}": value
            for scenario, found in self.settings.items()
            for key, value in found.items()
        }
        return {"file": self.file, "settings": settings}

    def __str__(self) -> str:
        """What it sets, scenario by scenario, as a reader of the terminal sees it."""
        told = (
            f"{scenario} {', '.join(f'{key} {plain(value)}' for key, value in found.items())}"
            for scenario, found in self.settings.items()
            if found
        )
        return "; ".join(told) or "nothing for BERT"


def plain(value: float) -> str:
    """A value as a user.conf would have it: all digits of a whole number, twelve of another."""
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def content(path: Path) -> bytes:
    """The bytes of a user.conf; SuiteError where there is no text file of a likely size."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SuiteError(f"{path} can't be read as a user.conf: it is no regular file")
        if status.st_size > MOST_BYTES:
            raise SuiteError(
                f"{path} can't be read as a user.conf: it has {status.st_size:,} bytes, and "
                f"{MOST_BYTES:,} are the most"
            )
        text = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # a path that no system takes
        raise SuiteError(f"{str(path)!r} can't be read: {error}") from error
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} can't be read as a user.conf: it is no UTF-8: {error}") from error
    if b"\0" in text:
        raise SuiteError(
            f"{path} can't be read as a user.conf: it holds NUL bytes, so it's no text"
        )
    return text
