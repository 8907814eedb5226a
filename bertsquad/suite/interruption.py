"""The orderly end of a process that is told to stop: nothing outlives it, nothing is half-written.

As a plugin of pytest it ends a session at SIGTERM as Ctrl-C does, though with a status of its own,
and takes pytest-xdist's workers along, which would finish first what they are at.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from bertsquad.termination import TERMINATED, Terminated, terminable

#: How often a worker of `-n`, which never times anything, looks for its parent, in seconds.
PARENT_S = 0.5


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main() -> Generator[None, object, object]:
    """Run the session so that SIGTERM ends it like Ctrl-C, summary included."""
    status: object = None
    try:
        with terminable() as came:
            status = yield
    except Terminated:  # outside of pytest's own handling
        return TERMINATED
    return TERMINATED if came.is_set() else status


def pytest_configure(config: pytest.Config) -> None:
    """Watch over the workers that this process is going to have under `-n`, or is one of."""
    config.pluginmanager.register(Workers())
    if hasattr(config, "workerinput"):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone, for which execnet takes up to 15 seconds."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os.kill(os.getpid(), signal.SIGTERM)


class Workers:
    """The worker processes of pytest-xdist on this machine, which must not outlive the session.

    xdist gives them ten seconds for the test that they are at.
    """

    def __init__(self) -> None:
        self._pids: list[int] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Ask a new worker for its process id."""
        if gateway.spec.popen:
            self._pids.append(gateway.remote_exec("import os; channel.send(os.getpid())").receive())

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Pass the signal on; `-x` and the like come here too, when the workers are done."""
        if not isinstance(excinfo.value, pytest.Session.Interrupted):
            for pid in self._pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
