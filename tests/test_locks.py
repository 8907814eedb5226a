"""A lock is one process's at a time, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertsquad import locks

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows keeps locked files to itself"
)


def test_a_file_is_locked_once_and_gone_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "it.lock"
    release = locks.take_file(file, "process 1")
    assert release is not None
    assert locks.take_file(file) is None
    assert locks.note_in(file) == "process 1"
    release()
    assert list(tmp_path.iterdir()) == []
    assert locks.note_in(file) == ""
    again = locks.take_file(file)
    assert again is not None
    again()


def test_a_file_that_a_killed_process_left_is_free(tmp_path: Path) -> None:
    file = tmp_path / "it.lock"
    file.write_text("a long note of a process that was killed")
    release = locks.take_file(file, "mine")
    assert release is not None
    assert locks.note_in(file) == "mine"
    release()


def test_a_file_that_somebody_replaced_is_not_removed(tmp_path: Path) -> None:
    file = tmp_path / "it.lock"
    release = locks.take_file(file)
    file.unlink()
    other = locks.take_file(file, "another's")
    assert release is not None
    assert other is not None
    release()
    assert locks.take_file(file) is None
    other()


#: Adds one to a number in a file, so often that two would lose some without a lock.
COUNTER = """
import sys
from pathlib import Path
from bertsquad import locks
locks.POLL_S = 0.0001
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(200):
    release = locks.wait_for(lambda: locks.take_file(lock), lambda: None)
    number.write_text(str(int(number.read_text()) + 1))
    release()
"""


def test_processes_that_take_and_remove_the_same_file_never_have_it_at_once(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(tmp_path / "it.lock"), str(number)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert number.read_text() == "800"
