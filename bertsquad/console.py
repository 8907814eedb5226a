"""What a user sees: lines that any terminal can show, and progress on standard error.

Progress is a bar on a terminal, a line now and then in a log.
"""

import contextlib
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from bertsquad.errors import printable
from bertsquad.progress import Step

#: Seconds between two drawings of a bar.
REDRAW_S = 0.1
#: Seconds until a step has its first line, and between its further lines.
FIRST_LINE_S, LINE_S = 10.0, 30.0
#: Columns that a bar and its figures need beside the step's name.
FIGURES_COLUMNS = 64
#: Seconds over which the current rate is taken.
RATE_S = 30.0

Style = Literal["bar", "lines", "off"]

#: A context in which what is written reaches the terminal, although pytest captures output.
Visible = Callable[[], AbstractContextManager[Any]]


def style(quiet: bool = False, worker: str = "") -> Style:
    """How to show progress: not at all if `quiet`, in lines if this is an xdist `worker`.

    A bar needs a terminal that can move its cursor, and nobody else who draws on it.
    """
    if quiet or sys.stderr is None:
        return "off"
    moves = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return "bar" if moves and not worker and "CI" not in os.environ else "lines"


def take_any_text(stream: TextIO | None) -> None:
    """Let a stream write characters that its encoding lacks as escapes instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def echo(text: str, file: TextIO | None = None) -> None:
    """Print a text line by line, with what no terminal should get raw as escapes."""
    for line in text.split("\n"):
        print(printable(line), file=file)


def flush(stream: TextIO | None) -> None:
    """Write what a stream holds, so that an error of it is told here and not at Python's end."""
    if stream is not None:
        stream.flush()


def drop(stream: TextIO | None) -> None:
    """Drop what a stream holds if nobody takes it.

    Python would try again at its end, and show a traceback.
    """
    try:
        flush(stream)
    except OSError:
        if stream is not None:
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


class Progress:
    """Shows on standard error how far the current step is.

    It is a context manager: when it ends, even by an error, no bar is left on the screen.
    """

    def __init__(
        self,
        style: Style = "off",
        visible: Visible = contextlib.nullcontext,
        prefix: str = "",
        shares_line: bool = False,
    ) -> None:
        """`prefix` begins every line.

        `shares_line` says that the cursor may stand in a line that pytest has begun: that line is
        left as it is, and a bar is drawn below it.
        """
        self._style = style
        self._visible = visible
        self._prefix = prefix
        self._shares_line = shares_line
        self._pauses_s = (FIRST_LINE_S, LINE_S) if style == "lines" else (0.0, REDRAW_S)
        self._meter: Meter | None = None
        self._due = 0.0
        self._shown = False  # whether a bar is on the screen, or the step has had a line
        self._has_line = False  # whether the last line that was written is our own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def show(self, step: Step) -> None:
        """Show how far a step is; it ends when another is shown."""
        if self._style == "off":
            return
        now = time.monotonic()
        if self._meter is None or self._meter.step.title != step.title:
            self._end_step()
            self._meter = Meter(step, now)
            self._due = now + self._pauses_s[0]
        self._meter.update(step, now)
        if now < self._due:
            return
        self._due = now + self._pauses_s[1]
        if self._style == "bar":
            self._draw(self._meter)
        else:
            self._line(self._meter.line(now))
        self._shown = True

    def say(self, text: str) -> None:
        """Tell the user something at once, in every style."""
        self._clear()
        with self._terminal() as terminal:
            terminal.write(f"\n{self._prefix}{printable(text)}\n")

    def end(self) -> None:
        """Remove the bar; print a last line for a step that had one."""
        self._end_step()
        self._clear()
        self._shown = self._has_line = False

    def _end_step(self) -> None:
        meter, self._meter = self._meter, None
        if self._style == "lines" and self._shown and meter is not None:
            self._shown = False
            self._line(meter.ending(time.monotonic()))

    def _clear(self) -> None:
        """Remove the bar, if there is one."""
        if self._style == "bar" and self._shown:
            self._draw(None)

    def _line(self, text: str) -> None:
        # With several xdist workers the line before may be another worker's.
        opening = "\n" if self._shares_line and (self._prefix or not self._has_line) else ""
        self._has_line = True
        with self._terminal() as terminal:
            terminal.write(f"{opening}{self._prefix}{printable(text)}\n")

    def _draw(self, meter: "Meter | None") -> None:
        """Draw the bar, or with None an empty line, in the place of the one before.

        The cursor stays where it is.
        """
        with self._terminal() as terminal:
            text = ""
            if meter is not None:
                columns = os.get_terminal_size(terminal.fileno()).columns or 80
                utf = terminal.encoding.lower().startswith("utf")
                # One column stays free, since a full line would move on to the next.
                text = printable(meter.bar(time.monotonic(), columns - 1, utf))
            if self._shares_line:
                # Down and up, which makes room below the last line of a screen; then save the
                # cursor, go down, draw and restore the cursor.
                terminal.write(f"\x1bD\x1bM\x1b7\x1bD\r{text}\x1b[K\x1b8")
            else:
                terminal.write(f"\r{text}\x1b[K\r")

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[TextIO]:
        """Standard error, past pytest's capturing; a run goes on if it was closed."""
        with contextlib.suppress(OSError, ValueError), self._visible():
            yield sys.stderr
            sys.stderr.flush()


#: Shows no progress, only what `say` is given.
SILENT = Progress()


def of_pytest_session(visible: Visible, quiet: bool, worker: str) -> Progress:
    """The progress of a pytest session; `worker` is the xdist worker's name, or empty."""
    with visible():
        how = style(quiet, worker)
    return Progress(how, visible, f"[{worker}] " if worker else "", shares_line=True)


class Meter:
    """How far a step is, and how fast it goes on."""

    def __init__(self, step: Step, now: float) -> None:
        self.step = step
        self._began = now
        self._points: deque[tuple[float, int]] = deque()  # a time, and the units done by then

    def update(self, step: Step, now: float) -> None:
        """Take the step as it is now."""
        self.step = step
        if step.done is None or (self._points and self._points[-1][1] == step.done):
            return
        self._points.append((now, step.done))
        while len(self._points) > 2 and self._points[1][0] < now - RATE_S:
            self._points.popleft()

    def line(self, now: float) -> str:
        """All that is known of the step, for a log."""
        share = self._share(now)
        percent = "" if share is None else f" ({share * 100:.0f} %)"
        done = " and ".join(filter(None, [self._count(), self._time(now)]))
        return _listed(self.step.title, f"{done}{percent}", self._speed(now))

    def ending(self, now: float) -> str:
        """How far the step came, for a log."""
        return _listed(self.step.title, self._count(), f"ended after {_words(now - self._began)}")

    def bar(self, now: float, columns: int, utf: bool) -> str:
        """A bar that fits into `columns`.

        If there is no room for the step's whole title, its name is shown; if there is none for a
        bar either, the name and the figures are.
        """
        from tqdm import tqdm
        from tqdm.utils import disp_len, disp_trim

        figures = _listed(self._count(), self._time(now), self._speed(now))
        share, name = self._share(now), self.step.title
        if disp_len(name) + FIGURES_COLUMNS > columns:
            name = self.step.name
        if share is None or disp_len(f"{name}: 100%|{' ' * 5}| {figures}") > columns:
            return str(disp_trim(_listed(name, figures), columns))
        gone_s, form = now - self._began, "{desc}: {percentage:3.0f}%|{bar}| {figures}"
        drawn = tqdm.format_meter(
            share, 1, gone_s, columns, name, ascii=not utf, bar_format=form, figures=figures
        )
        return str(drawn)

    def _count(self) -> str:
        """The units done; the expected ones too where the step ends when they are done."""
        step = self.step
        if step.done is None:
            return ""
        if step.expected is None or (step.duration_s and step.done >= step.expected):
            return _amount(step.done, step.unit)
        done, expected = (_amount(number, step.unit) for number in (step.done, step.expected))
        least = "at least " if step.duration_s else ""
        return f"{done.removesuffix(f' {step.unit}')} of {least}{expected}"

    def _time(self, now: float) -> str:
        """The time gone, if nothing is counted or the time decides when the step ends."""
        gone_s, duration_s = now - self._began, self.step.duration_s
        if duration_s is not None:
            return f"{min(gone_s, duration_s):.0f} of {duration_s:.0f} s"
        return _words(gone_s) if self.step.done is None and gone_s >= 1 else ""

    def _speed(self, now: float) -> str:
        """The current rate, and the time left at that rate."""
        rate, left_s = self._rate(), self._left_s(now)
        unit = self.step.unit if self.step.unit == "B" else ""
        speed = f"{_amount(rate, unit)}/s" if rate else ""
        return _listed(speed, f"{_words(left_s)} left" if left_s else "")

    def _rate(self) -> float | None:
        """Units a second; None while it isn't known."""
        if len(self._points) < 2:
            return None
        (began, first), (ended, last) = self._points[0], self._points[-1]
        return (last - first) / (ended - began) if ended > began and last > first else None

    def _share(self, now: float) -> float | None:
        """How much of the step is done, from 0 to 1; None if that can't be known."""
        parts = ((self.step.done, self.step.expected), (now - self._began, self.step.duration_s))
        shares = [part / whole for part, whole in parts if part is not None and whole]
        return min([1.0, *shares]) if shares else None

    def _left_s(self, now: float) -> float | None:
        """Seconds until the step ends; None if they can't be known."""
        step, rate = self.step, self._rate()
        left: list[float] = []
        if step.expected is not None and step.done is not None:
            if step.done < step.expected and not rate:
                return None
            left.append((step.expected - step.done) / (rate or 1))
        if step.duration_s is not None:
            left.append(self._began + step.duration_s - now)
        return max([0.0, *left]) if left else None


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _amount(number: float, unit: str) -> str:
    """A number of units: whole ones in full, others with three digits; bytes as kB, MB or GB."""
    scale = ""
    if unit == "B":
        for scale in ("", "k", "M", "G"):
            if number < 999.5 or scale == "G":
                break
            number /= 1000
    whole = isinstance(number, int) or number >= 100
    return f"{f'{number:,.0f}' if whole else f'{number:.3g}'} {scale}{unit}".rstrip()


def _words(seconds: float) -> str:
    """A duration, rounded to what a reader wants to know."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
