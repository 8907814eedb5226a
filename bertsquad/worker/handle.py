"""The handle on the child process in which the session and LoadGen live (`child.py`).

LoadGen is C++ that aborts its process when something is wrong and can't be stopped; so it has one
of its own, which is fed with cases and killed when it must be. The two talk in lines of JSON:
requests on the child's standard input, events on its standard output. Whatever else the child's
libraries print goes to a log file.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bertsquad import errors
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.loadgen.request import Request
from bertsquad.worker.protocol import DEVICES_ASKED, Event, OnEvent, Setup

#: How long a child may go on after it said that a callback failed, in seconds.
GRACE_S = 5.0
#: How long a child that has nothing to do may take to end by itself, in seconds.
CLOSING_S = 0.5

#: ONNX Runtime's wheels report to their maker from a background thread unless told not to before
#: they start: traffic that nobody asked for, beside what is being timed.
_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}


def try_devices() -> Event:
    """What devices this machine has, tried in a child.

    `reasons` says for each why it can't run a small model (None if it can), `precisions` what
    those that can calculate in.
    """
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(None, Path(folder) / "worker.log")
        worker.close()
    return worker.ready


class WorkerDied(SuiteError):
    """The child ended, was killed or took too long; the message says which."""


class Worker:
    """Starts a child and runs one case after the other in it."""

    def __init__(
        self,
        setup: Setup | None,
        log: Path,
        timeout_s: float | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> None:
        """Start the child and wait until its model is ready (None: until it tried devices).

        Raises what the child raised, Unavailable or SuiteError, or WorkerDied as `run` does. What
        the child's libraries print is in the file `log`, which is removed if it stays empty.
        """
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bertsquad.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                encoding="utf-8",
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": _python_path()},
                start_new_session=True,  # a terminal's Ctrl-C is the parent's to handle
            )
        self._events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            message = {DEVICES_ASKED: True} if setup is None else dataclasses.asdict(setup)
            self.ready = self._ask(message, timeout_s, on_event)
        except BaseException as error:
            self._give_up(error)
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the child can take another case."""
        return self._process.poll() is None

    def run(
        self,
        request: Request,
        timeout_s: float | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> Event:
        """Run one case; the child's closing event.

        Raises WorkerDied if the child ended or exceeded `timeout_s` (it is killed then), or what
        the child raised.
        """
        try:
            return self._ask(dataclasses.asdict(request), timeout_s, on_event)
        except BaseException as error:
            self._give_up(error)
            raise

    def _give_up(self, error: BaseException) -> None:
        """End a child that isn't waiting for the next message after `error`, as after Ctrl-C."""
        if not isinstance(error, SuiteError) or isinstance(error, WorkerDied):
            self.close()

    def close(self) -> None:
        """Let the child end by itself, which leaves what it has measured, or kill it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=CLOSING_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._tidy()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            if self._log.stat().st_size == 0:
                self._log.unlink()

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()
        self._process.wait()
        self._tidy()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # Python's start-up may print before we can
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    self._events.put(event)
        self._events.put(None)

    def _ask(self, message: Event, timeout_s: float | None, on_event: OnEvent) -> Event:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        failing: str | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                event = self._events.get(timeout=left)
            except queue.Empty:
                if failing is not None:
                    raise WorkerDied(failing) from None
                raise WorkerDied(
                    f"the case didn't end within {timeout_s:g} s and was stopped "
                    "(--case-timeout-s allows more)"
                ) from None
            if event is None:
                raise self._died() if failing is None else WorkerDied(failing)
            kind = event["event"]
            if kind == "done":
                return event
            if kind == "raised":
                if event["kind"] == Unavailable.__name__:
                    raise Unavailable(event["message"], event["subject"])
                raised: type[SuiteError] = getattr(errors, event["kind"])
                raise raised(event["message"])
            if kind == "failing":
                failing = event["message"]
                deadline = min(deadline or float("inf"), time.monotonic() + GRACE_S)
            on_event(event)

    def _died(self) -> WorkerDied:
        code = self._process.wait()
        how = _killed_by(-code) if code < 0 else f"ended with status {code}"
        tail: list[str] = []
        with contextlib.suppress(OSError):
            text = self._log.read_text(encoding="utf-8", errors="replace")
            tail = text.strip().splitlines()[-3:]
        last = f"; its last words, from {self._log}: {' / '.join(tail)}" if tail else ""
        return WorkerDied(f"the process that ran the model {how}{last}")


def _killed_by(number: int) -> str:
    names = {one.value: one.name for one in signal.Signals}
    how = f"was killed by signal {number} ({names.get(number, 'unknown')})"
    if number == getattr(signal, "SIGKILL", None):
        how += (
            ", as systems do where memory runs out: a smaller --batch-tokens or --instances takes "
            "less"
        )
    return how


def _python_path() -> str:
    """The child's import path: this package first, wherever it was imported from."""
    here = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([here, inherited] if inherited else [here])
