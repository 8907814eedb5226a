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
    """Children of a process that ignores SIGINT, as those in the background do, would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
