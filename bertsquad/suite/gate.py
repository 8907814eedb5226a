"""`--gate`: each result is compared with those of the nights before, and a miss is run again once.

Earlier results are those in pytest-benchmark's storage, which under `--gate` gets every pytest
session's results, with what the gate said of them.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.files import failure, unreadable, unwritable
from bertsquad.results import archive, baseline
from bertsquad.results.comparison import differences
from bertsquad.results.document import NotOurs
from bertsquad.results.machines import machine_of, this_machine
from bertsquad.results.result import RESULT, Result
from bertsquad.suite.cases import Case
from bertsquad.suite.earlier import expected
from bertsquad.suite.options import Options

#: So many of the newest files of the storage are read, which may be of many cases and machines.
MOST_FILES = 1000
#: What a file of the storage is called, after its number, where the user gives no name.
NAME = "gate"

#: Tells the user something at once.
Say = Callable[[str], object]


def storage_folder(storage: str) -> Path:
    """The folder that `--benchmark-storage` names; SuiteError where the gate can't read it."""
    if "://" in storage and not storage.startswith("file://"):
        raise SuiteError(
            "--gate reads earlier results from files: give a folder with --benchmark-storage, not "
            "an address"
        )
    folder = Path(storage.removeprefix("file://")).absolute()
    try:
        if folder.exists():
            next(folder.iterdir(), None)
    except OSError as error:
        raise unreadable(folder, error, "choose another with --benchmark-storage") from error
    return folder


class Gate:
    """Judges results by the earlier ones in a folder, which are read once, when first needed."""

    def __init__(self, band: float, accept: bool, folder: Path, say: Say) -> None:
        """A figure may be worse by `band` per cent; with `accept` all are a new baseline."""
        self._band = band
        self._accept = accept
        self._folder = folder
        self._say = say
        self._history: list[Result] | None = None

    def run(self, run_once: Callable[[], Result]) -> Result:
        """The result of a run, judged; where it misses, that of a second run, which counts.

        Where the second one gives no result, whatever the reason, the first one's stays.
        """
        first = self._judged(run_once())
        missed = first.gate
        if missed is None or not missed.failed:
            return first
        self._say(f"{first.case}, {first.mode}: {missed.reason}; it is run again")
        try:
            second = run_once()
        except SuiteError as error:
            why = str(error)
        except OSError as error:
            why = str(failure(error))
        else:
            return self._judged(second, missed.value)
        reason = f"{missed.reason}; run again, which gave no result: {why}"
        return _saved(replace(first, gate=replace(missed, reason=reason)))

    def lost(self, case: Case, options: Options) -> int:
        """How many good runs a timed case had on this machine, asked for as by `options`.

        For one that no rate can be had of any more; 0 where that is accepted.
        """
        if self._accept:
            return 0
        here = this_machine()
        return sum(
            (one.case, one.mode) == (case.id, "performance")
            and machine_of(one) == here
            and baseline.is_good(one)
            and not differences(expected(case, options, vars(one)), vars(one))
            for one in self.history()
        )

    def _judged(self, result: Result, first_value: float | None = None) -> Result:
        """The result with the gate's verdict, which its `result.json` has then too."""
        if result.failure is not None:
            return result
        verdict = baseline.judge(result, self.history(), self._band, self._accept)
        if verdict is None:
            return result
        if first_value is not None:
            reason = f"{verdict.reason}; run again after {first_value:.5g}"
            verdict = replace(verdict, first_value=first_value, reason=reason)
        return _saved(replace(result, gate=verdict))

    def history(self) -> list[Result]:
        """The earlier results, each once; what can't be read is told and left out."""
        if self._history is None:
            found: list[Result] = []
            for path in sorted(self._folder.rglob("*.json"), key=_changed)[-MOST_FILES:]:
                try:
                    found += archive.read([path]).results
                except NotOurs:
                    continue
                except SuiteError as error:
                    self._say(f"the gate leaves a file of the history out: {error}")
            if not found:
                self._say(f"the gate found no earlier results in {self._folder}")
            # Without what is drawn of them, which would fill the memory.
            self._history = [replace(one, timeline={}) for one in archive.distinct(found)]
        return self._history


def _changed(path: Path) -> float:
    """When a file was changed; 0 where it has gone, which shows when it is read."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _saved(result: Result) -> Result:
    """The result, its `result.json` written anew; it fails where that can't be done."""
    try:
        result.save()
    except OSError as error:
        place = Path(result.run_dir) / RESULT
        return result.unwritten(
            str(unwritable(place, error, "choose another folder with --output"))
        )
    return result
