"""The folders of downloaded and derived files, and the derived files themselves.

Two folders, both the per-user cache folder unless said otherwise: `BERTSQUAD_DATA` holds what was
downloaded and may be read-only, `BERTSQUAD_CACHE` holds what was derived from it.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import pooch
from filelock import FileLock

from bertsquad import typed
from bertsquad.assets.fingerprint import Fingerprint, fingerprint, joint_digest
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable, unwritable, user_path, write_whole

PACKAGE = Path(__file__).resolve().parents[1]
#: The folders in the cache folder; `cleaning` knows what lies in them.
FEATURES, PREPARED, TENSORRT, LOCKS = "features", "prepared", "tensorrt", "locks"
TIMES = "times"  # how long cases took
SHIPPED = "shipped"  # models that a node of a cluster was sent
#: How the folders begin that TENSORRT has for GPUs of one name each.
GPU = "gpu-"
#: Where the facts of a derived model keep its checksum (SHA-256), None where there is no model.
SUM = "sha256"

Content = TypeVar("Content")
Key = TypeVar("Key")
Facts = dict[str, Any]


@dataclass(frozen=True)
class Derived(Generic[Content]):
    """A derived file, and what was read from it or is known of it.

    `rebuilt` says what the cached copy was, "damaged" or "older", where it had to be made again.
    `files` are those of a derived model, none where it isn't kept.
    """

    path: Path
    content: Content
    rebuilt: str | None = None
    files: tuple[Fingerprint, ...] = ()


def data_folder() -> Path:
    """Where downloaded files are looked for and put."""
    return _folder("BERTSQUAD_DATA")


def cache_folder() -> Path:
    """Where derived files (features, prepared models) and locks are put."""
    return _folder("BERTSQUAD_CACHE") / "derived"


def _folder(variable: str) -> Path:
    chosen = os.environ.get(variable)
    try:
        return user_path(chosen or str(pooch.os_cache("bertsquad")))
    except (SuiteError, RuntimeError) as error:
        raise SuiteError(
            f"no folder for files ({error}): set BERTSQUAD_DATA and BERTSQUAD_CACHE to full paths"
        ) from error


def lock_file(name: str) -> Path:
    """The file by which `lock` locks the making of the file `name`."""
    return cache_folder() / LOCKS / f"{name.replace('/', '_')}.lock"


def lock(name: str) -> AbstractContextManager[object]:
    """A lock between processes for the making of the file `name`, held until it is left."""
    path = lock_file(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path).acquire()
    except OSError as error:
        place = path if path.exists() else f"the cache folder {path.parent}"
        raise unwritable(place, error, "set BERTSQUAD_CACHE to a folder that can") from error


def derived(
    path: Path, read: Callable[[Path], Content], make: Callable[[Path], Content]
) -> Derived[Content]:
    """The derived file at `path`: read where the cache has it, else made, by one process at a time.

    `read` raises LookupError where the file lacks something, since an older version wrote it, and
    ValueError or FileNotFoundError where it is damaged; either is made again. Raises SuiteError
    where the file is there and can't be read, as another user's, or where it can't be written.
    """
    rebuilt, elsewhere = None, "set BERTSQUAD_CACHE to another folder"
    with lock(path.name):
        try:
            if path.exists() or path.with_suffix(".json").exists():
                return Derived(path, read(path))
        except LookupError:
            rebuilt = "older"
        except (FileNotFoundError, ValueError):
            rebuilt = "damaged"
        except OSError as error:  # which says nothing of what is in it
            place = error.filename if isinstance(error, PermissionError) else path
            raise unreadable(place or path, error, elsewhere) from error
        try:
            _sweep(path)
            try:
                return Derived(path, make(path), rebuilt)
            except FileNotFoundError:
                if path.parent.exists():
                    raise
                return Derived(path, make(path), rebuilt)  # somebody removed the cache meanwhile
        except OSError as error:
            raise unwritable(path, error, elsewhere) from error


def weights_beside(path: Path) -> Path:
    """Where a derived model has the weights that are too large for its own file."""
    return path.with_name(f"{path.name}.data")


def derived_model(
    name: str, kind: type[Any] | None, make: Callable[[Path], Facts]
) -> Derived[Facts]:
    """The derived model `name` and what is known of it: its facts, kept in a JSON file beside it.

    `make` writes the model, perhaps with `weights_beside` it, and returns the facts. Where these
    say `"equal": false` the model isn't kept. They have what the dataclass `kind` has, if there is
    one: those that lack some of it are of an older version.
    """
    path = cache_folder() / PREPARED / name
    facts_file = path.with_suffix(".json")

    def files() -> tuple[Fingerprint, ...]:
        beside = weights_beside(path)
        return tuple(map(fingerprint, [path, beside] if beside.exists() else [path]))

    def read(path: Path) -> tuple[Facts, tuple[Fingerprint, ...]]:
        facts: Facts = typed.parse(facts_file.read_bytes())
        if not isinstance(facts, dict):
            raise ValueError(f"{facts_file} holds no JSON object")
        wanted = {field.name for field in fields(kind)} if kind is not None else set()
        if not wanted | {SUM} <= facts.keys():
            raise LookupError(f"{facts_file} lacks facts")
        try:
            if kind is not None:
                typed.build(kind, facts)
        except typed.Misfit as error:
            raise ValueError(f"{facts_file}: {error}") from error
        if facts[SUM] is None and not facts.get("equal", True):
            return facts, ()
        found = files()
        if joint_digest(found) != facts[SUM]:
            raise ValueError(f"{path} has another checksum")
        return facts, found

    def make_and_describe(path: Path) -> tuple[Facts, tuple[Fingerprint, ...]]:
        try:
            facts = make(path)
        except BaseException:
            _remove(path)
            raise
        found = files() if facts.get("equal", True) else ()
        if not found:
            _remove(path)
        facts[SUM] = joint_digest(found) if found else None
        text = json.dumps(facts, indent=1)
        write_whole(facts_file, lambda file: file.write_text(text, encoding="utf-8"))
        return facts, found

    had = derived(path, read, make_and_describe)
    facts, found = had.content
    return Derived(path, facts, had.rebuilt, found)


def kept(
    make: Callable[[Key], Content], files: Callable[[Content], Sequence[Path]]
) -> Callable[[Key], Content]:
    """`make`, what it returns kept by its argument for as long as the `files` of that are there."""
    made: dict[Key, Content] = {}

    def get(key: Key) -> Content:
        if key not in made or not all(file.is_file() for file in files(made[key])):
            made[key] = make(key)
        return made[key]

    return get


def warn_if_rebuilt(found: Derived[Any]) -> None:
    """Warn where the cache held a copy that couldn't be used."""
    if found.rebuilt:
        text = f"{found.path} was rebuilt, since the cached copy was {found.rebuilt}"
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # it is no error, even where all warnings are
            warnings.warn(text, stacklevel=3)


def _sweep(path: Path) -> None:
    """Remove a file that can't be used, and what a killed process left beside it."""
    _remove(path)
    for stale in path.parent.glob(f".{path.stem}.*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for file in (path, weights_beside(path)):
        file.unlink(missing_ok=True)
