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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, describe
from bertsquad.files import failure
from bertsquad.loadgen.request import Request
from bertsquad.runtime.availability import conflict
from bertsquad.worker import libraries, protocol
from bertsquad.worker.reporter import Reporter

# What needs the runtime or LoadGen is imported when those are loaded, since they may be broken.
if TYPE_CHECKING:
    from bertsquad.worker.runner import Runner


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
            except OSError as error:
                told = failure(error, "choose other folders with --output and BERTSQUAD_CACHE")
                self.send(protocol.Raised.of(told))
            except Exception as error:  # anything else is the model's or the runtime's
                self.send(protocol.Raised(SuiteError.__name__, describe(error)))

    def _answer(self, message: protocol.ToWorker) -> protocol.Answer:
        match message:
            case protocol.DevicesAsked():
                return self._devices()
            case protocol.UserConfAsked():
                libraries.load(self.send, ("mlperf_loadgen",))
                from bertsquad.loadgen import reading

                return reading.read(Path(message.file))
            case protocol.Setup():
                return self._set_up(message)
            case Request() if self._runner is not None:
                with self._reporter:
                    return self._runner.run(message)
        raise SuiteError(f"expected a Setup first, found {message!r:.60}: reinstall the suite")

    def _devices(self) -> protocol.DevicesFound:
        try:
            versions = libraries.load(self.send)
        except SuiteError as error:
            return protocol.DevicesFound(dict.fromkeys(DEVICES, conflict() or str(error)))
        from bertsquad.runtime.proofs import precisions_here, why_not_really

        found = {name: why_not_really(name) for name in DEVICES}
        able = {name: precisions_here(name) for name in DEVICES if not found[name]}
        return protocol.DevicesFound(found, able, versions)

    def _set_up(self, setup: protocol.Setup) -> protocol.Ready:
        versions = libraries.load(self.send)
        from bertsquad.worker.runner import Runner

        with self._reporter:
            self._runner = Runner(setup, self.send, self._reporter)
            return replace(self._runner.ready, versions=versions)

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
