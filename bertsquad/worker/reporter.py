"""Tells the pytest process which step the worker is at."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import asdict

from bertsquad.progress import Step

#: Seconds between two reports of a step; one costs a timed run a quarter of a millisecond.
REPORT_S = 1.0

Send = Callable[..., None]


class Reporter:
    """Tells the parent which step goes on: when it begins, and then every second how far it is.

    It has a thread while it is a context, which is as long as the parent waits for an answer.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._now: Callable[[], Step] | None = None
        self._lock = threading.Lock()  # so that no step is told of after the next one
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._report, name="reporter", daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._now = None

    def show(self, step: Step) -> None:
        """Tell of a step that says itself when it has come further."""
        self.follow(lambda: step)

    def follow(self, now: Callable[[], Step]) -> None:
        """Tell of a step that is asked how far it is."""
        with self._lock:
            self._now = now
            self._tell()

    def _tell(self) -> None:
        if self._now is not None:
            self._send("step", **asdict(self._now()))

    def _report(self) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and so will this process be
            while not self._over.wait(REPORT_S):
                with self._lock:
                    self._tell()
