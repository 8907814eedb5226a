"""What a user sees while something takes long: on a terminal, in a log, with -q and under -n."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import tiny
from loopback import LoopbackServer, entry, isolate, register
from pytest_sessions import ARGUMENTS, BENCHMARKS, CHEAP, environment, run_pytest
from terminals import Terminal, pyte, termios

from bertsquad import console
from bertsquad.__main__ import main
from bertsquad.console import Meter, Progress, style
from bertsquad.progress import Step

ROOT = Path(__file__).resolve().parents[1]
CASE = "minilm-pocket-offline-cpu-fp32, accuracy: running"


# What it says.


def meter(*steps: tuple[float, Step]) -> Meter:
    made = Meter(steps[0][1], steps[0][0])
    for at_s, step in steps:
        made.update(step, at_s)
    return made


def counted(
    done: int | None,
    expected: int | None = 10_833,
    unit: str = "samples",
    duration_s: float | None = None,
) -> Step:
    of, _, name = CASE.partition(": ")
    return Step(name, done, expected, unit, duration_s, of)


def test_a_line_says_what_how_far_how_fast_and_how_long() -> None:
    going = meter((0, counted(0)), (100, counted(3_120)), (157, counted(4_900)))
    assert going.line(157) == f"{CASE}, 4,900 of 10,833 samples (45 %), 31.2/s, 3 min left"
    assert going.ending(157) == f"{CASE}, 4,900 of 10,833 samples, ended after 3 min"


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    steps = [(float(s), counted(100 * min(s, 60) + 5 * max(s - 60, 0))) for s in range(121)]
    assert ", 5/s, " in meter(*steps).line(120)
    assert ", 100/s, " in meter(*steps[:61]).line(60)


def test_a_rate_below_one_is_still_one() -> None:
    assert "0.727/s" in meter((0, counted(0)), (11, counted(8))).line(11)


def test_a_run_bound_by_time_shows_the_time_and_its_least_samples_while_they_are_missing() -> None:
    first = (0.0, counted(0, 64, duration_s=600))
    slow = meter(first, (30.0, counted(6, 64, duration_s=600)))
    assert slow.line(30) == (
        f"{CASE}, 6 of at least 64 samples and 30 of 600 s (5 %), 0.2/s, 10 min left"
    )
    # Samples will be missing still when the time is over.
    late = meter(first, (30.0, counted(1, 64, duration_s=600)))
    assert late.line(30).endswith("30 of 600 s (2 %), 0.0333/s, 32 min left")
    fast = meter(first, (30.0, counted(1_200, 64, duration_s=600)))
    assert fast.line(30) == f"{CASE}, 1,200 samples and 30 of 600 s (5 %), 40/s, 10 min left"
    assert fast.line(700).endswith("600 of 600 s (100 %), 40/s")


def test_a_download_says_bytes_and_what_was_there_before_is_not_its_speed() -> None:
    size = 1_340_000_000
    going = meter(
        (0, Step("downloading model.onnx")),
        (3, Step("downloading model.onnx", 400_000_000, size, "B")),
        (5, Step("downloading model.onnx", 420_000_000, size, "B")),
    )
    assert going.line(5) == ("downloading model.onnx, 420 MB of 1.34 GB (31 %), 10 MB/s, 92 s left")
    whole_unknown = meter((0, Step("downloading", 0, None, "B")), (2, Step("downloading", 990)))
    assert whole_unknown.line(2) == "downloading, 990, 495/s"


def test_what_is_not_counted_says_how_long_it_takes() -> None:
    going = meter((0, Step("making the session")))
    assert going.line(0.5) == "making the session"
    assert going.line(40) == "making the session, 40 s"
    assert going.line(200) == "making the session, 3 min"
    assert going.line(9000) == "making the session, 2.5 h"


def test_more_than_was_expected_is_all_of_it() -> None:
    assert "(100 %)" in meter((0, counted(0, 494)), (1, counted(496, 494))).line(1)
    assert "left" not in meter((0, counted(0, 494)), (1, counted(496, 494))).line(1)
    assert meter((0, counted(0, 0))).line(0) == f"{CASE}, 0 of 0 samples"


def test_a_bar_has_room_in_any_terminal() -> None:
    steps = [counted(4_900), counted(None), counted(7, None), Step("石" * 60, 1, 3, of="茶")]
    for step in steps:
        going = meter((0, step), (1, step))
        for columns in range(1, 200):
            for utf in (True, False):
                text = going.bar(1, columns, utf)
                assert "\n" not in text
                assert len(text.encode()) == len(text) or utf or "茶" in step.title
                screen = pyte.Screen(columns + 1, 3)
                pyte.Stream(screen).feed(text)
                assert screen.cursor.y == 0, (columns, text)


def test_a_narrow_bar_keeps_its_figures_and_leaves_the_case_to_pytests_line() -> None:
    going = meter((0, counted(0)), (100, counted(4_900)))
    wide, narrow = (going.bar(100, columns, True) for columns in (140, 79))
    assert wide.startswith(f"{CASE}:  45%|█")
    assert narrow.startswith("running:  45%|█")
    for text in (wide, narrow):
        assert text.endswith("| 4,900 of 10,833 samples, 49/s, 2 min left")
    assert going.bar(100, 60, True) == "running, 4,900 of 10,833 samples, 49/s, 2 min left"


# Where it says it.


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDRAW_S", "FIRST_LINE_S", "LINE_S"):
        monkeypatch.setattr(console, name, 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_log_gets_lines_and_one_when_a_step_that_had_some_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("lines") as shown:
        shown.show(Step("first", 1, 4))
        shown.show(Step("first", 2, 4))
        shown.show(Step("second"))
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r", [\d,.]+/s, \d+ s left", "", line) for line in err.splitlines()] == [
        "first, 1 of 4 (25 %)",
        "first, 2 of 4 (50 %)",
        "first, 2 of 4, ended after 0 s",
        "second",
        "second, ended after 0 s",
    ]


@pytest.mark.usefixtures("at_once")
def test_lines_leave_pytests_own_line_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("lines", shares_line=True)
    for _ in range(2):
        sys.stderr.write("test_a.py .")
        with shown:
            shown.show(Step("step"))
    assert capsys.readouterr().err.splitlines() == [
        *("test_a.py .", "step", "step, ended after 0 s"),
        *("test_a.py .", "step", "step, ended after 0 s"),
    ]
    worker = Progress("lines", prefix="[gw1] ", shares_line=True)
    worker.show(Step("step"))
    worker.show(Step("step"))
    assert capsys.readouterr().err == "\n[gw1] step\n" * 2


def test_what_is_soon_over_gets_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("lines") as shown:
        for done in range(1000):
            shown.show(Step("step", done, 1000))
    assert capsys.readouterr() == ("", "")


def test_silence_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("off") as shown:
        shown.show(Step("step"))
        shown.say("waiting for another run")
    assert capsys.readouterr() == ("", "\nwaiting for another run\n")


@contextmanager
def terminal(patch: pytest.MonkeyPatch, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """Let standard error be a terminal."""
    made = Terminal(columns, rows)
    with patch.context() as inner, os.fdopen(made.theirs, "w", closefd=False) as stream:
        inner.setattr(sys, "stderr", stream)
        inner.setenv("TERM", "xterm")
        inner.delenv("CI", raising=False)
        try:
            yield made
        finally:
            made.close()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("before", [0, 5, 23, 100], ids="top middle bottom scrolled".split())
@pytest.mark.parametrize("columns", [80, 30])
def test_a_bar_is_below_pytests_line_which_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, before: int, columns: int
) -> None:
    with terminal(monkeypatch, columns) as made:
        sys.stderr.write("".join(f"line {n}\n" for n in range(before)) + "test_a.py .")
        for _ in range(2):
            with Progress("bar", shares_line=True) as shown:
                for done in range(5):
                    shown.show(Step("running", done, 5, of="case"))
            sys.stderr.write(".")
            sys.stderr.flush()
    drawn = [(y, rows) for y, rows in made.seen if any("running" in row for row in rows)]
    assert len(drawn) >= 10
    for y, rows in drawn:
        assert rows[y] in ("test_a.py .", "test_a.py ..")
        assert re.match(r"(case: )?running(: +\d+%\||, \d of 5)", rows[y + 1])
        assert sum("running" in row for row in rows) == 1
    assert made.text.splitlines()[-1] == "test_a.py ..."
    lines = [f"line {n}" for n in range(before)]
    assert made.text.splitlines()[:-1] == lines[-22:] or before < 22


@pytest.mark.usefixtures("at_once")
def test_a_bar_under_a_name_that_fills_its_line_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for length in (29, 30, 31, 60):
        with terminal(monkeypatch, 30, 6) as made:
            sys.stderr.write("x" * (length - 1) + " ")  # as pytest does with -v
            with Progress("bar", shares_line=True) as shown:
                shown.show(Step("running", 1, 5))
            sys.stderr.write("PASSED\n")
            sys.stderr.flush()
        shown_text = made.text.replace("\n", "").replace(" ", "")
        assert shown_text == "x" * (length - 1) + "PASSED"


@pytest.mark.usefixtures("at_once")
def test_a_warning_takes_the_bar_off_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as made:
        sys.stderr.write("test_a.py ")
        with Progress("bar", shares_line=True) as shown:
            shown.show(Step("probing"))
            shown.say("another run measures: waiting for its end")
            shown.show(Step("running", 1, 5))
    assert made.text.splitlines() == ["test_a.py", "another run measures: waiting for its end"]
    assert any("running:  20%" in row for _, rows in made.seen for row in rows)


@pytest.mark.usefixtures("at_once")
def test_a_terminal_that_has_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    for how in ("bar", "lines"):
        with Progress(how) as shown:
            shown.show(Step("step", 1, 2))
            shown.say("a warning")
    with suppress(BrokenPipeError):
        stream.close()


def test_a_bar_is_for_a_terminal_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert style() == "lines"
    assert style(quiet=True) == "off"
    with terminal(monkeypatch):
        assert style() == "bar"
        assert style(quiet=True) == "off"
        assert style(worker="gw0") == "lines"
        monkeypatch.setenv("TERM", "dumb")
        assert style() == "lines"
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("CI", "true")
        assert style() == "lines"


# Fetching.

BODY = bytes(range(256)) * 4096


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        isolate(monkeypatch, tmp_path, started)
        register(monkeypatch, entry("thing.bin", BODY, started.serve("/thing.bin", BODY)))
        yield started


@pytest.mark.usefixtures("at_once", "server")
def test_fetch_shows_bytes_on_a_terminal_and_leaves_the_screen_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as made:
        assert main(["fetch", "thing.bin"]) == 0
    seen = [row for _, rows in made.seen for row in rows]
    assert any(
        re.match(r"downloading thing.bin: +\d+%\|.*\| [\d.]+ kB of 1.05 MB", r) for r in seen
    )
    assert made.text == ""
    assert capsys.readouterr().out.startswith("thing.bin: ")


@pytest.mark.usefixtures("at_once", "server")
def test_fetch_writes_lines_into_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "thing.bin"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading thing.bin"
    assert lines[-2].startswith("downloading thing.bin, 1.05 MB of 1.05 MB (100 %)")
    assert lines[-1].startswith("downloading thing.bin, 1.05 MB of 1.05 MB, ended after ")


@pytest.mark.usefixtures("at_once")
def test_a_download_that_fails_leaves_its_reason_alone_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    server.truncate("/thing.bin", BODY)
    with terminal(monkeypatch, 200) as made:
        assert main(["fetch", "thing.bin"]) == 1
    assert made.text.startswith("thing.bin: thing.bin is not in ")
    assert "%|" not in made.text


# Whole pytest sessions.

#: A plugin that has everything shown at once.
AT_ONCE = """
from bertsquad import console
console.REDRAW_S = console.FIRST_LINE_S = console.LINE_S = 0.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("progress")
    (made / "at_once.py").write_text(AT_ONCE, encoding="utf-8")
    tiny.model(made / "tiny.onnx")
    return made


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[str, ...]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv("TMPDIR", str(folder))  # which waits for no other pytest session's run
    return ("-p", "at_once", *CHEAP.split(), "--model", str(folder / "tiny.onnx"))


def on_terminal(
    here: Path, *arguments: str, act: Callable[[Terminal], object] = lambda made: None, **size: int
) -> tuple[Terminal, int]:
    """A pytest session on a terminal, its only one: that, and the session's status."""
    here.mkdir()
    made = Terminal(**size)
    variables = environment(here.parent) | {"TERM": "xterm"}
    variables.pop("CI", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *ARGUMENTS, *arguments],
        cwd=here,
        env=variables,
        stdin=made.theirs,
        stdout=made.theirs,
        stderr=made.theirs,
        start_new_session=True,
        preexec_fn=lambda: controlling(made.theirs),
    )
    os.close(made.theirs)
    made.theirs = -1
    try:
        act(made)
        code = process.wait(timeout=120)
    finally:
        process.kill()
        process.wait()
        made.close()
    return made, code


def controlling(terminal: int) -> None:
    """Have Ctrl-C on the terminal reach the process that is about to start."""
    import fcntl

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


STEP = re.compile(
    r"(featurising|loading|making the session|warming up|probing|running|scoring)(:|,|$| )"
)


def bars(made: Terminal) -> list[tuple[str, str]]:
    """Every bar that was seen, with the line above it, on which the cursor was."""
    return [
        (rows[y], rows[y + 1])
        for y, rows in made.seen
        if y + 1 < len(rows) and STEP.match(rows[y + 1])
    ]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="dots"),
        pytest.param(("-v",), id="names"),
        pytest.param(("-s",), id="not-captured", marks=pytest.mark.slow),
        pytest.param(("--capture=sys",), id="captured-by-name", marks=pytest.mark.slow),
    ],
)
def test_a_pytest_session_on_a_terminal_has_a_bar_below_pytests_line_and_nothing_of_it_afterwards(
    folder: Path, plugin: tuple[str, ...], words: tuple[str, ...]
) -> None:
    chosen = ("-k", "singlestream and (accuracy or performance)", "--min-duration-s", "1.5")
    here = folder / f"bar-{'-'.join(words)}"
    # Each name goes on in a second line, and ends there, wherever the checkout and `here` are.
    place = os.path.relpath(BENCHMARKS, here)
    columns = len(f"{place}/test_accuracy.py::test_accuracy[tiny-pocket-singlestream-cpu-fp32]") - 5
    made, code = on_terminal(here, *plugin, *chosen, *words, columns=columns, rows=24)
    assert code == 0, made.text
    seen = bars(made)
    for above, _ in seen:
        assert re.search(r"test_(accuracy|performance)\.py|\]$", above), above
    names = [STEP.match(below)[1] for _, below in seen]  # type: ignore[index]
    for name in ("making the session", "warming up", "running"):
        assert name in names
    assert any(re.match(r"running: .*samples.* of 2 s", below) for _, below in seen)
    assert "%|" not in made.text
    passed = re.compile(r"\] PASSED +\[" if "-v" in words else r"test_accuracy\.py \.")
    assert any(passed.search(row) for _, rows in made.seen for row in rows)
    assert not any(STEP.match(row) for row in made.seen[-1][1])


def test_ctrl_c_takes_the_bar_along(folder: Path, plugin: tuple[str, ...]) -> None:
    def interrupt(made: Terminal) -> None:
        while not any("running" in below for _, below in bars(made)):
            time.sleep(0.01)
        made.type(b"\x03")

    chosen = ("-k", "singlestream and performance", "--min-duration-s", "60")
    made, code = on_terminal(folder / "ctrl-c", *plugin, *chosen, act=interrupt, rows=60)
    assert code == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in made.text
    assert not any(STEP.match(row) for row in made.rows)


LINE = re.compile(r"tiny-pocket-(\w+)-cpu-fp32, accuracy: (.*)")


def test_a_log_has_lines_that_name_the_case(folder: Path, plugin: tuple[str, ...]) -> None:
    done = run_pytest(folder / "log", *plugin, "-k", "offline and accuracy")
    assert done.code == 0
    lines = [line for line in done.err.splitlines() if line]
    assert all(LINE.match(line) or line.startswith("featurising") for line in lines), lines
    assert any("warming up" in line and " batches (" in line for line in lines)
    assert "warming up" not in done.out


def test_a_quiet_pytest_session_has_none(folder: Path, plugin: tuple[str, ...]) -> None:
    done = run_pytest(folder / "quiet", *plugin, "-k", "offline and accuracy", "-q")
    assert done.code == 0
    assert done.err == ""
    assert "warming up" not in done.out


@pytest.mark.slow
def test_parallel_workers_write_lines_with_their_names(
    folder: Path, plugin: tuple[str, ...]
) -> None:
    done = run_pytest(folder / "parallel", *plugin, "-k", "accuracy", "-n", "2")
    assert done.code == 0
    written = [line for line in done.err.splitlines() if LINE.search(line)]
    assert {line[:6] for line in written} == {"[gw0] ", "[gw1] "}
    assert all(LINE.match(line[6:]) for line in written)
