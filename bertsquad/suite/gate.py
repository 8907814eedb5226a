"""`--gate`: each result is compared with those of the nights before, and a miss is run again once.

Earlier results are those in pytest-benchmark's storage, which under `--gate` gets every pytest
session's results, with what the gate said of them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.results import archive, baseline
from bertsquad.results.document import NotOurs
from bertsquad.results.result import Result

#: So many of the newest files of the storage are read.
MOST_FILES = 100
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
        """The result of a run, judged; where it misses, that of a second run, which counts."""
        result = self._judged(run_once())
        if result.gate is None or not result.gate.failed:
            return result
        self._say(f"{result.case}, {result.mode}: {result.gate.reason}; it is run again")
        return self._judged(run_once(), result.gate.value)

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
        judged = replace(result, gate=verdict)
        judged.save()
        return judged

    def history(self) -> list[Result]:
        """The earlier results; what can't be read is told and left out."""
        if self._history is None:
            self._history = []
            files = sorted(self._folder.rglob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in files[-MOST_FILES:]:
                try:
                    self._history += archive.read([path]).results
                except NotOurs:
                    continue
                except SuiteError as error:
                    self._say(f"the gate leaves a file of the history out: {error}")
        return self._history
