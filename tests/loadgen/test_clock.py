"""The clock by which LoadGen times a run: a step of it is never part of a figure.

faketime (Debian's package of that name) gives a real worker a system's clock that can be set.
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
from bertsquad.loadgen import clock, logs
from bertsquad.loadgen.clock import Course, Reading
from bertsquad.progress import Step

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

#: The system's clock is at some date, the other counts from the machine's start.
DATE_NS = 1_700_000_000_000_000_000


def course(*readings: tuple[float, float]) -> Course:
    """A run by made clocks: when each reading was taken, and how far off the system's clock is."""
    made = [
        Reading(DATE_NS + round((at_s + off_s) * 1e9), round(at_s * 1e9))
        for at_s, off_s in readings
    ]
    run = Course.begin(made[0])
    for reading in made[1:]:
        run = run.until(reading)
    return run


@pytest.mark.parametrize(
    "readings",
    [
        ((0, 0), (600, 0)),
        ((0, 0), (600, 0.59)),
        ((0, 0), (600, -0.59)),
        ((0, 0), (1, 0.0049)),  # 0.5 %, but no more than clocks read apart may show
        ((0, 0.0), (0.001, 0.0049)),
        ((0, 3.0), (10, 3.0)),  # off before the run began, and no further
        ((0, 0), (5, 0.2), (600, 0)),  # 0.2 s are little of 600
    ],
)
def test_clocks_that_go_together_are_no_step(readings: tuple[tuple[float, float], ...]) -> None:
    assert course(*readings).stepped_s() is None


@pytest.mark.parametrize(
    ("readings", "stepped_s"),
    [
        (((0, 0), (600, 0.61)), 0.61),
        (((0, 0), (600, -0.61)), -0.61),
        (((0, 0), (3, 0.0051)), 0.0051),
        (((0, 0), (10, 590)), 590),
        (((0, 0), (10, -7200)), -7200),
        (((0, 3.0), (10, 4.0)), 1.0),
        # Ahead and back again in the course of the run, which its end doesn't show.
        (((0, 0), (5, 1.0), (9, 1.0), (10, 0)), 1.0),
        (((0, 0), (5, -1.0), (6, 0.5), (10, 0)), -1.0),
    ],
)
def test_a_step_is_told_with_its_size(
    readings: tuple[tuple[float, float], ...], stepped_s: float
) -> None:
    found = course(*readings).stepped_s()
    assert found == pytest.approx(stepped_s, abs=1e-6)


@pytest.mark.parametrize(
    ("readings", "at_once"),
    [
        (((0, 0), (1, -3600)), True),
        (((0, 0), (1, 5.1)), True),
        (((0, 0), (1, -4.9)), False),  # LoadGen waits no longer than that
    ],
)
def test_only_a_step_that_loadgen_may_wait_for_ends_a_run_at_once(
    readings: tuple[tuple[float, float], ...], at_once: bool
) -> None:
    assert (course(*readings).stepped_s(clock.AT_ONCE_S, 600) is not None) is at_once


def test_a_long_run_is_not_ended_for_what_is_little_of_it() -> None:
    assert course((0, 0), (1, -9)).stepped_s(clock.AT_ONCE_S, 10_000) is None
    assert course((0, 0), (10_000, -9)).stepped_s(clock.AT_ONCE_S, 600) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.0, "ahead by 1.000 s"), (-0.0072, "back by 0.007 s")]
)
def test_the_error_names_the_clock_and_the_step(seconds: float, words: str) -> None:
    assert "clock" in str(clock.stepped(seconds))
    assert words in str(clock.stepped(seconds))


def test_both_clocks_are_read_at_one_moment() -> None:
    before = time.monotonic_ns()
    found = [clock.read() for _ in range(50)]
    after = time.monotonic_ns()
    assert all(before <= one.steady_ns <= after for one in found)
    offsets = [one.offset_ns for one in found]
    assert max(offsets) - min(offsets) < clock.LEAST_S * 1e9


def test_a_watch_that_saw_no_step_says_nothing() -> None:
    told: list[SuiteError] = []
    with clock.Watch(0.0, told.append) as watch:
        pass
    assert watch.stepped_s is None
    assert not told
    assert "clock" not in [thread.name for thread in threading.enumerate()]


#: Seconds in which a run that can't end any more must have been ended, from the step on.
ENDED_S = 15.0


@dataclass
class Stepping:
    """A worker, the file that says how far off its clock is, and when it stepped."""

    begun: Begun
    offset: Path
    stepped_at: float = 0.0

    def run(
        self, scenario: str, step_s: float, mode: str = "performance", for_s: float | None = None
    ) -> None:
        """Run a case, a timed one of 4 s, and let the clock step soon after LoadGen has begun.

        It steps back again after `for_s`, if that is given.
        """

        def step() -> None:
            self.offset.write_text(f"{step_s:+}")
            self.stepped_at = time.monotonic()
            if for_s is not None:
                time.sleep(for_s)
                self.offset.write_text("+0")

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
    if not LIBRARIES:
        pytest.skip("faketime is not installed")
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


def test_a_step_that_comes_back_at_once_is_seen(stepping: Stepping) -> None:
    with pytest.raises(SuiteError, match=r"the system's clock.*stepped ahead by 1\.000 s"):
        stepping.run("singlestream", 1.0, for_s=0.1)


def test_a_clock_that_goes_on_fails_nothing(stepping: Stepping) -> None:
    stepping.run("singlestream", 0.0)
    assert stepping.stepped_at


def test_an_accuracy_run_is_as_right_by_any_clock(stepping: Stepping) -> None:
    stepping.run("singlestream", 1.0, "accuracy")
    log = stepping.begun.folder / "accuracy-singlestream" / logs.DETAIL
    assert stepping.stepped_at and "power_end" in log.read_text()
