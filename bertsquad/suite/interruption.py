"""A plugin of pytest that ends a pytest session at SIGTERM and SIGHUP as Ctrl-C does.

But the exit status is another one, and xdist workers end at once instead of finishing their test.
Whichever it is, what was measured is saved in peace.
"""

import contextlib
import errno
import os
import signal
import stat
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from bertsquad.termination import Told, terminable

#: Seconds between two looks of an xdist worker, which never times anything, for its parent.
PARENT_S = 0.5

_TOLD = pytest.StashKey[Told]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Let SIGTERM and SIGHUP end the pytest session like Ctrl-C, with a summary."""
    status: object = None
    try:
        with terminable() as told:
            config.stash[_TOLD] = told
            status = yield
    except KeyboardInterrupt:  # where pytest doesn't catch it itself
        status = pytest.ExitCode.INTERRUPTED
    return status if told.status is None else told.status


def save_in_peace(config: pytest.Config) -> None:
    """Let no signal of the next seconds disturb what is saved, though the tests are over."""
    if _TOLD in config.stash:
        config.stash[_TOLD].finish()


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """Let what is written to a terminal that is closed by now vanish, instead of raising OSError.

    pytest's own output may go there, through any of several descriptors.
    """
    with contextlib.suppress(OSError):  # where a system doesn't list them
        for descriptor in [int(path.name) for path in Path("/dev/fd").iterdir()]:
            if _is_closed_terminal(descriptor):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor, inheritable=os.get_inheritable(descriptor))
                os.close(nowhere)


def _is_closed_terminal(descriptor: int) -> bool:
    try:
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.write(descriptor, b"")  # fails as a longer one would, but shows nothing
    except OSError as error:
        return error.errno == errno.EIO
    return False


def pytest_configure(config: pytest.Config) -> None:
    """Make sure that xdist workers end: those of this process, or this one if it is a worker."""
    config.pluginmanager.register(XdistWorkers())
    if hasattr(config, "workerinput"):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this xdist worker when its parent is gone; execnet alone takes up to 15 seconds."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os.kill(os.getpid(), signal.SIGTERM)


class XdistWorkers:
    """The xdist workers on this machine, which must not outlive the pytest session.

    xdist itself gives them ten seconds to finish their test.
    """

    def __init__(self) -> None:
        self._pids: list[int] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Ask a new xdist worker for its process id."""
        if gateway.spec.popen:
            self._pids.append(gateway.remote_exec("import os; channel.send(os.getpid())").receive())

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Pass the signal on; not after `-x` and the like, when the workers have ended already."""
        if not isinstance(excinfo.value, pytest.Session.Interrupted):
            for pid in self._pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
