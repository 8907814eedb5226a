"""Files: paths that users type, files that can't be read, and files written whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bertsquad.errors import SuiteError


def user_path(text: str) -> Path:
    """The full path of what a user typed; SuiteError if it begins with `~` and no home is known."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SuiteError(
            f"expected a path, got {text!r}, a home folder that isn't known: give a full path"
        ) from error


def unreadable(path: object, error: OSError, cure: str = "") -> SuiteError:
    """The error that says why a file can't be read, and what to do where `cure` says it."""
    reason = f"{path} can't be read: {error.strerror or error}"
    return SuiteError(f"{reason}; {cure}" if cure else reason)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
