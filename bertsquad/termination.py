"""How a process ends at SIGTERM: in order, with nothing left running or half-written."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: The exit status of a process that Ctrl-C, or SIGTERM, has ended, as a shell shows it.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came: as after Ctrl-C, what runs is broken off and cleans up after itself."""


@contextlib.contextmanager
def terminable() -> Iterator[threading.Event]:
    """Let SIGTERM raise Terminated in the main thread; the event that is yielded says if it came.

    A second SIGTERM is ignored, so that it can't disturb the cleaning up. If SIGTERM is handled or
    ignored already, that stays so.
    """
    came = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        came.set()
        raise Terminated("ended by SIGTERM")

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield came
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
