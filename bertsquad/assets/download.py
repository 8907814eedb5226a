"""One file over HTTP: resumed where an earlier attempt broke off, verified, then put in place.

What came is kept beside the file, in `part_of(path)`, even if the process is killed; it gets the
file's name only when its checksum is right. Since the checksum decides, any address may continue
the part that another began, and if the whole is wrong it is downloaded again from the start.
"""

import errno
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urljoin, urlsplit

import pooch
import requests

from bertsquad import __version__
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.progress import Show, Step, unseen

#: Seconds to wait for an answer, for all addresses of a file together.
ANSWER_S = 10.0
#: Seconds without a byte after which a download that had begun is given up.
STALL_S = 10.0
#: Seconds to wait if busy servers ask for it (Retry-After), for all addresses of a file together.
RETRY_S = 10.0

_CHUNK = 1 << 16  # bytes; what an interruption may lose
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unwritable(Exception):
    """The file can't be kept on this machine, so no other address would help."""


class _Silent(SuiteError):
    """An address that didn't answer in time."""


def part_of(path: Path) -> Path:
    """Where the part of the file `path` that came is kept until it is whole."""
    return path.with_name(f".{path.name}.part")


def download(
    urls: Sequence[str], path: Path, algorithm: str, digest: str, show: Show = unseen
) -> list[str]:
    """Put the file at `path` from the first of `urls` that has it.

    Returns why each address failed, an empty list if the file is there now. Raises Unwritable where
    no address would help. A part with a wrong checksum, or one that filled the disk, is not kept.
    The caller makes sure that nobody else downloads the same file meanwhile.
    """
    reasons: list[str] = []
    show(Step(f"downloading {path.name}"))
    left_s, patience = ANSWER_S, _Patience(RETRY_S)
    absent = [folder for folder in path.parents if not folder.exists()]
    try:
        for position, url in enumerate(urls):
            answer_s = left_s / (len(urls) - position)  # an equal share for each that is left
            try:
                _download(url, path, (algorithm, digest), answer_s, patience, show)
                return []
            except SuiteError as error:
                reasons.append(f"{url}: {error}")
                if isinstance(error, _Silent):
                    left_s -= answer_s
    finally:
        for folder in absent:  # removed only if it is empty
            with suppress(OSError):
                folder.rmdir()
    return reasons


class _Patience:
    """The seconds that may still be spent on waiting for servers that ask for it."""

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s

    def wait(self, response: requests.Response) -> bool:
        """Wait as long as a busy server asks for; False where it doesn't say, or too long."""
        asked_s = _retry_after(response)
        if asked_s is None:
            return False
        counted_s = max(asked_s, 1)  # a server that asks for 0 s must not be asked for ever
        if counted_s > self.left_s:
            return False
        self.left_s -= counted_s
        time.sleep(asked_s)
        return True


def _download(
    url: str,
    path: Path,
    checksum: tuple[str, str],
    answer_s: float,
    patience: _Patience,
    show: Show,
) -> None:
    """Put the file at `path` from `url`, continuing the part that is there."""
    part = part_of(path)
    offset = part.stat().st_size if part.is_file() else 0
    while True:
        with _answer(url, offset, answer_s) as response:
            if response.status_code in (429, 503) and patience.wait(response):
                continue
            if offset and response.status_code == 206 and not _goes_on(response, offset):
                offset = 0
                continue
            resumed = offset > 0 and response.status_code in (206, 416)
            if response.status_code == 200 or (resumed and response.status_code == 206):
                _receive(response, part, offset if resumed else 0, path.name, show)
            elif not resumed:  # at 416 the part may be whole already: its checksum decides
                raise SuiteError(_status(response))
        found = _digest(part, checksum[0])
        if found != checksum[1]:
            part.unlink()
            if not resumed:
                expected = " ".join(checksum)
                raise SuiteError(
                    f"what came does not match the checksum: expected {expected}, found {found}"
                )
            offset = 0
            continue
        with _writing(part):
            part.replace(path)
        return


def _answer(url: str, offset: int, answer_s: float) -> requests.Response:
    """What `url` answers when asked for the bytes from `offset` on, as soon as its head is there.

    A thread asks, because a time-out of a socket limits neither the look-up of a name with several
    addresses, nor a chain of redirects, nor a head that comes byte by byte.
    """
    headers = {
        "User-Agent": f"bertsquad/{__version__}",  # Zenodo turns generic clients away with 429
        "Accept-Encoding": "identity",  # offsets count the file's own bytes
    }
    if offset:
        headers["Range"] = f"bytes={offset}-"
    hooks = {"response": _check_redirect}
    answers: SimpleQueue[requests.Response | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            _refuse_plain_http(url)
            answers.put(
                requests.get(url, stream=True, timeout=STALL_S, headers=headers, hooks=hooks)
            )
        except Exception as error:  # raised again in the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(answer_s, 0))
    except Empty:
        raise _Silent(f"no answer within {answer_s:.2g} s") from None
    if isinstance(answer, requests.Timeout):
        raise _Silent(f"no answer within {min(answer_s, STALL_S):.2g} s") from answer
    if isinstance(answer, (OSError, ValueError, SuiteError)):
        raise SuiteError(_short(answer)) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _refuse_plain_http(url: str) -> None:
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise SuiteError("refused, since only https is safe (plain http to this machine alone)")


def _check_redirect(response: requests.Response, **_: object) -> None:
    if response.is_redirect:
        _refuse_plain_http(urljoin(response.url, response.headers["location"]))


def _short(error: BaseException) -> str:
    """The innermost cause of a network error, in one line."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (arg for arg in error.args if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\w+\(.*?\): ", "", text)  # urllib3 names the connection object first
    return text[:300] or type(error).__name__


def _status(response: requests.Response) -> str:
    """The status of an answer that isn't the file, in words."""
    asked_s = _retry_after(response) if response.status_code in (429, 503) else None
    later = "" if asked_s is None else f", asks to come back in {_duration(asked_s)}"
    return f"{response.status_code} {response.reason}{later}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _retry_after(response: requests.Response) -> float | None:
    """Seconds until a busy server wants to be asked again; None where it doesn't say."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds(), 0)
    except (TypeError, ValueError):
        return None


def _goes_on(response: requests.Response, offset: int) -> bool:
    """Whether the answer holds the file's own bytes from `offset` on, not compressed ones."""
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    sent = response.headers.get("Content-Range", "")
    return not encoded and sent.startswith(f"bytes {offset}-")


def _receive(response: requests.Response, part: Path, offset: int, name: str, show: Show) -> None:
    """Write the answer into `part` from `offset` on; the file is made when the first byte came."""
    length = response.headers.get("Content-Length", "")
    encoded = "Content-Encoding" in response.headers
    total = offset + int(length) if length.isdecimal() and not encoded else None
    chunks = _chunks(response, offset, total)
    first = next(chunks, b"")
    if not offset and _is_page(response, first):
        raise SuiteError("an HTML page came instead of the file (a login or an error page?)")
    with _writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            show(Step(f"downloading {name}", offset, total, "B"))
            while first:
                file.write(first)
                offset += len(first)
                show(Step(f"downloading {name}", offset, total, "B"))
                first = next(chunks, b"")


def _chunks(response: requests.Response, done: int, total: int | None) -> Iterator[bytes]:
    """The bytes of an answer; SuiteError if they stop before the `total`."""
    stopped = "broke off"
    try:
        for chunk in response.iter_content(_CHUNK):
            if chunk:
                done += len(chunk)
                yield chunk
    except requests.RequestException as error:
        if "timed out" in str(error):
            stopped = f"no byte for {STALL_S:.2g} s"
    else:
        if total is None or done >= total:
            return
    of_all = "" if total is None else f" of {total:,}"
    raise SuiteError(f"{stopped} after {done:,}{of_all} bytes")


def _is_page(response: requests.Response, first: bytes) -> bool:
    """Whether an HTML page came: no file of the suite is one."""
    start = first[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    declared = "html" in response.headers.get("Content-Type", "")
    return start.startswith((b"<!doctype html", b"<html", *((b"<",) if declared else ())))


def _digest(part: Path, algorithm: str) -> str:
    try:
        return str(pooch.file_hash(str(part), alg=algorithm))
    except OSError as error:
        raise Unwritable(str(unreadable(part, error))) from error


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Raise Unwritable if `part` can't be written; a part that filled the disk is removed."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        if error.errno not in _NO_ROOM:
            raise Unwritable(f"{part.parent} can't be written ({reason})") from error
        with suppress(OSError):
            part.unlink()
        raise Unwritable(f"{part.parent} has no room for it ({reason})") from error
