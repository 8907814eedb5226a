"""The child process that `worker.py` starts: it makes one engine and runs case after case.

    python -m bertsquad.child

A case is warming up, probing, letting LoadGen run and writing what the SUT saw.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.loadgen.request import Request
from bertsquad.runtime.proofs import precisions_here, why_not_really
from bertsquad.worker.protocol import DEVICES_ASKED, Event, Setup
from bertsquad.worker.reporter import Reporter
from bertsquad.worker.runner import Runner, describe


class Service:
    """Answers the parent's messages: the first sets it up, each of the others is a case."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._reporter = Reporter(self.send)
        self._runner: Runner | None = None

    def send(self, event: str, **fields: object) -> None:
        """Tell the parent something."""
        with self._lock:
            self._channel.write(json.dumps({"event": event, **fields}) + "\n")
            self._channel.flush()

    def serve(self, messages: Iterator[Event]) -> None:
        """Answer one message after the other, with `done` or `raised` in the end."""
        for message in messages:
            try:
                self.send("done", **self._answer(message))
            except SuiteError as error:
                subject = getattr(error, "subject", None)
                kind = type(error).__name__
                self.send("raised", kind=kind, message=str(error), subject=subject)
            except Exception as error:  # anything else is the model's or the runtime's
                self.send("raised", kind="SuiteError", message=describe(error))

    def _answer(self, message: Event) -> Event:
        if DEVICES_ASKED in message:
            reasons = {name: why_not_really(name) for name in DEVICES}
            able = {name: precisions_here(name) for name in DEVICES if not reasons[name]}
            return {"reasons": reasons, "precisions": able}
        with self._reporter:
            if self._runner is None:
                self._runner = Runner(Setup(**message), self.send, self._reporter)
                return self._runner.facts()
            return self._runner.run(Request(**message))

    def abandon(self) -> None:
        """End at once, but leave what a run under way has measured."""
        with contextlib.suppress(Exception):
            if self._runner is not None:
                self._runner.keep()
        os._exit(0)


def _main() -> None:
    # Libraries print to standard output; the events keep a channel of their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        service = Service(channel)
        with contextlib.suppress(BrokenPipeError):
            service.serve(_messages(service.abandon))
    os._exit(0)  # runtimes have threads that would delay a normal exit


def _messages(at_end: Callable[[], None]) -> Iterator[Event]:
    """What the parent says; `at_end` is called when it is gone or has given up, whatever runs."""
    messages: queue.Queue[Event] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        at_end()

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield messages.get()


if __name__ == "__main__":
    _main()
