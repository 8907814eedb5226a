"""Locks between processes: what one process has, the others wait for.

The system gives a lock back when its process ends, however that ends.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
    if sys.platform == "win32":
        from filelock import FileLock, Timeout

        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock.release
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if not _lock(handle):
                os.close(handle)
                return None
            if _is_at(handle, path):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the process before removed it in between
    with contextlib.suppress(OSError):  # neither is worth a failure
        os.fchmod(handle, 0o666)  # so that other users can wait for it
        os.truncate(handle, 0)
        os.write(handle, note.encode())

    def release() -> None:
        with contextlib.suppress(OSError):
            if _is_at(handle, path):
                path.unlink()
        os.close(handle)

    return release


def note_in(path: Path) -> str:
    """What the process that has the lock `path` has noted; empty where that can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""


def _lock(handle: int) -> bool:
    """Whether the lock on an open file could be had."""
    import fcntl  # Windows has none

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # the second on network file systems
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
