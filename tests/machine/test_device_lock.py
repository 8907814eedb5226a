"""Timed runs wait for each other, whoever of a machine's users starts them."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bertsquad.machine import device_lock
from bertsquad.machine.device_lock import device_to_itself

ROOT = Path(__file__).resolve().parents[2]

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's addresses in no folder")


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that no other test has."""
    monkeypatch.setattr(device_lock, "NAME", f"bertsquad-{os.getpid()}-{tmp_path.name}"[:80])
    return device_lock.NAME


@pytest.fixture
def folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of locks that are files, as on systems other than Linux."""
    monkeypatch.setattr(sys, "platform", "another")
    monkeypatch.setattr(device_lock, "_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(params=["here", "in a folder"])
def either(request: pytest.FixtureRequest, name: str) -> None:
    """Both kinds of locks: this system's, and a file."""
    if request.param == "in a folder":
        request.getfixturevalue("folder")


@pytest.mark.usefixtures("either")
def test_a_timed_run_waits_for_the_one_before_it_and_says_so() -> None:
    told: list[str] = []
    events: list[str] = []

    def second() -> None:
        with device_to_itself("cpu", told.append):
            events.append("second")

    with device_to_itself("cpu", told.append):
        assert told == []
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.01)
        events.append("first")
    thread.join(timeout=10)
    assert events == ["first", "second"]
    assert told == ["another run measures on this machine's CPU: waiting for its end"]


@pytest.mark.usefixtures("either")
def test_the_gpu_is_another_device() -> None:
    told: list[str] = []
    with device_to_itself("cpu", told.append), device_to_itself("gpu", told.append):
        pass
    assert told == []


@pytest.mark.usefixtures("either")
def test_a_run_that_fails_gives_the_device_back() -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError), device_to_itself("cpu", told.append):
        raise RuntimeError
    with device_to_itself("cpu", told.append):
        pass
    assert told == []


#: Has the CPU to itself until it's killed, and then a child of its own still runs.
HOLDER = """
import subprocess, sys
from bertsquad.machine import device_lock
device_lock.NAME = sys.argv[1]
with device_lock.device_to_itself("cpu", print):
    child = subprocess.Popen([sys.executable, "-c", "input()"])
    print(child.pid, flush=True)
    child.wait()
"""


@contextmanager
def holder(name: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, name],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def waits(name: str) -> bool:
    """Whether a run would wait now."""
    release = device_lock.take_name(f"{name}-cpu")
    if release is not None:
        release()
    return release is None


@linux
def test_another_folder_for_temporary_files_is_no_way_around(name: str, tmp_path: Path) -> None:
    with holder(name, TMPDIR=str(tmp_path), HOME=str(tmp_path), BERTSQUAD_CACHE=str(tmp_path)):
        assert tempfile.gettempdir() != str(tmp_path)
        assert waits(name)


@linux
def test_a_killed_run_gives_the_device_back_though_its_worker_lives_on(name: str) -> None:
    with holder(name) as process:
        assert waits(name)
        process.kill()
        process.wait()
        assert not waits(name)


@linux
def test_the_lock_of_a_run_is_no_file(name: str, tmp_path: Path) -> None:
    with holder(name, TMPDIR=str(tmp_path)):
        assert list(tmp_path.iterdir()) == []


@linux
def test_the_lock_of_all_users_is_the_same_one() -> None:
    """The project's own tests have another; a user has no means to change it."""
    code = "from bertsquad.machine import device_lock; print(device_lock.NAME)"
    changed = dict.fromkeys(("TMPDIR", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "HOME"), "/nowhere")
    for environment in ({}, changed):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "bertsquad\n"


@pytest.mark.parametrize("what", ["a folder", "a symbolic link"])
def test_a_lock_that_cannot_be_had_is_told_and_the_run_goes_on(folder: Path, what: str) -> None:
    file, aim = folder / f"{device_lock.NAME}-cpu.lock", folder / "aim"
    aim.write_text("somebody's")
    if what == "a folder":
        file.mkdir()
    else:
        file.symlink_to(aim)
    told: list[str] = []
    ran = False
    with device_to_itself("cpu", told.append):
        ran = True
    assert ran
    assert len(told) == 1
    assert f"{device_lock.NAME}-cpu.lock can't be locked" in told[0]
    assert aim.read_text() == "somebody's"


@linux
def test_an_address_that_cannot_be_had_is_told_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_lock, "NAME", "longer than any address can be " * 9)
    told: list[str] = []
    with device_to_itself("cpu", told.append):
        told.append("ran")
    (reason, ran) = told
    assert "can't be locked (" in reason
    assert ran == "ran"
