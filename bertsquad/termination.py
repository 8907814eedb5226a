"""The orderly end of a process that is told to stop: nothing is left running or half-written."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: What a shell shows of a process that Ctrl-C, or SIGTERM, has ended.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came. As with Ctrl-C, what runs is given up and cleans up after itself."""


@contextlib.contextmanager
def terminable() -> Iterator[threading.Event]:
    """Let SIGTERM raise Terminated in the main thread; what is yielded says whether it came.

    The first one counts: the end is near then, and must not be disturbed. Where SIGTERM is handled
    or ignored already, that stays so.
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
