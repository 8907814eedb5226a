"""What one address answers over HTTP: asked safely, its head in time, its body bounded and fast.

A server is believed in nothing but the bytes of the file, and in those only as the checksum says.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from bertsquad import __version__
from bertsquad.errors import SuiteError

_PIECE = 1 << 16  # bytes, at most
_REDIRECTS = 30  # as browsers and requests allow
_TICKS = 60  # a time is counted in so many parts, so that it stands still while the process does


class Silent(SuiteError):
    """An address that didn't answer in time."""


class TooMuch(SuiteError):
    """A server that sends more than the file can have."""


@dataclass(frozen=True)
class Pace:
    """What a body's speed must reach: a byte within `stall_s`, `least` bytes within `period_s`."""

    stall_s: float
    least: int
    period_s: float


def ask(url: str, offset: int, answer_s: float, stall_s: float) -> requests.Response:
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
    answer: Future[requests.Response] = Future()

    def look() -> None:
        try:
            answer.set_result(_follow(url, headers, stall_s))
        except Exception as error:  # raised again in the thread that waits
            answer.set_exception(error)

    threading.Thread(target=look, daemon=True).start()
    try:
        try:
            return answer.result(max(answer_s, 0))
        except BaseException:
            answer.add_done_callback(_hang_up)
            raise
    except TimeoutError:
        raise Silent(f"no answer within {answer_s:.2g} s") from None
    except requests.Timeout as error:
        raise Silent(f"no answer within {min(answer_s, stall_s):.2g} s") from error
    except (OSError, ValueError) as error:
        raise SuiteError(_why(error)) from error


def _hang_up(answer: "Future[requests.Response]") -> None:
    """Close what was answered too late."""
    if answer.exception() is None:
        answer.result().close()


class _Moved(Exception):
    """The file is said to be at another address."""


def _follow(url: str, headers: dict[str, str], stall_s: float) -> requests.Response:
    """The answer of `url`, or of where it leads to.

    By itself requests would read whatever a redirect sends, however much.
    """

    def leave(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            response.close()
            raise _Moved(session.get_redirect_target(response))

    with requests.Session() as session:
        for _ in range(_REDIRECTS + 1):
            _refuse_plain_http(url)
            try:
                return session.get(
                    url, stream=True, timeout=stall_s, headers=headers, hooks={"response": leave}
                )
            except _Moved as moved:
                target = urljoin(url, str(moved))
                if not session.should_strip_auth(url, target):
                    target = _with_credentials_of(url, target)
                url = target
    raise SuiteError(f"more than {_REDIRECTS} redirects")


def _with_credentials_of(url: str, target: str) -> str:
    """An address on the same server as `url`, with the user and password that `url` has."""
    given, _, _ = urlsplit(url).netloc.rpartition("@")
    parts = urlsplit(target)
    if not given or "@" in parts.netloc:
        return target
    return parts._replace(netloc=f"{given}@{parts.netloc}").geturl()


def _refuse_plain_http(url: str) -> None:
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise SuiteError("refused, since only https is safe (plain http to this machine alone)")


def _why(error: BaseException) -> str:
    """The innermost cause of a network error, in one line."""
    if isinstance(error, ValueError) and not isinstance(error, requests.exceptions.InvalidSchema):
        return "the address, or that of a proxy, is malformed"  # the text may hold half a password
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


def length(response: requests.Response) -> int | None:
    """How many bytes an answer announces; None where it doesn't say."""
    said = response.headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in response.headers  # the length means nothing then
    return int(said) if re.fullmatch(r"[0-9]{1,18}", said) and not chunked else None


def encoding(response: requests.Response) -> str | None:
    """How an answer's body is encoded, such as `gzip`; None if it is the file's own bytes."""
    said = response.headers.get("Content-Encoding", "").strip().lower()
    return None if said in ("", "identity") else said[:40]


def pieces(
    response: requests.Response, done: int, total: int | None, most: int, pace: Pace
) -> Iterator[bytes]:
    """The bytes of an answer, which go on where a part of `done` bytes ends.

    TooMuch where they would be more than `most` together with that part, SuiteError where they stop
    before the `total`, or come too slowly. Nothing of what is too much is yielded.
    """
    begun, stopped = done, "broke off"
    with _watched(response, pace, lambda: done - begun) as too_slow:
        try:
            while not too_slow.is_set() and (total is None or done < total):
                piece = response.raw.read1(_PIECE, decode_content=False)
                if not piece:
                    break
                if done + len(piece) > most:
                    raise TooMuch(f"it sends more than the {most:,} bytes that the file may have")
                done += len(piece)
                yield piece
            if done == total or (total is None and not too_slow.is_set()):
                return
        except urllib3.exceptions.ReadTimeoutError:
            stopped = f"no byte for {pace.stall_s:.2g} s"
        except urllib3.exceptions.HTTPError:
            pass
        if too_slow.is_set():
            stopped = f"given up for fewer than {pace.least:,} bytes within {pace.period_s:.2g} s,"
    of_all = "" if total is None else f" of {total:,}"
    raise SuiteError(f"{stopped} after {done:,}{of_all} bytes")


@contextlib.contextmanager
def _watched(
    response: requests.Response, pace: Pace, came: Callable[[], int]
) -> Iterator[threading.Event]:
    """End the answer once it is too slow, and set the event that is yielded.

    A thread watches, because reading returns only with a byte of the body: the lines between the
    chunks of one may come byte by byte, too.
    """
    over, too_slow = threading.Event(), threading.Event()

    def watch() -> None:
        before = 0
        while True:
            for _ in range(_TICKS):
                if over.wait(pace.period_s / _TICKS):
                    return
            if came() - before < pace.least:
                break
            before = came()
        too_slow.set()
        # It may just have ended by itself.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            response.raw.shutdown()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield too_slow
    finally:
        over.set()
        watcher.join()
