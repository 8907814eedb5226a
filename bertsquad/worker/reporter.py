"""Tells which step goes on and how far it is, while somebody waits for an answer."""

import contextlib
import threading
from collections.abc import Callable

from bertsquad.progress import Show, Step

#: Seconds between two reports of a step; one costs a timed run a quarter of a millisecond.
REPORT_S = 1.0


class Reporter:
    """Shows the step that goes on: when it begins, and then every second how far it is.

    It has a thread while it is a context, which is as long as somebody waits for an answer.
    """

    def __init__(self, show: Show) -> None:
        self._show = show
        self._now: Callable[[], Step] | None = None
        self._lock = threading.Lock()  # so that no step is shown after the next one
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
        """Show a step; the caller calls again when the step has come further."""
        self.follow(lambda: step)

    def follow(self, now: Callable[[], Step]) -> None:
        """Show a step, and ask `now` every second how far it is."""
        with self._lock:
            self._now = now
            self._show(now())

    def _report(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: this process ends, too
            while not self._over.wait(REPORT_S):
                with self._lock:
                    if self._now is not None:
                        self._show(self._now())
