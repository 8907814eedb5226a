"""Files: paths that users type, why a file can't be used, and files written whole or not at all."""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bertsquad.errors import SuiteError

#: What an error of the system asks for, where that is more than the choice of another folder.
_CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, since a quota limits yours",
    errno.EFBIG: "free some space",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), or use fewer --instances",
    errno.ENFILE: "end other programs, since all of this system's files together are too many",
    errno.ENOMEM: "end other programs, since this system has no memory left",
    errno.EAGAIN: "end other programs, or raise the limit of processes (`ulimit -u`)",
    errno.EIO: "look at that disk, which fails (the system's log says more)",
    errno.ENAMETOOLONG: "choose a shorter name",
}
#: The errors for which another folder is no way out.
_EVERYWHERE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EPIPE)
#: The errors of a file that can't grow: a full disk, a used-up quota, a limit of the process.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def user_path(text: str) -> Path:
    """The full path of what a user typed.

    SuiteError if it is an address, begins with `~` and no home is known, or is no text.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise SuiteError(f"expected a path, got an address, {text}: give a path on this machine")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SuiteError(
            f"expected a path, got {text!r}, a home folder that isn't known: give a full path"
        ) from error
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        # LoadGen and ONNX Runtime take no other names.
        raise SuiteError(
            f"expected a path that is text, got {str(path)!r}: rename it, or choose a locale that "
            f"has its characters (that of now is {sys.getfilesystemencoding()})"
        ) from error
    return path


def reason(error: OSError, path: object = None) -> str:
    """Why the system refuses a file, in words: as it says it, and whose the file is."""
    said = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        place, owner = _stranger(Path(str(path or error.filename or "")))
        return f"{said}, since {place} belongs to {owner}" if owner else said
    return said


def cure(error: OSError, elsewhere: str = "") -> str:
    """What to do about an error of the system: what cures it, or `elsewhere` where that helps."""
    own = _CURES.get(error.errno or 0, "")
    if error.errno in _EVERYWHERE:
        return own
    if error.errno == errno.EFBIG and elsewhere:
        elsewhere += ", or raise the limit of a file's size (`ulimit -f`)"
    return f"{own}, or {elsewhere}" if own and elsewhere else own or elsewhere


def unreadable(path: object, error: OSError, way: str = "") -> SuiteError:
    """The error that says why a file can't be read, and what to do where that or `way` says it."""
    said = f"{path} can't be read: {reason(error, path)}"
    todo = cure(error, way)
    return SuiteError(f"{said}; {todo}" if todo else said)


def unwritable(path: object, error: OSError, elsewhere: str) -> SuiteError:
    """The error that says why a file can't be written, and what to do; maybe `elsewhere`."""
    todo = cure(error, elsewhere)
    said = f"{path} can't be written ({reason(error, path)})"
    return SuiteError(f"{said}: {todo}" if todo else said)


def failure(error: OSError, elsewhere: str = "") -> SuiteError:
    """The error for one of the system of which nothing else is known, and what to do about it."""
    said = reason(error)
    if error.errno not in _EVERYWHERE:  # of which no file is the cause
        said = f"{error.filename or 'a file'}: {said}"
    if error.filename is None and error.errno not in _EVERYWHERE and not elsewhere:
        return SuiteError(said)  # maybe it was no file, as where standard output is full
    todo = cure(error, elsewhere)
    return SuiteError(f"{said}; {todo}" if todo else said)


def why_no_room(path: Path) -> OSError | None:
    """Why a file can't grow, by writing beside it at its own length; None if that works."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.seek(size)
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error
    return None


#: More than a file system rounds up by.
_PROBE_BYTES = 1 << 16


def _stranger(path: Path) -> tuple[Path, str | None]:
    """What of a path keeps this process out because it is another user's, and the user's name.

    The name is None where that isn't the cause, or can't be found out.
    """
    if not hasattr(os, "geteuid"):
        return path, None
    for place in (path, *path.parents):
        with suppress(OSError):
            owner = place.stat().st_uid
            return place, None if owner == os.geteuid() else _user(owner)
    return path, None


def _user(number: int) -> str:
    import pwd  # which isn't everywhere

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


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
