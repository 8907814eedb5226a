"""What a file holds: its checksum, and the sign by which a later change of it shows.

A model is hashed in the pytest process, and opened in a worker minutes or hours later. Whoever
reads it looks at its sign before and afterwards, so that nothing is measured, or kept in a cache,
under the checksum of another file. That costs no second reading.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable

#: A file's device, inode and size, and when its content and anything of it last changed, in ns.
Sign = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Fingerprint:
    """A file as it was when its checksum was found; while its sign stays, so does its content."""

    path: str
    algorithm: str
    digest: str
    sign: Sign


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: first the one to open, then those beside it that hold weights of it.

    `key` names what they hold: their checksum, or what a built model is built from.
    """

    key: str
    files: tuple[Fingerprint, ...]

    @property
    def path(self) -> Path:
        """The file to open."""
        return Path(self.files[0].path)


def fingerprint(path: Path, algorithm: str = "sha256") -> Fingerprint:
    """Hash the file at `path`; OSError if it can't be read, SuiteError if it changes meanwhile."""
    with path.open("rb") as file:
        sign = sign_of(os.fstat(file.fileno()))
        digest = hashlib.file_digest(file, algorithm).hexdigest()
        if sign != sign_of(os.fstat(file.fileno())):
            raise SuiteError(f"{path} was changed while it was read: run again when it is done")
    return Fingerprint(str(path), algorithm, digest, sign)


def joint_digest(files: tuple[Fingerprint, ...]) -> str:
    """The checksum of a file, or one of all checksums where there are several files."""
    if len(files) == 1:
        return files[0].digest
    return hashlib.sha256("\n".join(one.digest for one in files).encode()).hexdigest()


def verify(files: Iterable[Fingerprint]) -> None:
    """SuiteError where a file holds something else than when its checksum was found.

    A file is read again only where its sign changed, as by `chmod`, too.
    """
    for one in files:
        path = Path(one.path)
        try:
            if sign_of(path.stat()) == one.sign:
                continue
            found = fingerprint(path, one.algorithm).digest
        except FileNotFoundError:
            raise SuiteError(
                f"{path} was removed after its checksum was taken: put it back and run again"
            ) from None
        except OSError as error:
            raise unreadable(path, error) from error
        if found != one.digest:
            raise SuiteError(
                f"{path} was changed after its checksum was taken (expected {one.algorithm} "
                f"{one.digest:.12}…, found {found:.12}…): leave it alone and run again"
            )


def verify_mapped(files: Iterable[Fingerprint]) -> None:
    """SuiteError where a file that a process has mapped holds something else than at first.

    What was written to such a file shows in the process; a file in its place doesn't.
    """
    for one in files:
        try:
            now = sign_of(Path(one.path).stat())
        except OSError:
            continue
        if now[:2] == one.sign[:2]:
            verify([one])


def sign_of(status: os.stat_result) -> Sign:
    """By what of a file a change of it shows."""
    return (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )
