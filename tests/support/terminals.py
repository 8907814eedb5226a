"""A terminal in which a test can look at what a user sees."""

import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

termios = pytest.importorskip("termios", reason="Windows has no such terminals")
pyte = pytest.importorskip("pyte", reason="pyte, a terminal emulator of the dev extra, is not here")


class Terminal:
    """A pseudo-terminal, and what is on its screen after each time the cursor was put back."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self.seen: list[tuple[int, list[str]]] = []  # the cursor's row and all rows
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (rows, columns))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.rows).rstrip()

    @property
    def lines(self) -> list[str]:
        """All that was shown, also what has scrolled off the screen."""
        above = [
            "".join(line[n].data for n in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return [*above, *self.text.splitlines()]

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        """Wait until all is on the screen that was written."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1
        self._thread.join()
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # nobody writes any more
            while chunk := os.read(self._ours, 1 << 16):
                for part in re.split(rb"(?<=\x1b8)|(?<=\x1b\[K\r)", chunk):
                    self._stream.feed(part)
                    if part.endswith((b"\x1b8", b"\x1b[K\r")):
                        self.seen.append((self.screen.cursor.y, self.rows))


def shown(
    words: Sequence[str],
    cwd: Path,
    variables: Mapping[str, str],
    columns: int = 80,
    rows: int = 24,
) -> tuple[int, Terminal]:
    """What a process shows in a terminal of its own, when it has ended; its status first."""
    made = Terminal(columns, rows)
    without = ("CI", "COLUMNS", "LINES", "NO_COLOR", "PYTEST_ADDOPTS")
    settings = {name: text for name, text in variables.items() if name not in without}
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**settings, "TERM": "xterm"},
            stdin=made.theirs,
            stdout=made.theirs,
            stderr=made.theirs,
            timeout=300,
        )
    finally:
        made.close()
    return done.returncode, made
