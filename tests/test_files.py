import errno
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from bertsquad.errors import SuiteError
from bertsquad.files import (
    failure,
    unreadable,
    unwritable,
    user_path,
    why_no_room,
    write_whole,
)

if os.name != "nt":
    import pwd
    import resource


def test_a_file_is_written_and_its_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "note.txt"
    write_whole(path, lambda file: file.write_text("all of it", "utf-8"))
    assert path.read_text("utf-8") == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old", "utf-8")

    def write(file: Path) -> None:
        file.write_text("ne", "utf-8")
        assert file.parent == path.parent  # a move between two disks is not one step
        assert path.read_text("utf-8") == "old"
        file.write_text("new", "utf-8")

    write_whole(path, write)
    assert path.read_text("utf-8") == "new"


def test_a_file_that_is_not_there_stays_absent_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"

    def write(file: Path) -> None:
        file.write_text("new", "utf-8")
        assert not path.exists()

    write_whole(path, write)
    assert path.read_text("utf-8") == "new"


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old", "utf-8")

    def write(file: Path) -> None:
        file.write_text("half of", "utf-8")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text("utf-8") == "old"


def test_writers_that_go_by_the_suffix_are_given_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    write_whole(path, lambda file: np.savez(file, ids=np.arange(3)))
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path) as arrays:
        assert arrays["ids"].tolist() == [0, 1, 2]


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    both = threading.Barrier(2, timeout=20)
    texts = ("a" * 100_000, "b" * 200_000)

    def write(text: str) -> None:
        def fill(file: Path) -> None:
            both.wait()
            file.write_text(text, "utf-8")
            both.wait()

        write_whole(path, fill)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text("utf-8") in texts
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_gets_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "note.txt"
    before = os.umask(umask)
    try:
        write_whole(path, lambda file: file.write_text("text", "utf-8"))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_file_that_cannot_be_read_is_told_with_a_reason_and_a_cure() -> None:
    denied = PermissionError(13, "Permission denied")
    assert str(unreadable("a.txt", denied)) == "a.txt can't be read: Permission denied"
    # As libraries raise it, without a number.
    assert str(unreadable("a.txt", OSError("cut short"))) == "a.txt can't be read: cut short"
    assert str(unreadable("a.txt", denied, "mend it")).endswith("denied; mend it")


ERRORS = {
    "full": (errno.ENOSPC, "free some space, or go elsewhere"),
    "quota": (errno.EDQUOT, "free some space, since a quota limits yours, or go elsewhere"),
    "file too large": (errno.EFBIG, "free some space, or go elsewhere, or raise the limit"),
    "descriptors": (errno.EMFILE, "raise the limit of open files (`ulimit -n`)"),
    "all files": (errno.ENFILE, "end other programs"),
    "read-only": (errno.EROFS, "go elsewhere"),
    "denied": (errno.EACCES, "go elsewhere"),
    "name": (errno.ENAMETOOLONG, "choose a shorter name, or go elsewhere"),
    "disk": (errno.EIO, "look at that disk, which fails"),
}


@pytest.mark.parametrize(("number", "todo"), ERRORS.values(), ids=ERRORS)
def test_an_error_of_the_system_is_told_with_what_cures_it(
    tmp_path: Path, number: int, todo: str
) -> None:
    path = tmp_path / "a.txt"
    error = OSError(number, os.strerror(number), str(path))
    for told in (unwritable(path, error, "go elsewhere"), failure(error, "go elsewhere")):
        said = str(told)
        assert os.strerror(number) in said
        assert todo in said
        # Another folder helps against nothing that holds for the whole process.
        assert ("elsewhere" in said) == (number not in (errno.EMFILE, errno.ENFILE))


def test_no_folder_is_blamed_for_what_is_no_fault_of_a_file() -> None:
    told = failure(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "choose another folder")
    assert "folder" not in str(told) and "a file" not in str(told)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
def test_a_file_that_another_user_keeps_to_himself_is_told_as_that(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    here = tmp_path / "a.txt"
    here.touch()
    assert "belongs" not in str(unreadable(here, denied))
    owner = pwd.getpwuid(Path("/").stat().st_uid).pw_name
    theirs = Path("/proc/1/environ" if os.getuid() else "/nowhere")
    if not os.getuid():
        os.chown(here, 65_534, -1)
        theirs, owner = here, pwd.getpwuid(65_534).pw_name
    for said in (unreadable(theirs, denied), unwritable(theirs / "b", denied, "")):
        assert f"Permission denied, since {theirs} belongs to {owner}" in str(said)


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(SuiteError, match=r"expected a path that is text, got .*udcff") as caught:
        user_path("results-\udcff")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_file_that_can_not_grow_says_why(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("a" * 1_000, "utf-8")
    assert why_no_room(path) is None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        found = why_no_room(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found is not None and found.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://someone:hunter2@mirror.invalid/a.onnx", "https://***@mirror.invalid/a.onnx"),
        ("file:///data/a.onnx", "file:///data/a.onnx"),
        ("s3://bucket/a.onnx?token=hunter2", "s3://bucket/a.onnx?***"),
    ],
)
def test_an_address_is_no_path_and_is_shown_without_its_credentials(
    address: str, shown: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        user_path(address)
    assert str(caught.value) == (
        f"expected a path, got an address, {shown}: give a path on this machine"
    )
