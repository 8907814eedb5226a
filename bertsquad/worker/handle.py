"""The handle on the worker, the process in which the model and LoadGen live.

LoadGen is C++ that aborts its process when something is wrong and can't be stopped; so it has one
of its own, which is fed with cases and killed when it must be. The two exchange messages
(`protocol.py`) over its standard input and output. What its libraries print goes to a log file.
"""

import contextlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.loadgen.request import Request
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.machine import environment
from bertsquad.machine.distributions import reinstall
from bertsquad.progress import Step
from bertsquad.runtime.availability import conflict
from bertsquad.worker import protocol

#: How long a worker may go on after it said that a callback failed, in seconds.
GRACE_S = 5.0
#: How long what a worker sent in time may take to be read, in seconds: after this process was
#: stopped (Ctrl-Z), a finished result may wait behind many reports of progress.
READING_S = 0.5
#: How long a worker that has nothing to do may take to end by itself, in seconds.
CLOSING_S = 0.5

_Wanted = TypeVar("_Wanted", protocol.Ready, protocol.DevicesFound, UserConf, protocol.Measured)

#: Told of what a worker says before it answers: which step it is at, and that a callback failed.
OnMessage = Callable[[Step | protocol.Failing], object]


def try_devices() -> protocol.DevicesFound:
    """What devices this machine has, tried in a worker of its own."""
    with _short_lived() as worker:
        try:
            return worker.try_devices()
        except WorkerDied as died:
            return protocol.DevicesFound(dict.fromkeys(DEVICES, conflict() or str(died)))


def read_user_conf(path: Path) -> UserConf:
    """What LoadGen reads in a user.conf, asked in a worker of its own.

    SuiteError where LoadGen stumbles over it.
    """
    with _short_lived() as worker:
        return worker.read_user_conf(path)


@contextlib.contextmanager
def _short_lived() -> Iterator["Worker"]:
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder) / "worker.log", keeps_log=False)
        try:
            yield worker
        finally:
            worker.close()


class WorkerDied(SuiteError):
    """The worker ended, was killed, took too long or isn't understood; the message says which."""


class Worker:
    """A process that runs one case after the other.

    Each of its answers may raise what the worker raised, Unavailable, BoundUnattainable or
    SuiteError, or WorkerDied if it ended or took longer than `timeout_s` (it is killed then).
    """

    def __init__(self, log: Path, keeps_log: bool = True) -> None:
        """Start the process. What its libraries print is in the file `log`, if it is anything.

        No message names a log that isn't kept.
        """
        self._log = log
        self._keeps_log = keeps_log
        self._loading: str | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bertsquad.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                encoding="utf-8",
                env=environment.of_child(),
                start_new_session=True,  # a terminal's Ctrl-C is for pytest's process to handle
            )
        self._messages: queue.Queue[protocol.FromWorker | WorkerDied | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the worker can take another case."""
        return self._process.poll() is None

    def try_devices(self) -> protocol.DevicesFound:
        """Ask which devices this machine has."""
        return self._ask(protocol.DevicesAsked(), protocol.DevicesFound, None, lambda message: None)

    def read_user_conf(self, path: Path) -> UserConf:
        """Ask what LoadGen reads in a user.conf."""
        return self._ask(protocol.UserConfAsked(str(path)), UserConf, None, lambda message: None)

    def prepare(
        self,
        setup: protocol.Setup,
        timeout_s: float | None = None,
        on_message: OnMessage = lambda message: None,
    ) -> protocol.Ready:
        """Have the model made ready for all runs; where it can't be, the worker is closed."""
        try:
            return self._ask(setup, protocol.Ready, timeout_s, on_message)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        request: Request,
        timeout_s: float | None = None,
        on_message: OnMessage = lambda message: None,
    ) -> protocol.Measured:
        """Run one case."""
        try:
            return self._ask(request, protocol.Measured, timeout_s, on_message)
        except BaseException as error:
            # After anything but its own refusal, as after Ctrl-C, it waits for no other case.
            if not isinstance(error, SuiteError) or isinstance(error, WorkerDied):
                self.close()
            raise

    def close(self) -> None:
        """Let the worker end by itself, which leaves what it has measured, or kill it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(CLOSING_S)  # it closes the worker's output, when that has ended
        with contextlib.suppress(OSError):
            if self._log.stat().st_size == 0:
                self._log.unlink()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                try:
                    message = protocol.decode(line)
                except SuiteError as error:
                    message = WorkerDied(str(error))
                if message is not None:  # Python's start-up may print before the worker can
                    self._messages.put(message)
        self._messages.put(None)

    def _ask(
        self,
        question: protocol.ToWorker,
        wanted: type[_Wanted],
        timeout_s: float | None,
        on_message: OnMessage,
    ) -> _Wanted:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(protocol.encode(question))
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        # Without a limit, as long as a wait can be.
        deadline = time.monotonic() + (timeout_s or threading.TIMEOUT_MAX)
        failing: str | None = None
        overdue = False
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                if not overdue:
                    overdue, deadline = True, time.monotonic() + READING_S
                    continue
                raise WorkerDied(
                    failing
                    or f"the case didn't end within {timeout_s:g} s and was stopped "
                    "(--case-timeout-s allows more)"
                ) from None
            match message:
                case None:
                    raise self._died() if failing is None else WorkerDied(failing)
                case WorkerDied():
                    raise message
                case protocol.Raised():
                    raise message.error()
                case protocol.Failing():
                    failing = message.message
                    deadline = min(deadline, time.monotonic() + GRACE_S)
                    on_message(message)
                case protocol.Loading():
                    self._loading = message.library
                case Step():
                    on_message(message)
                case _ if isinstance(message, wanted):
                    return message
                case _:
                    raise WorkerDied(f"the worker answered {message!r:.60} to {question!r:.60}")

    def _died(self) -> WorkerDied:
        code = self._process.wait()
        how = _killed_by(-code) if code < 0 else f"ended with status {code}"
        tail: list[str] = []
        with contextlib.suppress(OSError):
            text = self._log.read_text(encoding="utf-8", errors="replace")
            tail = text.strip().splitlines()[-3:]
        place = f", from {self._log}" if self._keeps_log else ""
        last = f"; its last words{place}: {' / '.join(tail)}" if tail else ""
        if self._loading is not None and -code != getattr(signal, "SIGKILL", None):
            # Nobody else ended it.
            return WorkerDied(
                f"{self._loading} can't be loaded: the process that loads it {how}{last}: "
                f"{reinstall(self._loading)}"
            )
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
