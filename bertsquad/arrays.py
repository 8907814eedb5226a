"""Dataclasses of arrays in `.npz` files: written whole, and read with every array checked."""

import dataclasses
import errno
import typing
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bertsquad.files import write_whole

_Made = TypeVar("_Made")


class Lacking(LookupError):
    """A file that is whole, but lacks arrays, as one of an older version does."""


class Damaged(ValueError):
    """A file that holds something else than the arrays that it should; the text says what."""


def save(whole: Any, path: Path) -> None:
    """Write the dataclass of arrays `whole` to `path`, which appears whole or not at all."""
    arrays = {field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)}
    write_whole(path, lambda file: np.savez(file, **arrays))


def load(cls: type[_Made], path: Path) -> _Made:
    """What `save` wrote of a `cls`, whose annotations say the arrays' types; each has one axis.

    Arrays for which `cls` has a default may be absent, as they are in a file of an older version.
    Raises OSError where the file can't be read, else Lacking or Damaged.
    """
    hints = typing.get_type_hints(cls)
    needed = {
        f"{one.name}.npy"
        for one in dataclasses.fields(cls)  # type: ignore[arg-type]
        if one.default is one.default_factory is dataclasses.MISSING
    }
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                stored = {one.filename: one.compress_type for one in archive.infolist()}
            if any(kind != zipfile.ZIP_STORED for kind in stored.values()):
                raise Damaged("it is compressed")  # to whatever size
            if not stored.keys() >= needed:
                raise Lacking("it lacks arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in hints if name in found}
        except (Lacking, Damaged):
            raise
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # as a seek to a place that is none has
                raise
            raise Damaged(f"{error!s:.200}") from error
        # A damaged archive makes zipfile and NumPy raise errors of many types, MemoryError and
        # NotImplementedError among them.
        except Exception as error:
            raise Damaged(f"{type(error).__name__}: {error!s:.200}") from error
    for name, array in arrays.items():
        wanted = typing.get_args(typing.get_args(hints[name])[1])[0]
        if not isinstance(array, np.ndarray) or array.dtype != wanted or array.ndim != 1:
            raise Damaged(f"{name} is {getattr(array, 'dtype', 'no array')} {np.shape(array)}")
    return cls(**arrays)
