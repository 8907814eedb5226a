"""How a process ends at Ctrl-C, SIGTERM or SIGHUP: in order, with nothing left half-written."""

import atexit
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: The exit status of a process that Ctrl-C has ended, as a shell shows it.
INTERRUPTED = 128 + signal.SIGINT

#: Seconds after a signal in which further ones, as of a hand that presses Ctrl-C twice, don't
#: disturb the cleaning up. Who presses it later insists on an end.
INSIST_S = 5.0

#: The signals that end a process, and who handles each before anybody else does.
_USUAL: dict[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    **({signal.SIGHUP: signal.SIG_DFL} if hasattr(signal, "SIGHUP") else {}),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM came, or SIGHUP as of a closed terminal: as after Ctrl-C, what runs is broken off.

    It cleans up after itself; `status` is what the process ends with.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.status = 128 + number


class Told:
    """What a process was told by signals: its exit `status`, None but after SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._at: float | None = None
        self._finishing = False

    @property
    def to_end(self) -> bool:
        """Whether there was any signal, also Ctrl-C's."""
        return self._at is not None

    def finish(self) -> None:
        """Begin to end without a signal, by saving, which none that comes now disturbs."""
        if self._at is None:
            self._at, self._finishing = time.monotonic(), True

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt or Terminated, unless that was done just now."""
        now = time.monotonic()
        if self._at is not None and now - self._at < INSIST_S:
            if self._finishing and number != signal.SIGINT and self.status is None:
                self.status = 128 + number
            return
        if number == signal.SIGINT:
            self._at = now
            raise KeyboardInterrupt
        if self.status is None:
            self._at = now
            error = Terminated(number)
            self.status = error.status
            raise error


@contextlib.contextmanager
def terminable() -> Iterator[Told]:
    """Let SIGTERM and SIGHUP raise Terminated in the main thread, as Ctrl-C does KeyboardInterrupt.

    None of them disturbs the cleaning up that the first one has begun; only Ctrl-C does, if it
    comes INSIST_S later. What is handled or ignored already, as SIGHUP under `nohup`, stays so.
    """
    told = Told()
    is_main = threading.current_thread() is threading.main_thread()
    ours = [one for one, usual in _USUAL.items() if is_main and signal.getsignal(one) is usual]
    for number in ours:
        signal.signal(number, told.handle)
    try:
        yield told
    finally:
        for number in ours:
            # What is left of the process would end in a traceback at one more Ctrl-C, and by that
            # signal where Python itself is ending and has given up its handlers.
            if number == signal.SIGINT and told.to_end:
                atexit.register(signal.signal, number, signal.SIG_IGN)
            else:
                signal.signal(number, _USUAL[number])
