"""The folders of downloaded and derived files, and the derived files themselves.

Two folders, both the per-user cache folder unless said otherwise: `BERTSQUAD_DATA` holds what was
downloaded and may be read-only, `BERTSQUAD_CACHE` holds what was derived from it.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pooch
from filelock import FileLock

from bertsquad.errors import SuiteError
from bertsquad.files import user_path, write_whole

PACKAGE = Path(__file__).resolve().parents[1]
#: Where the facts of a derived file keep its checksum (SHA-256), None where there is no file.
SUM = "sha256"


def data_folder() -> Path:
    """Where downloaded files are looked for and put."""
    return _folder("BERTSQUAD_DATA")


def cache_folder() -> Path:
    """Where derived files (features, prepared models) and locks are put."""
    return _folder("BERTSQUAD_CACHE") / "derived"


def _folder(variable: str) -> Path:
    chosen = os.environ.get(variable)
    try:
        return user_path(chosen or pooch.os_cache("bertsquad"))
    except (SuiteError, RuntimeError) as error:
        raise SuiteError(
            f"no folder for files ({error}): set BERTSQUAD_DATA and BERTSQUAD_CACHE to full paths"
        ) from error


@contextmanager
def lock(name: str) -> Iterator[None]:
    """A lock between processes for the making of the file `name`."""
    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / f"{name.replace('/', '_')}.lock")
        held.acquire()
    except OSError as error:
        raise SuiteError(
            f"the cache folder {folder} can't be written ({error.strerror}): set BERTSQUAD_CACHE "
            "to a folder that can"
        ) from error
    try:
        yield
    finally:
        held.release()


def cached(
    name: str, fields: tuple[str, ...], make: Callable[[Path], dict[str, Any]]
) -> tuple[Path, dict[str, Any], str]:
    """The derived file `name` of the cache and what is known of it, made there first if need be.

    `make` writes the file, or doesn't where nothing came of it (then its facts say `"equal":
    false`); one process at a time. Facts without these `fields` are none. The third says in words
    why what lay in the cache was not used, and is empty where nothing lay there or it was.
    """
    path = cache_folder() / "prepared" / name
    facts_file = path.with_suffix(".json")
    with lock(name):
        why = ""
        if path.exists() or facts_file.exists():
            facts, why = _recall(path, facts_file, {*fields, SUM})
            if not why:
                return path, facts, ""
        try:
            _sweep(path)
            facts = make(path)
            facts[SUM] = pooch.file_hash(str(path)) if facts.get("equal") is not False else None
            text = json.dumps(facts, indent=1)
            write_whole(facts_file, lambda file: file.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise SuiteError(
                f"{path} can't be written ({error.strerror or error}): free some space, or set "
                "BERTSQUAD_CACHE to another folder"
            ) from error
    return path, facts, f" (rebuilt, since the cached copy was {why})" if why else ""


def _recall(path: Path, facts_file: Path, fields: set[str]) -> tuple[dict[str, Any], str]:
    """What is known of the file at `path`, and what is wrong with the two (empty: nothing)."""
    try:
        facts = json.loads(facts_file.read_bytes())
        if not fields <= facts.keys():
            return {}, "older"
        if facts[SUM] is not None and pooch.file_hash(str(path)) != facts[SUM]:
            return {}, "damaged"
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}, "damaged"
    return facts, ""


def _sweep(path: Path) -> None:
    """Remove what a process that was killed while it made `path` has left beside it."""
    for stale in path.parent.glob(f".{path.stem}.*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)
