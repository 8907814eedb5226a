"""What holds for all tests of the suite itself."""

import os
import signal
from collections.abc import Iterator

import own_lock  # noqa: F401  (harnesses in this process)
import pytest

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
