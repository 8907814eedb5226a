"""One timed run at a time on a device, whoever of the machine's users starts them."""

import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bertsquad import locks
from bertsquad.files import reason

#: How all users of a machine name its locks. The project's own tests have another name.
NAME = "bertsquad"


def _folder() -> Path:
    """A folder that is the same for all users, whatever their settings; not used on Linux."""
    return Path("C:/ProgramData" if sys.platform == "win32" else "/tmp")  # noqa: S108


@contextlib.contextmanager
def device_to_itself(processor: str, tell: Callable[[str], object]) -> Iterator[bool]:
    """Wait until no other run on this machine uses the `processor`, "cpu" or "gpu".

    `tell` gets a sentence if there is a wait. If there can be no lock, as where another user has
    the file, `tell` gets that and the run goes on. Gives whether the device is locked.
    """
    name = f"{NAME}-{processor}"
    take = take_name if sys.platform == "linux" else take_in_folder
    release: locks.Release | None = None
    try:
        release = locks.wait_for(
            lambda: take(name),
            lambda: tell(
                f"another run measures on this machine's {processor.upper()}: waiting for its end"
            ),
        )
    except OSError as error:
        place = error.filename or f"the name {name}"
        why = reason(error, error.filename)
        tell(f"{place} can't be locked ({why}), so another run may disturb this one")
    try:
        yield release is not None
    finally:
        if release is not None:
            release()


def take_name(name: str) -> locks.Release | None:
    """Take the lock that is an address of Linux's own, which lies in no folder; None if taken.

    There is no file that could be another user's or a symbolic link, and no variable moves it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # not handed on to child processes
    try:
        held.bind(f"\0{name}")
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return held.close


def take_in_folder(name: str) -> locks.Release | None:
    """Take the lock that is a file in a folder which all users share; None if taken."""
    return locks.take_file(_folder() / f"{name}.lock")
