"""Files that are bundled or downloaded, each verified against `data_registry.txt`.

Two folders, both the per-user cache folder unless said otherwise: `BERTSQUAD_DATA` holds what was
downloaded and may be read-only, `BERTSQUAD_CACHE` holds what was derived from it.
`BERTSQUAD_MIRROR`, a base URL, is asked for a file before its own addresses are.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch
from filelock import FileLock

from bertsquad import __version__
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.files import write_whole

PACKAGE = Path(__file__).resolve().parent

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

#: Sizes, for messages; the checksum is what counts.
SIZES = {
    "model.onnx": "1.34 GB",
    "bert_large_v1_1_fake_quant.onnx": "1.34 GB",
    "dev-v1.1.json": "4.9 MB",
    "bert_calibration_features.txt": "495 bytes",
}

#: Seconds that a file's addresses, taken together, may take to accept a connection.
CONNECT_S = 10.0
#: Seconds without a byte after which a download counts as dead.
STALL_S = 30.0


@dataclass(frozen=True)
class Entry:
    """A line of the registry: a file's name, `algorithm:checksum` and addresses, best first."""

    name: str
    checksum: str
    urls: tuple[str, ...]

    @property
    def algorithm(self) -> str:
        """The checksum's algorithm, as pooch and hashlib name it."""
        return self.checksum.rpartition(":")[0] or "sha256"

    @property
    def digest(self) -> str:
        """The checksum without its algorithm."""
        return self.checksum.rpartition(":")[2]

    @property
    def bundled(self) -> bool:
        """Whether the file comes with the package instead of being downloaded."""
        return self.name.startswith("pocket/")


def registry_file() -> Path:
    """`data_registry.txt`: beside the package in a checkout, inside it where it was installed."""
    beside = PACKAGE.parent / "data_registry.txt"
    return beside if beside.is_file() else PACKAGE / "data_registry.txt"


@cache
def registry() -> dict[str, Entry]:
    """Every file that the suite knows, by name."""
    catalogue = pooch.create(path=PACKAGE, base_url="", registry=None)
    catalogue.load_registry(registry_file())
    return {
        name: Entry(
            name,
            checksum,
            tuple(filter(None, (catalogue.urls.get(name),))) + MIRRORS.get(name, ()),
        )
        for name, checksum in catalogue.registry.items()
    }


def data_folder() -> Path:
    """Where downloaded files are looked for and put."""
    return _folder("BERTSQUAD_DATA")


def cache_folder() -> Path:
    """Where derived files (features, prepared models) and locks are put."""
    return _folder("BERTSQUAD_CACHE") / "derived"


def _folder(variable: str) -> Path:
    chosen = os.environ.get(variable) or pooch.os_cache("bertsquad")
    return Path(chosen).expanduser().absolute()


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


def path_of(name: str) -> Path:
    """Where the file is, or would be."""
    return (PACKAGE if registry()[name].bundled else data_folder()) / name


def _verify(entry: Entry, path: Path) -> None:
    try:
        found = pooch.file_hash(str(path), alg=entry.algorithm)
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror}") from error
    if found != entry.digest:
        cure = "reinstall the package" if entry.bundled else "move it away to have it fetched again"
        raise SuiteError(
            f"{path} is not the file it should be: expected {entry.algorithm} {entry.digest}, "
            f"found {found}; {cure}"
        )


_failed: dict[tuple[Path, str], str] = {}


@cache
def _verified(entry: Entry, path: Path) -> Path:
    _verify(entry, path)
    return path


def fetch(name: str, subject: str = "model", progressbar: bool = False) -> Path:
    """The verified file `name`, downloaded if need be, by one process at a time.

    Raises Unavailable (of `subject`) if it is neither here nor to be had, SuiteError if the file
    that is here has another checksum: such a file is left as it is. A failure is remembered for
    the rest of the session.
    """
    entry, path = registry()[name], path_of(name)
    if path.is_file():
        return _verified(entry, path)
    if entry.bundled:
        raise SuiteError(f"{path} is missing: reinstall the package")
    if (path, name) in _failed:
        raise Unavailable(_failed[path, name], subject)
    with lock(name):
        if not path.is_file():
            reason = _recall_failure(name) or _download(entry, path, progressbar)
            if reason is not None:
                _failed[path, name] = reason
                _remember_failure(name, reason)
                raise Unavailable(reason, subject)
    return _verified(entry, path)


def _download(entry: Entry, path: Path, progressbar: bool) -> str | None:
    """Fetch `entry` from the first address that has it; else the sentence that says why not."""
    pooch.get_logger().setLevel("WARNING")
    mirror = os.environ.get("BERTSQUAD_MIRROR")
    urls = (*((f"{mirror.rstrip('/')}/{entry.name}",) if mirror else ()), *entry.urls)
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        return (
            f"{entry.name} is not in {path.parent}, which can't be written: put the file there, or "
            "point BERTSQUAD_DATA at another folder"
        )
    reasons = []
    for url in urls:
        try:
            _refuse_plain_http(url)
            write_whole(path, partial(_retrieve, entry, url, progressbar, CONNECT_S / len(urls)))
            return None
        except (OSError, ValueError, SuiteError) as error:  # ValueError: the wrong checksum
            reasons.append(f"{url}: {_short(error)}")
    size = SIZES.get(entry.name)
    return (
        f"{entry.name}{f' ({size})' if size else ''} is not in {path.parent} and could not be "
        f"downloaded ({'; '.join(reasons)}): on a machine with a network run `python -m bertsquad "
        f"fetch {entry.name}`, or put the file there yourself, then point BERTSQUAD_DATA at its "
        "folder"
    )


def _retrieve(entry: Entry, url: str, progressbar: bool, connect_s: float, to: Path) -> None:
    """Let pooch download `url` to the file `to` and check it."""
    downloader = _downloader(progressbar, connect_s)
    pooch.retrieve(url, entry.checksum, fname=to.name, path=to.parent, downloader=downloader)


def _short(error: BaseException) -> str:
    """The innermost cause of a network error, in few words."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (arg for arg in error.args if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\w+\(.*?\): ", "", text)  # urllib3 names the connection object first
    text = text.partition(" for url: ")[0]
    return text[:300] or type(error).__name__


def _refuse_plain_http(url: str) -> None:
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise SuiteError("refused, since only https is safe (plain http to this machine alone)")


def _downloader(progressbar: bool, connect_s: float) -> Callable[..., Any]:
    def check_redirect(response: Any, **_: object) -> None:
        if response.is_redirect:
            _refuse_plain_http(urljoin(response.url, response.headers["location"]))

    downloader: Callable[..., Any] = pooch.HTTPDownloader(
        progressbar=progressbar,
        chunk_size=1 << 20,
        timeout=(connect_s, STALL_S),
        # Zenodo turns generic clients away with 429.
        headers={"User-Agent": f"bertsquad/{__version__}"},
        hooks={"response": check_redirect},
    )
    return downloader


#: Seconds after which the note of a failure belongs to a session that is over.
_STALE_S = 86_400


def _failure_note(name: str) -> Path | None:
    """Where parallel workers of one session tell each other that a file can't be had."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = cache_folder() / "locks"
    return folder / f"{name.replace('/', '_')}.failed-{session}" if session else None


def _recall_failure(name: str) -> str | None:
    note = _failure_note(name)
    return note.read_text(encoding="utf-8") if note is not None and note.is_file() else None


def _remember_failure(name: str, reason: str) -> None:
    note = _failure_note(name)
    if note is not None:
        for other in note.parent.glob(f"{name.replace('/', '_')}.failed-*"):
            with suppress(FileNotFoundError):
                if time.time() - other.stat().st_mtime > _STALE_S:
                    other.unlink()
        note.write_text(reason, encoding="utf-8")
