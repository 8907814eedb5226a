"""A run's folder: one pytest session at a time writes to it, and each run replaces it whole.

A run is written beside its folder, under a name that says that it is unfinished, and takes the
place of the earlier one when it has a result. So whatever ends it before leaves the earlier result
as it is, and what it has measured under that name until the case's next run.
"""

import contextlib
import errno
import getpass
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from bertsquad import locks
from bertsquad.errors import SuiteError
from bertsquad.files import reason
from bertsquad.loadgen import logs
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.results import predictions
from bertsquad.results.result import RESULT, Result

#: What the name of a run's folder ends in while there is no result, also after it was broken off.
UNFINISHED = ".unfinished"
#: What the name of the earlier run's folder ends in while a new one takes its place.
_REPLACED = ".replaced"
_LOCK = ".lock"
#: What a run writes; anything else in its folder is the user's own.
_WRITTEN = (*logs.NAMES, "audit.config", TIMELINE, *predictions.NAMES, RESULT)


class RunFolder:
    """The folder of a case's run in one mode, which this process owns (see `owned`).

    Its methods raise OSError where something can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = path.resolve()  # a link to a folder elsewhere stays one
        self.unfinished = self._beside(UNFINISHED)
        self._replaced = self._beside(_REPLACED)

    def _beside(self, suffix: str) -> Path:
        return self._place.with_name(self._place.name + suffix)

    def begin(self) -> Path:
        """The folder that a new run is to be written into, free of what an earlier one left."""
        if self._place.exists() and not self._place.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
        self.settle()
        self.unfinished.mkdir(parents=True, exist_ok=True)
        for file in _written_in(self.unfinished):
            file.unlink()
        return self.unfinished

    def settle(self) -> bool:
        """Let a run with a result take the place of the earlier one; whether there was such a run.

        However often a process was killed in here, the next call ends what it had begun.
        """
        self._clear_replaced()
        finished = (self.unfinished / RESULT).is_file()
        if finished:
            if self._place.exists():
                self._place.rename(_free(self._replaced))
            self.unfinished.rename(self._place)
            self._clear_replaced()
        elif self._replaced.exists() and not self._place.exists():
            self._replaced.rename(self._place)
        return finished

    def _clear_replaced(self) -> None:
        """Remove the earlier run once another has its place; the user's own files move there.

        One that can't be removed, as another user's, stays: the new run is no worse for it.
        """
        if not (self._replaced.exists() and self._place.exists()):
            return
        with contextlib.suppress(OSError):
            for file in _written_in(self._replaced):
                file.unlink()
            for own in self._replaced.iterdir():
                own.rename(_free(self._place / own.name))
            self._replaced.rmdir()


@contextlib.contextmanager
def owned(path: Path, tell: Callable[[str], object]) -> Iterator[RunFolder]:
    """The run folder at `path`, to which no other pytest session writes meanwhile.

    Where one does, `tell` gets a sentence and this waits. Where there can be no lock, `tell` gets
    that, and it is owned all the same. Raises OSError where the folder above can't be made.
    """
    folder = RunFolder(path)
    lock = folder._beside(_LOCK)
    lock.parent.mkdir(parents=True, exist_ok=True)
    release: locks.Release | None = None
    try:
        release = locks.wait_for(
            lambda: locks.take_file(lock, _this_process()),
            lambda: tell(
                f"{locks.note_in(lock) or 'another pytest session'} writes to {path}: waiting for "
                "its end (--output chooses another folder)"
            ),
        )
    except OSError as error:
        why = reason(error, lock)
        tell(f"{lock} can't be locked ({why}), so another pytest session may write there, too")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.unfinished.rmdir()  # if it is empty
        if release is not None:
            release()


def refuse_another(result: Result) -> None:
    """SuiteError if the logs in a result's folder are no more those of its run."""
    if logs.checksums(Path(result.run_dir)) != result.provenance["log_checksums"]:
        raise SuiteError(
            f"{result.run_dir} holds another run than the one of this pytest session: another one "
            "has run the case there meanwhile, so give each a folder of its own with --output"
        )


def case_of(folder: Path) -> str:
    """The name of a run folder, without what it ends in while it has no result."""
    return folder.name.removesuffix(UNFINISHED).removesuffix(_REPLACED)


def _written_in(folder: Path) -> list[Path]:
    return [folder / name for name in _WRITTEN if (folder / name).is_file()]


def _free(path: Path) -> Path:
    """The path, or one with marks behind it where that is taken."""
    while path.exists():
        path = path.with_name(f"{path.name}~")
    return path


def _this_process() -> str:
    """Who holds a lock, for those who wait for it."""
    user = ""
    with contextlib.suppress(OSError, KeyError, ImportError):  # a user without a name
        user = f"{getpass.getuser()} "
    return f"process {os.getpid()} ({user}on {platform.node() or 'this machine'})"
