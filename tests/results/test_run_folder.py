"""A run replaces the earlier one whole, and only when it has a result."""

import errno
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made import performance

from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.results import archive
from bertsquad.results.document import result_in
from bertsquad.results.result import RESULT, Result
from bertsquad.results.run_folder import UNFINISHED, RunFolder, case_of, owned, refuse_another

ROOT = Path(__file__).resolve().parents[2]

RUN = performance()
CASE = f"{RUN.mode}-{RUN.case}"

#: What a run leaves besides `result.json`.
LOGS = (
    *(logs.DETAIL, logs.SUMMARY, logs.ACCURACY, "mlperf_log_trace.json", TIMELINE, "audit.config"),
    *("predictions.json", "worst_answers.txt"),
)


def result(path: Path, text: str) -> Result:
    return replace(RUN, run_dir=str(path), reason=text)


def write(folder: Path, text: str) -> None:
    """What a run of LoadGen leaves, without a result."""
    for name in LOGS:
        (folder / name).write_text(text)


def finish(folder: RunFolder, text: str) -> None:
    """A whole run."""
    write(folder.begin(), text)
    result(folder.path, text).save(folder.unfinished)
    assert folder.settle()


def said(folder: Path) -> set[str]:
    """What all files of a run say, its result too."""
    return {(folder / name).read_text() for name in LOGS} | {result_in(folder).reason}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "results" / CASE)


def test_a_run_takes_the_place_of_the_earlier_one_and_leaves_nothing_beside_it(
    folder: RunFolder,
) -> None:
    for text in ("first", "second"):
        finish(folder, text)
        assert said(folder.path) == {text}
        assert [path.name for path in folder.path.parent.iterdir()] == [CASE]


def test_a_run_without_a_result_leaves_the_earlier_one_and_its_own_pieces(
    folder: RunFolder,
) -> None:
    finish(folder, "first")
    write(folder.begin(), "second")
    assert not folder.settle()
    assert said(folder.path) == {"first"}
    assert (folder.unfinished / TIMELINE).read_text() == "second"
    write(folder.begin(), "third")
    assert {path.name for path in folder.path.parent.iterdir()} == {CASE, CASE + UNFINISHED}
    finish(folder, "fourth")
    assert said(folder.path) == {"fourth"}
    assert [path.name for path in folder.path.parent.iterdir()] == [CASE]


def test_files_of_the_users_own_stay(folder: RunFolder) -> None:
    finish(folder, "first")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "plots").mkdir()
    (folder.path / "plots" / "one.png").write_text("mine, too")
    (folder.begin() / "notes.txt").write_text("another")
    finish(folder, "second")
    assert said(folder.path) == {"second"}
    assert (folder.path / "notes.txt").read_text() == "another"
    assert (folder.path / "notes.txt~").read_text() == "mine"
    assert (folder.path / "plots" / "one.png").read_text() == "mine, too"


def test_a_link_to_a_folder_elsewhere_stays_one(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "runs").mkdir(parents=True)
    folder.path.parent.mkdir()
    folder.path.symlink_to(tmp_path / "elsewhere" / "runs")
    linked = RunFolder(folder.path)
    for text in ("first", "second"):
        finish(linked, text)
        assert folder.path.is_symlink()
        assert said(folder.path) == {text}


def test_what_is_no_folder_is_not_replaced(folder: RunFolder) -> None:
    folder.path.parent.mkdir()
    folder.path.write_text("mine")
    with pytest.raises(FileExistsError):
        folder.begin()
    assert folder.path.read_text() == "mine"


#: Puts a run in the place of another, and kills itself at the given call of the system.
KILLED = """
import os, signal, sys
from pathlib import Path
from bertsquad.results.run_folder import RunFolder

folder, left = RunFolder(Path(sys.argv[1])), int(sys.argv[2])

def counted(call):
    def count(*arguments):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments)
    return count

for name in ("rename", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
folder.settle()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_killed_at_any_moment_loses_neither_run_and_the_next_one_copes(
    folder: RunFolder,
) -> None:
    ended = False
    for calls in range(40):
        finish(folder, "first")
        (folder.path / "notes.txt").write_text("mine")
        write(folder.begin(), "second")
        result(folder.path, "second").save(folder.unfinished)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder.path), str(calls)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
        ended = done.returncode == 0
        whole = {
            frozenset(said(path.parent))
            for path in folder.path.parent.rglob(RESULT)
            if all((path.parent / name).is_file() for name in LOGS)
        }
        assert whole >= {frozenset({"second"})} or whole >= {frozenset({"first"})}
        assert archive.read([folder.path.parent]).missing == []
        folder.begin()
        assert said(folder.path) == {"second"}
        (note,) = folder.path.parent.rglob("notes.txt*")
        assert note.read_text() == "mine"
        note.unlink()
        if ended:
            break
    assert ended


# Its owner.


def test_the_second_waits_for_the_first_and_says_who_that_is(folder: RunFolder) -> None:
    told: list[str] = []
    events: list[str] = []

    def second() -> None:
        with owned(folder.path, told.append):
            events.append("second")

    with owned(folder.path, told.append) as mine:
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.01)
        finish(mine, "first")
        events.append("first")
    thread.join(timeout=10)
    assert events == ["first", "second"]
    (sentence,) = told
    assert sentence.startswith(f"process {os.getpid()} (")
    assert f" writes to {folder.path}: waiting for its end" in sentence
    assert [path.name for path in folder.path.parent.iterdir()] == [CASE]


def test_another_case_has_another_owner(folder: RunFolder, tmp_path: Path) -> None:
    told: list[str] = []
    with owned(folder.path, told.append), owned(folder.path.with_name("other"), told.append):
        pass
    assert told == []


def test_two_ways_to_one_folder_lead_to_one_owner(folder: RunFolder, tmp_path: Path) -> None:
    told: list[str] = []
    folder.path.parent.mkdir()
    (tmp_path / "linked").symlink_to(folder.path.parent)

    def second() -> None:
        with owned(tmp_path / "linked" / CASE, told.append):
            pass

    with owned(folder.path, told.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.01)
    thread.join(timeout=10)


def test_a_folder_that_was_not_written_to_is_not_there(folder: RunFolder) -> None:
    with owned(folder.path, print) as mine:
        mine.begin()
    assert list(folder.path.parent.iterdir()) == []


def test_where_there_can_be_no_lock_that_is_told_and_the_run_goes_on(folder: RunFolder) -> None:
    told: list[str] = []
    folder.path.with_name(f"{CASE}.lock").mkdir(parents=True)
    with owned(folder.path, told.append) as mine:
        finish(mine, "first")
    assert said(folder.path) == {"first"}
    (sentence,) = told
    assert ".lock can't be locked (" in sentence


def test_another_run_in_its_place_is_not_taken_for_it(folder: RunFolder) -> None:
    finish(folder, "first")
    checksums = logs.checksums(folder.path)
    first = replace(result(folder.path, "first"), provenance={"log_checksums": checksums})
    refuse_another(first)
    finish(folder, "second")
    with pytest.raises(SuiteError, match="holds another run than the one of this pytest session"):
        refuse_another(first)


# What a report says.


def test_a_broken_off_run_is_named_until_the_case_has_run_again(folder: RunFolder) -> None:
    write(folder.begin(), "first")
    for source in (folder.unfinished, folder.path.parent):
        (missing,) = archive.read([source]).missing
        assert (missing.mode, missing.case) == (RUN.mode, RUN.case)
        assert "broken off" in missing.reason
        assert missing.source == str(folder.unfinished)
    assert case_of(folder.unfinished) == CASE
    finish(folder, "second")
    assert archive.read([folder.path.parent]).missing == []


def test_what_only_resembles_a_log_is_the_users_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    ran(folder)
    (folder.path / "mlperf_log_notes.txt").write_text("mine")
    (folder.path / "mlperf_log_old").mkdir()
    ran(folder)
    assert (folder.path / "mlperf_log_notes.txt").read_text() == "mine"
    assert (folder.path / "mlperf_log_old").is_dir()


def test_an_earlier_run_that_cannot_be_removed_harms_no_later_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)  # as another user's files do
    for text in ("one", "two", "three"):
        finish(folder, text)
        assert said(folder.path) == {text}


def ran(folder: RunFolder) -> None:
    """Make a run, and let it take its place."""
    place = folder.begin()
    (place / RESULT).write_text("{}")
    assert folder.settle()
