"""What holds for all tests of the suite itself."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import own_lock  # noqa: F401  (harnesses in this process)
import pytest
from left_over import Place

# Some tests load ONNX Runtime in the pytest process, which would report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture
def listening_to_ctrl_c() -> Iterator[None]:
    """Children of a process that ignores SIGINT, as those in the background do, would ignore it.

    The same holds for SIGHUP and a process under `nohup`.
    """
    usual = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):
        usual[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def place() -> Iterator[Place]:
    """A place whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        made = Place(Path(folder))
        made.temporary.mkdir()
        made.home.mkdir()
        yield made
