"""The files of a prepared model, on a node: those that are there already, or sent in chunks.

A node may share its folders with the machine that prepares, so a file of the same path and checksum
is used where it is. Else it lies in the node's own cache, named by what it holds.
"""

import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertsquad.assets.cache import SHIPPED, cache_folder, lock
from bertsquad.assets.fingerprint import Fingerprint, fingerprint, joint_digest
from bertsquad.errors import SuiteError
from bertsquad.files import unwritable

#: Bytes of a model that are sent at once.
CHUNK = 16 << 20


@dataclass(frozen=True)
class Parcel:
    """The files of a model as one to send: first the one to open, then those with weights of it.

    `names` are their places beside the first, since a model's file names those with weights so.
    """

    files: tuple[Fingerprint, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def key(self) -> str:
        """What all of them hold."""
        return joint_digest(self.files)

    @property
    def bytes(self) -> int:
        """How large they are together."""
        return sum(self.sizes)


def parcel(files: Sequence[Fingerprint]) -> Parcel:
    """The parcel of a model's files on this machine."""
    folder = Path(files[0].path).parent
    return Parcel(
        tuple(files),
        tuple(os.path.relpath(one.path, folder) for one in files),
        tuple(Path(one.path).stat().st_size for one in files),
    )


def found(wanted: Parcel) -> tuple[Fingerprint, ...] | None:
    """The files where this machine has them, as they are here; None where one is missing."""
    in_place = tuple(Path(one.path) for one in wanted.files)
    for paths in (in_place, tuple(_folder(wanted) / name for name in _inside(wanted))):
        here = _same(paths, wanted.files)
        if here is not None:
            return here
    return None


def _folder(wanted: Parcel) -> Path:
    return cache_folder() / SHIPPED / f"{wanted.key}.model"


def _same(paths: Sequence[Path], wanted: Sequence[Fingerprint]) -> tuple[Fingerprint, ...] | None:
    here = []
    for path, one in zip(paths, wanted, strict=True):
        try:
            own = fingerprint(path, one.algorithm)
        except OSError:
            return None
        if own.digest != one.digest:
            return None
        here.append(own)
    return tuple(here)


def _inside(wanted: Parcel) -> list[str]:
    """The files' places in a folder of the cache, which none of them may leave."""
    for name in wanted.names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise SuiteError(
                f"the weights {name} lie outside of the model's folder, so that the model can't be "
                "sent to other machines: put them beside it"
            )
    return list(wanted.names)


def chunks(wanted: Parcel) -> Iterator[tuple[int, int, memoryview]]:
    """The content of all files, in order: which file, from which byte on, and the bytes."""
    for place, one in enumerate(wanted.files):
        offset = 0
        with Path(one.path).open("rb") as file:
            while block := file.read(CHUNK):
                yield place, offset, memoryview(block)
                offset += len(block)


class Receiver:
    """Takes a parcel's chunks on a node, and keeps the files once all are what they should be."""

    def __init__(self, wanted: Parcel) -> None:
        self._wanted = wanted
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())  # homes may be shared
        self._partial = _folder(wanted).with_name(f".{wanted.key}.{host}.{os.getpid()}.model")
        for left in self._partial.parent.glob(f".{wanted.key}.{host}.*.model"):
            if not _runs(left.name.split(".")[-2]):  # who was killed left it
                shutil.rmtree(left, ignore_errors=True)
        self._names = _inside(wanted)

    def take(self, place: int, offset: int, content: memoryview) -> None:
        """Write one chunk; SuiteError where this machine has no room for it."""
        path = self._partial / self._names[place]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(content)
        except OSError as error:
            raise unwritable(path, error, "set BERTSQUAD_CACHE there to another folder") from error

    def settle(self) -> tuple[Fingerprint, ...]:
        """All has come: the files, verified and put in their place in one step."""
        paths = [self._partial / name for name in self._names]
        if _same(paths, self._wanted.files) is None:
            raise SuiteError("the model that was sent has another checksum there: run again")
        with lock(f"{self._wanted.key}.model"):
            here = found(self._wanted)
            if here is None:  # else another process has been faster
                shutil.rmtree(_folder(self._wanted), ignore_errors=True)
                self._partial.rename(_folder(self._wanted))
                here = found(self._wanted)
        assert here is not None
        return here

    def close(self) -> None:
        """Leave nothing half-written."""
        shutil.rmtree(self._partial, ignore_errors=True)


def _runs(pid: str) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):  # it is another user's
        return True
    return True
