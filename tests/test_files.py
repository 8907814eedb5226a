import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from bertsquad.files import unreadable, write_whole


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
