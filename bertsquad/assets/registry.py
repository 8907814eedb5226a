"""Files that are bundled or downloaded, each verified against `data_registry.txt`.

Downloads are put into the folder `BERTSQUAD_DATA`, which may be read-only once they are there; what
is made of them goes into `BERTSQUAD_CACHE`. Both are the per-user cache folder if they aren't set.
A file is looked for below the URL `BERTSQUAD_MIRROR` first, then at the registry's addresses.
"""

import hashlib
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pooch

from bertsquad.assets.cache import PACKAGE, data_folder, lock, lock_file
from bertsquad.assets.fingerprint import Fingerprint, Sign, fingerprint, sign_of
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.files import unreadable
from bertsquad.progress import Show, unseen

#: Other addresses of the same bytes, tried in this order after the registry's own.
MIRRORS = {
    "model.onnx": ("https://armi.in/files/model.onnx",),
    "bert_large_v1_1_fake_quant.onnx": (
        "https://mlperf-public.s3.us-west-2.amazonaws.com/bert_large_v1_1_fake_quant.onnx",
        "https://armi.in/files/bert_large_v1_1_fake_quant.onnx",
    ),
    "dev-v1.1.json": (
        "https://raw.githubusercontent.com/rajpurkar/SQuAD-explorer/master/dataset/dev-v1.1.json",
    ),
}

#: No file of the suite has more bytes: the largest are MLPerf's models, of some 1.34 GB.
MOST_BYTES = 1_400_000_000


@dataclass(frozen=True)
class Size:
    """How many bytes a file has; where only about so many are known, it isn't `exact`."""

    bytes: int
    exact: bool = True

    def __str__(self) -> str:
        for unit, factor, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 0)):
            if self.bytes >= factor:
                return f"{self.bytes / factor:.{digits}f} {unit}"
        return f"{self.bytes} bytes"


#: How large the files are. A download never brings more.
SIZES = {
    "model.onnx": Size(1_340_000_000, exact=False),
    "bert_large_v1_1_fake_quant.onnx": Size(1_340_000_000, exact=False),
    "dev-v1.1.json": Size(4_854_279),
    "bert_calibration_features.txt": Size(495),
    "pocket/minilm-squad.onnx": Size(45_246_334),
    "pocket/vocab.txt": Size(231_508),
    "pocket/pocket-v1.1.json": Size(246_537),
    "pocket/calibration-v1.1.json": Size(55_720),
    "pocket/minilm-on-squad.json": Size(45_312),
    "pocket/minilm-on-pocket.json": Size(1_753),
}


@dataclass(frozen=True)
class Entry:
    """A line of the registry: a file's name, its checksum, addresses in order of use.

    The checksum is `algorithm:digest`. It may be several of them with a plus between, of which the
    first names the file's content in results.
    """

    name: str
    checksum: str
    urls: tuple[str, ...]

    @property
    def checksums(self) -> list[tuple[str, str]]:
        """Each checksum's algorithm, as hashlib names it, with its digest."""
        split = [one.rpartition(":") for one in self.checksum.split("+")]
        return [(algorithm or "sha256", digest) for algorithm, _, digest in split]

    @property
    def digest(self) -> str:
        """The checksum without its algorithm, the first where there are several."""
        return self.checksums[0][1]

    @property
    def size(self) -> Size | None:
        """The file's size, where it is known."""
        return SIZES.get(self.name)

    @property
    def most_bytes(self) -> int:
        """How many bytes the file has at most."""
        return self.size.bytes if self.size and self.size.exact else MOST_BYTES

    def look_at(self, path: Path) -> tuple[Fingerprint, str | None]:
        """The file at `path`, and in words how it differs from this one; None where it doesn't."""
        first: Fingerprint | None = None
        for algorithm, digest in self.checksums:
            found = fingerprint(path, algorithm)
            first = first or found
            if found.digest != digest:
                return first, f"expected {algorithm} {digest}, found {found.digest}"
        assert first is not None  # a line of the registry has a checksum
        return first, None

    @property
    def bundled(self) -> bool:
        """Whether the file comes with the package instead of being downloaded."""
        return self.name.startswith("pocket/")


def registry_file() -> Path:
    """`data_registry.txt`: beside the package in a checkout, inside it where it was installed."""
    beside = PACKAGE.parent / "data_registry.txt"
    return beside if beside.is_file() else PACKAGE / "data_registry.txt"


@cache
def entries() -> dict[str, Entry]:
    """Every file that the suite knows, by name; SuiteError where the registry can't be read."""
    catalogue = pooch.create(path=PACKAGE, base_url="", registry=None)
    file = registry_file()
    try:
        catalogue.load_registry(file)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(file, error, "reinstall the suite") from error
        raise SuiteError(f"{file} is no registry of files: {error}") from error
    found = {}
    for name, checksum in catalogue.registry.items():
        own = (catalogue.urls[name],) if name in catalogue.urls else ()
        entry = Entry(name, checksum, own + MIRRORS.get(name, ()))
        if not all(a in hashlib.algorithms_available and _is_hex(d) for a, d in entry.checksums):
            raise SuiteError(f"{file}: the checksum of {name} is {checksum!r:.80}, which is none")
        found[name] = entry
    return found


def _is_hex(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdef")


def path_of(name: str) -> Path:
    """Where the file is, or would be."""
    return (PACKAGE if entries()[name].bundled else data_folder()) / name


def is_here(path: Path) -> bool:
    """Whether there is such a file; SuiteError if something else is there or it can't be seen."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise SuiteError(
                f"{path} is a link to a file that isn't there: mend the link or remove it"
            ) from None
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise SuiteError(f"{path} is not a file: move it away to have the file fetched")
    return True


_failed: dict[tuple[Path, str], str] = {}


def _checked(entry: Entry, path: Path) -> Fingerprint:
    """The file at `path`, whose checksum is the entry's; SuiteError if it isn't."""
    try:
        sign = sign_of(path.stat())
    except OSError as error:
        raise unreadable(path, error) from error
    return _verified(entry, path, sign)


@cache
def _verified(entry: Entry, path: Path, sign: Sign) -> Fingerprint:
    """The same for a file of this `sign`; one of another is another file."""
    try:
        found, fault = entry.look_at(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if fault is not None:
        cure = "reinstall the package" if entry.bundled else "move it away to have it fetched again"
        raise SuiteError(f"{path} is not the file it should be: {fault}; {cure}")
    return found


def fetch(name: str, subject: str = "model", show: Show = unseen) -> Path:
    """Where the verified file `name` is; see `verified`."""
    return Path(verified(name, subject, show).path)


def verified(name: str, subject: str = "model", show: Show = unseen) -> Fingerprint:
    """The verified file `name`, downloaded if need be, by one process at a time.

    Raises Unavailable (of `subject`) if it isn't here and can't be downloaded, SuiteError if the
    file that is here has another checksum: such a file is left as it is. After a failure this
    process, and the pytest session that it belongs to, doesn't try again. The part of the file
    that came is kept beside its place, and the next pytest session continues with it.
    """
    entry, path = entries()[name], path_of(name)
    if is_here(path):
        return _checked(entry, path)
    if entry.bundled:
        raise SuiteError(f"{path} is missing: reinstall the package")
    if (path, name) in _failed:
        raise Unavailable(_failed[path, name], subject)
    with lock(name):
        if not is_here(path):
            reason = _recall_failure(name) or _download(entry, path, show)
            if reason is not None:
                _failed[path, name] = reason
                _remember_failure(name, reason)
                raise Unavailable(reason, subject)
    return _checked(entry, path)


def _download(entry: Entry, path: Path, show: Show) -> str | None:
    """Fetch `entry` from the first address that has it; if none has, the sentence why."""
    # It imports an HTTP library, which most runs don't need.
    from bertsquad.assets.download import Unwritable, download, part_of

    urls = list(entry.urls)
    if mirror := os.environ.get("BERTSQUAD_MIRROR"):
        urls.insert(0, f"{mirror.rstrip('/')}/{entry.name}")
    size = f" ({entry.size})" if entry.size else ""
    missing = f"{entry.name}{size} is not in {path.parent}"
    try:
        if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            raise Unwritable(f"{path.parent} can't be written")
        reasons = download(urls, path, lambda part: entry.look_at(part)[1], entry.most_bytes, show)
    except Unwritable as error:
        return (
            f"{missing} and can't be put there, since {error}: put the file there yourself, or "
            "point BERTSQUAD_DATA at a folder that can hold it"
        )
    if not reasons:
        return None
    kept = "; the part that came is kept for the next attempt" if part_of(path).is_file() else ""
    return (
        f"{missing} and could not be downloaded ({'; '.join(reasons)}{kept}): on a machine with "
        f"a network run `python -m bertsquad fetch {entry.name}`, or put the file there yourself, "
        "then point BERTSQUAD_DATA at its folder"
    )


def _failure_note(name: str) -> Path | None:
    """The note by which the xdist workers of one pytest session share that a file can't be had."""
    test_run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if not test_run:
        return None
    return lock_file(name).with_suffix(f".failed-{test_run}")


def _recall_failure(name: str) -> str | None:
    note = _failure_note(name)
    if note is not None:
        with suppress(OSError):
            return note.read_text(encoding="utf-8", errors="replace")
    return None


def _remember_failure(name: str, reason: str) -> None:
    note = _failure_note(name)
    if note is not None:
        for other in note.parent.glob(f"{note.stem}.failed-*"):
            with suppress(OSError):
                # A day old, it belongs to a pytest session that is over.
                if time.time() - other.stat().st_mtime > 86_400:
                    other.unlink()
        with suppress(OSError):  # a full disk: the other xdist workers try for themselves
            note.write_text(reason, encoding="utf-8")
