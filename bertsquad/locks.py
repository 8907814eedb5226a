"""Locks between processes: what one process has, the others wait for.

The system gives a lock back when its process ends, however that ends.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

#: Seconds between two looks whether a lock has become free.
POLL_S = 0.2

#: Gives a lock back.
Release = Callable[[], object]


def wait_for(take: Callable[[], Release | None], tell: Callable[[], object]) -> Release:
    """Take a lock as soon as it is free; `tell` is called once, if there is a wait."""
    told = False
    while (release := take()) is None:
        if not told:
            tell()
            told = True
        time.sleep(POLL_S)
    return release


def take_file(path: Path, note: str = "") -> Release | None:
    """Take the lock that is the file `path`; None while another process has it.

    The file is made for the lock, says `note` meanwhile, and is removed when the lock is given
    back. A symbolic link in its place is not followed. Raises OSError where there can be no lock.
    """
    lock = FileLock(path, mode=0o666)  # so that other users can wait for it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    own = path.lstat()
    with contextlib.suppress(OSError):  # the lock holds without a note, too
        path.write_text(note, encoding="utf-8")

    def release() -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), own):  # else somebody has put another there
                path.unlink()
        lock.release()

    return release


def note_in(path: Path) -> str:
    """What the process that has the lock `path` has noted; empty where that can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""
