"""One file over HTTP: resumed where an earlier attempt broke off, verified, then put in place.

What came is kept beside the file, in `part_of(path)`, even if the process is killed; it gets the
file's name only when its checksum is right. Since the checksum decides, any address may continue
the part that another began, and if the whole is wrong it is downloaded again from the start.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path

import requests

from bertsquad.assets import answer
from bertsquad.credentials import masked
from bertsquad.errors import SuiteError
from bertsquad.files import NO_ROOM, reason, unreadable
from bertsquad.progress import Show, Step, unseen

#: Seconds to wait for an answer, for all addresses of a file together.
ANSWER_S = 10.0
#: Seconds without a byte after which a download that had begun is given up.
STALL_S = 10.0
#: Seconds to wait if busy servers ask for it (Retry-After), for all addresses of a file together.
RETRY_S = 10.0

#: Of a download that brings fewer bytes within so many seconds, the rest is not waited for. Even
#: GSM's first data service, of 9.6 kbit/s, brings more; a small file must be whole by then.
LEAST_BYTES, LEAST_S = 60_000, 60.0

_TELLING = 256  # bytes, in which a page shows that it is one


class Unwritable(Exception):
    """The file can't be kept on this machine, so no other address would help."""


def part_of(path: Path) -> Path:
    """Where the part of the file `path` that came is kept until it is whole."""
    return path.with_name(f".{path.name}.part")


def download(
    urls: Sequence[str],
    path: Path,
    fault: Callable[[Path], str | None],
    most: int,
    show: Show = unseen,
) -> list[str]:
    """Put the file at `path` from the first of `urls` that has it.

    `fault` says in words why a file isn't it, such as another checksum; None where it is. No more
    than `most` bytes are written. Returns why each address failed, an empty list if the file is
    there now. Raises Unwritable where no address would help. A part with a fault, or one that
    filled the disk, is not kept.
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
                _download(url, path, fault, most, answer_s, patience, show)
                return []
            except SuiteError as error:
                reasons.append(masked(f"{url}: {error}"))
                if isinstance(error, answer.Silent):
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
    fault: Callable[[Path], str | None],
    most: int,
    answer_s: float,
    patience: _Patience,
    show: Show,
) -> None:
    """Put the file at `path` from `url`, continuing the part that is there."""
    part = part_of(path)
    offset = part.stat().st_size if part.is_file() else 0
    if offset > most:
        with _writing(part):
            part.unlink()
        offset = 0
    while True:
        with answer.ask(url, offset, answer_s, STALL_S) as response:
            if response.status_code in (429, 503) and patience.wait(response):
                continue
            if offset and response.status_code == 206 and not _goes_on(response, offset):
                offset = 0
                continue
            resumed = offset > 0 and response.status_code in (206, 416)
            if response.status_code == 200 or (resumed and response.status_code == 206):
                _receive(response, part, offset if resumed else 0, most, path.name, show)
            elif not resumed:  # at 416 the part may be whole already: its checksum decides
                raise SuiteError(_status(response))
        if found := _judged(part, fault):
            part.unlink()
            if not resumed:
                raise SuiteError(f"what came does not match the checksum: {found}")
            offset = 0
            continue
        with _writing(part):
            part.replace(path)
        return


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
    sent = response.headers.get("Content-Range", "")
    return answer.encoding(response) is None and sent.startswith(f"bytes {offset}-")


def _receive(
    response: requests.Response, part: Path, offset: int, most: int, name: str, show: Show
) -> None:
    """Write the answer into `part` from `offset` on; the file is made when the first bytes came."""
    if encoding := answer.encoding(response):
        raise SuiteError(f"it came encoded ({encoding}), and the file's own bytes were asked for")
    length = answer.length(response)
    total = None if length is None else offset + length
    if total is not None and total > most:
        raise SuiteError(f"it announces {total:,} bytes, and the file has {most:,} at most")
    pace = answer.Pace(STALL_S, LEAST_BYTES, LEAST_S)
    with closing(_together(answer.pieces(response, offset, total, most, pace))) as coming:
        beginning = next(coming, b"")
        if not offset and _is_page(response, beginning):
            raise SuiteError("an HTML page came instead of the file (a login or an error page?)")
        try:
            with _writing(part):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("r+b" if offset else "wb") as file:
                    file.seek(offset)
                    done = offset
                    show(Step(f"downloading {name}", done, total, "B"))
                    for piece in chain([beginning], coming):
                        file.write(piece)
                        done += len(piece)
                        show(Step(f"downloading {name}", done, total, "B"))
        except answer.TooMuch:  # what this server sent is worth nothing
            if offset:
                os.truncate(part, offset)
            else:
                part.unlink()
            raise


def _together(coming: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same bytes, with those that tell a page in one piece, however they came."""
    beginning = b""
    try:
        for piece in coming:
            beginning += piece
            if len(beginning) >= _TELLING:
                break
    except SuiteError:
        if beginning:
            yield beginning
        raise
    yield beginning
    yield from coming


def _is_page(response: requests.Response, first: bytes) -> bool:
    """Whether an HTML page came: no file of the suite is one."""
    start = first[:_TELLING].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    declared = "html" in response.headers.get("Content-Type", "")
    return start.startswith((b"<!doctype html", b"<html", *((b"<",) if declared else ())))


def _judged(part: Path, fault: Callable[[Path], str | None]) -> str | None:
    try:
        return fault(part)
    except OSError as error:
        raise Unwritable(str(unreadable(part, error))) from error


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Raise Unwritable if `part` can't be written; a part that filled the disk is removed."""
    try:
        yield
    except OSError as error:
        why = reason(error, part)
        if error.errno not in NO_ROOM:
            raise Unwritable(f"{part.parent} can't be written ({why})") from error
        with suppress(OSError):
            part.unlink()
        raise Unwritable(f"{part.parent} has no room for it ({why})") from error
