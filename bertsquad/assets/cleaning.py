"""Removes what the suite made, and nothing else, wherever BERTSQUAD_CACHE and BERTSQUAD_DATA lead.

Their folders may be shared with other programs, or be named by mistake. So a file goes only if it
lies where the suite puts such files and is named as one, a download only if it is the file that the
registry means, and a folder only once it is empty. A link is the user's: it stays, and nothing is
removed through it.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from bertsquad.assets import registry
from bertsquad.assets.cache import (
    FEATURES,
    GPU,
    LOCKS,
    PREPARED,
    SHIPPED,
    TENSORRT,
    TIMES,
    cache_folder,
    lock_file,
)
from bertsquad.assets.download import part_of
from bertsquad.files import reason

_WINDOWS = r"[0-9a-f]{32}"
_MODEL = r"(?:[0-9a-f]{32,64}|bert_large_random)(?:-[0-9a-z]+)+"
_SUM = r"[0-9a-f]{32,64}"
_TEMPORARY = r"[a-z0-9_]{8}"  # as Python's tempfile names

#: The names of what the suite makes, in each folder of the cache. Those that begin with a dot are
#: what a killed process leaves.
MADE = {
    FEATURES: rf"{_WINDOWS}\.npz|\.{_WINDOWS}\.{_TEMPORARY}\.npz",
    PREPARED: (
        rf"{_MODEL}\.(?:onnx|onnx\.data|json)"
        rf"|\.{_MODEL}\.(?:{_TEMPORARY}\.(?:onnx|json)|onnx\.{_TEMPORARY}\.data|calibration)"
    ),
    TENSORRT: r"TensorrtExecutionProvider_.+\.(?:engine|profile|timing)",  # ONNX Runtime's names
    TIMES: rf"durations\.json|\.durations\.{_TEMPORARY}\.json",
    SHIPPED: rf"{_SUM}\.model|\.{_SUM}\.[A-Za-z0-9-]+\.\d+\.model",
}
#: The kinds of what is made that are folders.
_FOLDERS = (".calibration", ".model")

FOREIGN = "not made by the suite"
LINK = "a link"
IN_USE = "in use by another process"
OTHER = "not the file that the suite downloads"


@dataclass
class Cleaned:
    """What was removed, what stayed with the reason, and sentences on what can't be removed.

    `removed` has the bytes of each; a folder that was found empty had none.
    """

    removed: dict[Path, int] = field(default_factory=dict)
    stayed: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def trying(self, path: Path) -> Iterator[None]:
        """Note it where `path` can't be looked at or removed."""
        try:
            yield
        except OSError as error:
            self.failed.append(f"{path} can't be removed: {reason(error, path)}")

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all that is in it."""
        with self.trying(path):
            size = size_of(path)
            if path.is_dir():
                shutil.rmtree(path)  # follows no link
            else:
                path.unlink()
            self.removed[path] = size


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder, without those that links lead to."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(size_of(one) for one in path.iterdir())


def clean_cache() -> Cleaned:
    """Remove the derived files and the locks, then the folders that are empty."""
    done, top = Cleaned(), cache_folder()
    for folder, pattern in _folders(top, done):
        suffix = {FEATURES: ".npz", SHIPPED: ".model", TIMES: ".json"}.get(folder.name, ".onnx")
        for path in _named(folder, pattern, done):
            _remove_unless_in_use(path, f"{path.name.strip('.').partition('.')[0]}{suffix}", done)
    of = [
        rf"{_WINDOWS}\.npz",
        rf"{_MODEL}\.onnx",
        rf"{_SUM}\.model",
        *map(re.escape, _locked_by_name()),
    ]
    for path in _named(top / LOCKS, rf"(?:{'|'.join(of)})\.(?:lock|failed-\w+)", done):
        _remove_unless_in_use(path, re.sub(r"\.(lock|failed-\w+)$", "", path.name), done)
    with done.trying(top):
        if top.is_dir():
            known = {*MADE, LOCKS}
            done.stayed += [(one, FOREIGN) for one in top.iterdir() if one.name not in known]
            _remove_empty(top, done)
    return done


def _folders(top: Path, done: Cleaned) -> Iterator[tuple[Path, str]]:
    """The folders of what is made, each after those in it, with the names of what the suite made.

    TensorRT's engines for each kind of GPU are in a folder of their own.
    """
    for name, pattern in MADE.items():
        folder = top / name
        if name == TENSORRT and folder.is_dir() and not folder.is_symlink():
            with done.trying(folder):
                inside = [one for one in sorted(folder.glob(f"{GPU}*")) if not one.is_symlink()]
                yield from ((one, pattern) for one in inside if one.is_dir())
        yield folder, pattern


def clean_downloads() -> Cleaned:
    """Remove the downloaded files, and the parts of those that were never whole."""
    done = Cleaned()
    for name, path in _downloads(done):
        _remove_unless_in_use(path, name, done)
    return done


def downloads() -> dict[Path, int]:
    """What `clean_downloads` would remove, and the bytes of each; what is in use is among it."""
    looked, found = Cleaned(), {}
    for _, path in _downloads(looked):
        with looked.trying(path):
            found[path] = size_of(path)
    return found


def _downloads(done: Cleaned) -> Iterator[tuple[str, Path]]:
    """The downloaded files and parts of such, each with the name of its lock; others are noted."""
    for name, entry in registry.entries().items():
        path = registry.path_of(name)
        for one in () if entry.bundled else (path, part_of(path)):
            with done.trying(one):
                if one.is_symlink():
                    done.stayed.append((one, LINK))
                elif one.is_file():
                    if one == path and entry.look_at(path)[1] is not None:
                        done.stayed.append((one, OTHER))
                    else:
                        yield name, one


def _locked_by_name() -> list[str]:
    """The names in the registry, as those of their locks begin."""
    return [lock_file(name).name.removesuffix(".lock") for name in registry.entries()]


def _named(folder: Path, pattern: str, done: Cleaned) -> Iterator[Path]:
    """The entries of a folder with such names, the others noted; the folder goes if it is empty."""
    with done.trying(folder):
        if folder.is_symlink():
            done.stayed.append((folder, LINK))
        elif folder.is_dir():
            for path in sorted(folder.iterdir()):
                is_kind = path.is_dir() if path.suffix in _FOLDERS else path.is_file()
                if path.is_symlink():
                    done.stayed.append((path, LINK))
                elif is_kind and re.fullmatch(pattern, path.name):
                    yield path
                else:
                    done.stayed.append((path, FOREIGN))
            _remove_empty(folder, done)
        elif folder.exists():
            done.stayed.append((folder, FOREIGN))


def _remove_unless_in_use(path: Path, name: str, done: Cleaned) -> None:
    """Remove `path`, unless another process is making the file `name`."""
    lock = lock_file(name)
    if not lock.is_file() or lock.is_symlink():
        done.remove(path)
        return
    with done.trying(path):
        try:
            held = FileLock(lock).acquire(timeout=0)
        except Timeout:
            done.stayed.append((path, IN_USE))
            return
        with held:
            done.remove(path)


def _remove_empty(folder: Path, done: Cleaned) -> None:
    """Remove a folder if nothing is in it; a link to one stays."""
    if not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
        done.removed[folder] = 0
