"""How long cases took here, kept from one pytest session to the next, whose estimate needs it.

It lies in the cache, and is no more than a help: where it is damaged or can't be written, estimates
are rough, as they are at first.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bertsquad import typed
from bertsquad.assets import registry
from bertsquad.assets.cache import FEATURES, PREPARED, TENSORRT, TIMES, cache_folder
from bertsquad.errors import SuiteError
from bertsquad.files import write_whole
from bertsquad.machine import hardware, identity
from bertsquad.results.result import Result
from bertsquad.scenarios import MODES
from bertsquad.suite.cases import Case
from bertsquad.suite.options import Options

NAME = "durations.json"
#: So many durations are kept, those of the newest runs.
MOST = 2000

#: So far files' times may lag behind the clock.
_COARSE_S = 0.1

#: Options that a duration depends on, beside what makes the case.
_SETTINGS = (
    *("rules", "dataset_size", "buffer_size", "min_duration_s", "target_qps", "target_latency_ms"),
    *("batch_tokens", "instances", "threads", "gpus", "max_length", "doc_stride"),
)


@dataclass(frozen=True)
class Step:
    """A case that is run next: by what its duration is kept, and the modes that it is run in.

    A compliance case makes the accuracy and the performance run that it compares with, where they
    weren't run before.
    """

    key: str
    modes: tuple[str, ...]


class Course:
    """Cases in the order in which they run: what is done before one tells how long it takes."""

    def __init__(self, options: Options) -> None:
        """`options` are those of the pytest session."""
        self._options = options
        self._here = f"{identity.identity()}, {hardware.cores()} cores"
        self._settings = [
            f"{name}={value}" for name in _SETTINGS if (value := getattr(options, name)) is not None
        ]
        self._group: tuple[str, ...] | None = None
        self._done: set[tuple[str, str]] = set()

    def next(self, case: Case, mode: str) -> Step:
        """The step of a case, which counts as run then."""
        missing = [
            one for one in MODES if mode == "compliance" and (case.id, one) not in self._done
        ]
        modes = tuple(missing or [mode])
        conf = [f"{key}={value}" for key, value in self._options.conf(case.scenario).items()]
        words = [self._here, "+".join(modes), case.id, *self._settings, *conf]
        if case.group != self._group:
            words.append("with a new worker")
        if not _has_files(case):
            words.append("without its files")
        self._group = case.group
        self._done |= {(case.id, one) for one in modes}
        return Step("; ".join(words), modes)


def _has_files(case: Case) -> bool:
    """Whether the files of a case are there already, as far as the suite knows which they are."""
    entries = registry.entries()
    names = [name for name in (case.model.file, case.dataset.file) if name is not None]
    return all(entries[name].bundled or registry.path_of(name).is_file() for name in names)


class Stopwatch:
    """Times the cases of a pytest session; `save` keeps what it has found."""

    def __init__(self, options: Options) -> None:
        """`options` are those of the pytest session."""
        self._course = Course(options)
        self._taken: dict[str, float] = {}

    def run(self, case: Case, mode: str, run_once: Callable[[], Result]) -> Result:
        """Run a case, and note how long that takes, also where it ends without a result.

        But for what is made or fetched once, which the next pytest session finds in the cache.
        """
        step, began, start = self._course.next(case, mode), time.time(), time.monotonic()
        try:
            result = run_once()
        except SuiteError:  # a skip, or a failure
            self._taken[step.key] = time.monotonic() - start
            raise
        if not _made_since(began):
            self._taken[step.key] = time.monotonic() - start
        return result

    def save(self) -> None:
        """Add the durations to those of earlier pytest sessions, if they can be written."""
        if not self._taken:
            return
        kept = {key: value for key, value in read().items() if key not in self._taken}
        newest = dict([*kept.items(), *self._taken.items()][-MOST:])
        text = json.dumps({key: round(value, 2) for key, value in newest.items()}, indent=0)
        with contextlib.suppress(OSError, SuiteError):
            write_whole(_file(), lambda file: file.write_text(text, encoding="utf-8"))


def read() -> Mapping[str, float]:
    """The seconds that cases took, by the keys of their steps, the oldest first."""
    try:
        found = typed.parse(_file().read_bytes())
    except (OSError, SuiteError, typed.NotJson):
        return {}
    if not isinstance(found, dict) or not all(map(_is_duration, found.values())):
        return {}
    return found


def _is_duration(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]


def _file() -> Path:
    return cache_folder() / TIMES / NAME


def _made_since(began: float) -> bool:
    """Whether something was put into the cache since a time."""
    with contextlib.suppress(OSError):
        for kind in (FEATURES, PREPARED, TENSORRT):
            for path in (cache_folder() / kind).rglob("*"):
                if path.stat().st_mtime >= began - _COARSE_S:
                    return True
    return False
