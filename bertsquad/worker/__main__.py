"""The process with the model, which `worker/handle.py` starts.

    python -m bertsquad.worker

It reads messages from standard input and answers on standard output (`worker/protocol.py`).
"""

import contextlib
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
from bertsquad.worker import protocol
from bertsquad.worker.runner import Reporter, Runner, describe


class Service:
    """Answers messages: the first sets it up, each of the others asks for a run."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._reporter = Reporter(self.send)
        self._runner: Runner | None = None

    def send(self, message: protocol.FromWorker) -> None:
        """Say something to pytest's process."""
        with self._lock:
            self._channel.write(protocol.encode(message))
            self._channel.flush()

    def serve(self, lines: Iterator[str]) -> None:
        """Answer one message after the other, each with an answer or with protocol.Raised."""
        for line in lines:
            try:
                self.send(self._answer(protocol.decode(line)))
            except SuiteError as error:
                self.send(protocol.Raised.of(error))
            except Exception as error:  # anything else is the model's or the runtime's
                self.send(protocol.Raised(SuiteError.__name__, describe(error)))

    def _answer(self, message: protocol.ToWorker) -> protocol.Answer:
        match message:
            case protocol.DevicesAsked():
                reasons = {name: why_not_really(name) for name in DEVICES}
                able = {name: precisions_here(name) for name in DEVICES if not reasons[name]}
                return protocol.DevicesFound(reasons, able)
            case protocol.Setup():
                with self._reporter:
                    self._runner = Runner(message, self.send, self._reporter)
                    return self._runner.ready
            case Request() if self._runner is not None:
                with self._reporter:
                    return self._runner.run(message)
        raise SuiteError(f"expected a Setup first, found {message!r:.60}: reinstall the suite")

    def abandon(self) -> None:
        """End at once, but leave what a run under way has measured."""
        with contextlib.suppress(Exception):
            if self._runner is not None:
                self._runner.keep()
        os._exit(0)


def _main() -> None:
    # Libraries print to standard output; the messages keep a channel of their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        service = Service(channel)
        with contextlib.suppress(BrokenPipeError):
            service.serve(_lines(service.abandon))
    os._exit(0)  # runtimes have threads that would delay a normal exit


def _lines(at_end: Callable[[], None]) -> Iterator[str]:
    """The lines of standard input; `at_end` is called when that is closed, even during a run."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        at_end()

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    _main()
