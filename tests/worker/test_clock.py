"""The system's clock is set while LoadGen runs in a real worker: the case fails, and it ends.

faketime (Debian's package of that name) gives the worker a system's clock of its own.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from workers import Begun, start

from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.progress import Step

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="faketime is not installed")

#: Seconds in which a run that can't end any more must have been ended, from the step on.
ENDED_S = 15.0


@dataclass
class Stepping:
    """A worker, the file that says how far off its clock is, and when it stepped."""

    begun: Begun
    offset: Path
    stepped_at: float = 0.0

    def run(self, scenario: str, step_s: float, mode: str = "performance") -> None:
        """Run a case, a timed one of 4 s, and let the clock step soon after LoadGen has begun."""

        def step() -> None:
            self.offset.write_text(f"{step_s:+}")
            self.stepped_at = time.monotonic()

        timer = threading.Timer(0.05 if mode == "accuracy" else 0.5, step)

        def on_message(message: object) -> None:
            if isinstance(message, Step) and message.name == "running" and timer.ident is None:
                timer.start()

        request = self.begun.request(scenario, mode, min_duration_s=4.0)
        try:
            self.begun.worker.run(request, 120, on_message)
        finally:
            timer.join()


@pytest.fixture
def stepping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stepping]:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(LIBRARIES[0]))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        begun = start(tmp_path, tiny.model(tmp_path / "slow.onnx", slow=True))
    yield Stepping(begun, offset)
    begun.worker.close()


@pytest.mark.parametrize(
    ("scenario", "step_s", "words"),
    [
        ("offline", 1.0, "ahead by 1.000 s"),
        ("singlestream", -1.0, "back by 1.000 s"),
        ("server", -3600.0, "back by 3600"),
        pytest.param("singlestream", 3600.0, "ahead by 3600", marks=pytest.mark.slow),
        pytest.param("singlestream", -3600.0, "back by 3600", marks=pytest.mark.slow),
        pytest.param("singlestream", 0.03, "ahead by 0.03", marks=pytest.mark.slow),
        pytest.param("multistream", 1.0, "ahead by 1.000 s", marks=pytest.mark.slow),
        pytest.param("multistream", -3600.0, "back by 3600", marks=pytest.mark.slow),
        pytest.param("server", 3600.0, "ahead by 3600", marks=pytest.mark.slow),
        pytest.param("server", -1.0, "back by 1.000 s", marks=pytest.mark.slow),
        pytest.param("offline", -3600.0, "back by 3600", marks=pytest.mark.slow),
    ],
)
def test_a_clock_that_steps_in_a_timed_run_fails_it_and_it_ends(
    stepping: Stepping, scenario: str, step_s: float, words: str
) -> None:
    with pytest.raises(SuiteError, match="clock") as raised:
        stepping.run(scenario, step_s)
    assert words in str(raised.value)
    assert time.monotonic() - stepping.stepped_at < ENDED_S


def test_a_clock_that_goes_on_fails_nothing(stepping: Stepping) -> None:
    stepping.run("singlestream", 0.0)
    assert stepping.stepped_at


def test_an_accuracy_run_is_as_right_by_any_clock(stepping: Stepping) -> None:
    stepping.run("singlestream", 1.0, "accuracy")
    log = stepping.begun.folder / "accuracy-singlestream" / logs.DETAIL
    assert stepping.stepped_at and "power_end" in log.read_text()
