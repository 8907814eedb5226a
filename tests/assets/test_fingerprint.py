"""A file that changes after its checksum was taken is told, however it changed."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertsquad.assets import fingerprint as module
from bertsquad.assets.fingerprint import fingerprint, joint_digest, verify, verify_mapped
from bertsquad.errors import SuiteError

OTHER = b"other weights"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"first weights")
    return path


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(OTHER)


def edit_and_set_the_clock_back(path: Path) -> None:
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(OTHER)
    new.replace(path)


def remake(path: Path) -> None:
    """A file system may give the new file the old one's inode."""
    path.unlink()
    path.write_bytes(OTHER)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


CHANGES = [edit, edit_and_set_the_clock_back, replace, remake, grow]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_that_stays_is_verified_without_being_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    found = fingerprint(path, algorithm)
    assert found.digest == hashlib.new(algorithm, path.read_bytes()).hexdigest()

    def never(*arguments: Any) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(module, "fingerprint", never)
    verify([found])


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_holds_something_else_is_named(
    path: Path, change: Callable[[Path], None]
) -> None:
    found = fingerprint(path)
    change(path)
    with pytest.raises(SuiteError, match="was changed after its checksum was taken") as caught:
        verify([found])
    text = str(caught.value)
    assert str(path) in text
    assert "run again" in text
    assert "\n" not in text


def test_a_file_that_holds_the_same_is_the_same_whatever_else_changed(path: Path) -> None:
    found = fingerprint(path)
    path.chmod(0o400)
    verify([found])
    os.utime(path)
    verify([found])
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    verify([found])


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_points_elsewhere_is_a_changed_file(path: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link.onnx", tmp_path / "other"
    link.symlink_to(path)
    found = fingerprint(link)
    other.write_bytes(OTHER)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(SuiteError, match=r"link\.onnx was changed"):
        verify([found])


def test_a_file_that_is_gone_is_named(path: Path) -> None:
    found = fingerprint(path)
    path.unlink()
    with pytest.raises(SuiteError, match=r"model\.onnx was removed after its checksum was taken"):
        verify([found])


def test_a_file_that_is_written_to_while_it_is_read_gets_no_checksum(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def slow(file: Any, algorithm: str) -> Any:
        edit(path)
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", slow)
    with pytest.raises(SuiteError, match=r"model\.onnx was changed while it was read"):
        fingerprint(path)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_mapped_is_told_only_where_it_changes_itself(
    path: Path, change: Callable[[Path], None]
) -> None:
    found = fingerprint(path)
    with path.open("rb"):  # as what maps it, so that no other file gets its inode
        change(path)
        if change in (replace, remake):
            verify_mapped([found])
        else:
            with pytest.raises(SuiteError, match="was changed"):
                verify_mapped([found])
        path.unlink()
        verify_mapped([found])


def test_one_file_keeps_its_checksum_and_several_get_one_for_all(
    path: Path, tmp_path: Path
) -> None:
    graph = fingerprint(path)
    assert joint_digest((graph,)) == graph.digest
    beside = tmp_path / "weights"
    beside.write_bytes(b"1")
    first = joint_digest((graph, fingerprint(beside)))
    beside.write_bytes(b"2")
    assert first != joint_digest((graph, fingerprint(beside))) != graph.digest
