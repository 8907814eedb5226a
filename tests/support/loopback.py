"""An HTTP server on the loopback interface that can be told to misbehave.

`with LoopbackServer() as server` starts it; `serve`, `fail`, `redirect`, `truncate`, `stall` and
`drip` say what it answers under a path and return the URL, `answer` anything else. It counts every
request. Made the proxy for everything that isn't loopback (see `isolate`), it also shows, without a
network, what would have left this machine: such requests carry a whole URL, or host and port, as
their path.
"""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from bertsquad.assets import registry
from bertsquad.assets.registry import Entry


@dataclass(frozen=True)
class Reply:
    """What a path answers, and what it answers from then on.

    `body` is announced and only its first `sent` bytes come; then the server hangs up or `stalls`.
    A `ranged` one is sent from where it is asked for. One that `drips` never ends its head. An
    `unannounced` one ends where the server hangs up, a `chunked` one with its last chunk; an
    `endless` one is sent again and again. A `slow` one comes with so many seconds between bytes.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    sent: int | None = None
    stalls: bool = False
    ranged: bool = False
    drips: bool = False
    unannounced: bool = False
    chunked: bool = False
    endless: bool = False
    slow: float | None = None
    then: "Reply | None" = None

    def asked_from(self, asked: str | None) -> "Reply":
        """The answer to a request with this Range header."""
        if not self.ranged or asked is None:
            return self
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.body):
            return Reply(416)
        span = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        sent = None if self.sent is None else max(self.sent - start, 0)
        return replace(
            self, status=206, body=self.body[start:], sent=sent, headers=(("Content-Range", span),)
        )


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    path: str
    user_agent: str
    range: str | None = None
    authorization: str | None = None


class LoopbackServer:
    """Answers what it was told to, 404 otherwise."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self._replies: dict[str, Reply] = {}
        self._arrived = threading.Condition()
        self._open = threading.Event()
        self._open.set()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """The address of `path`, which starts with a slash."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def serve(self, path: str, body: bytes, ranged: bool = True, content_type: str = "") -> str:
        """Answer `body`, from where it is asked for if `ranged`."""
        headers = (("Content-Type", content_type),) if content_type else ()
        return self.answer(path, Reply(200, body, headers, ranged=ranged))

    def fail(self, path: str, status: int) -> str:
        """Answer the error `status`."""
        return self.answer(path, Reply(status, b"an error page"))

    def busy(self, path: str, status: int, retry_after: str, body: bytes) -> str:
        """Answer the error `status` with a Retry-After once, `body` from then on."""
        reply = Reply(status, b"busy", (("Retry-After", retry_after),), then=Reply(200, body))
        return self.answer(path, reply)

    def redirect(self, path: str, location: str, status: int = 302) -> str:
        """Send whoever asks to `location`."""
        return self.answer(path, Reply(status, headers=(("Location", location),)))

    def truncate(self, path: str, body: bytes, share: float = 0.5) -> str:
        """Announce `body`, send this share of it and hang up."""
        return self.answer(path, Reply(200, body, sent=int(len(body) * share), ranged=True))

    def stall(self, path: str, body: bytes, share: float = 0.5) -> str:
        """Announce `body`, send this share of it and then nothing more."""
        sent = int(len(body) * share)
        return self.answer(path, Reply(200, body, sent=sent, ranged=True, stalls=True))

    def drip(self, path: str) -> str:
        """Send a head that never ends, line by line."""
        return self.answer(path, Reply(200, drips=True))

    def serve_elsewhere(self, url: str, body: bytes) -> str:
        """Answer `body` to those who ask this server, as their proxy, for a plain-http `url`."""
        self._replies[url] = Reply(200, body)
        return url

    def hold(self) -> None:
        """Answer nobody until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer again, those who wait first."""
        self._open.set()

    def __repr__(self) -> str:
        return f"LoopbackServer({self.requests})"

    def count(self, path: str | None = None) -> int:
        """How many requests came, all or those for `path`."""
        with self._arrived:
            return sum(path in (None, request.path) for request in self.requests)

    def wait_for(self, count: int, timeout: float = 20.0) -> bool:
        """Wait until `count` requests have come; whether they have."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.requests) >= count, timeout)

    def answer(self, path: str, reply: Reply) -> str:
        """Answer `reply`."""
        self._replies[path] = reply
        return self.url(path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                request = Request(
                    self.path,
                    self.headers.get("User-Agent", ""),
                    asked,
                    self.headers.get("Authorization"),
                )
                with server._arrived:
                    server.requests.append(request)
                    server._arrived.notify_all()
                server._open.wait()
                reply = server._replies.get(self.path, Reply(404, b"no such file"))
                if reply.then is not None:
                    server._replies[self.path] = reply.then
                reply = reply.asked_from(asked)
                with contextlib.suppress(ConnectionError):  # whoever asked may have gone
                    self.send_response(reply.status)
                    for name, value in reply.headers:
                        self.send_header(name, value)
                    if reply.drips:
                        self.flush_headers()
                    while reply.drips and not server._closing.wait(0.05):
                        self.wfile.write(b"X-Drop: 1\r\n")
                    if reply.chunked:
                        self.send_header("Transfer-Encoding", "chunked")
                    elif not reply.unannounced:
                        self.send_header("Content-Length", str(len(reply.body)))
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.send_body(reply)
                    if reply.stalls:
                        server._closing.wait()
                self.close_connection = True

            def send_body(self, reply: Reply) -> None:
                body = reply.body[: reply.sent]
                step = len(body) if reply.slow is None else 1
                while True:
                    for start in range(0, len(body), step or 1):
                        piece = body[start : start + step]
                        if reply.chunked:
                            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                        self.wfile.write(piece)
                        server.sent_bytes += len(piece)
                        if server._closing.wait(reply.slow or 0):
                            return
                    if not reply.endless:
                        break
                if reply.chunked and reply.sent is None:
                    self.wfile.write(b"0\r\n\r\n")

            do_CONNECT = do_GET  # noqa: N815 (what a client asks its proxy before it speaks TLS)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def refusing_address() -> Iterator[str]:
    """A base URL whose port is taken and listens to nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def entry(name: str, body: bytes, *urls: str) -> Entry:
    """A registry entry for a file with the content `body`."""
    return Entry(name, f"sha256:{hashlib.sha256(body).hexdigest()}", urls)


def register(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    """Let `entries` be all that the registry holds."""
    known = {entry.name: entry for entry in entries}
    monkeypatch.setattr(registry, "entries", lambda: known)


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path, server: LoopbackServer) -> None:
    """Keep the suite's files in `folder` and what it asks of other machines at `server`."""
    monkeypatch.setenv("BERTSQUAD_DATA", str(folder / "data"))
    monkeypatch.setenv("BERTSQUAD_CACHE", str(folder / "cache"))
    for name in ("BERTSQUAD_MIRROR", "PYTEST_XDIST_TESTRUNUID", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, server.url(""))
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(registry, "_failed", {})
    registry._verified.cache_clear()


#: A program that runs Python with permissions binding it, root included: two capabilities are
#: gone from what it may regain.
UNPRIVILEGED = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def forbid(path: Path, mode: int) -> None:
    """Give `path` the permissions `mode`; skip the test where they don't bind this user."""
    path.chmod(mode)
    if os.access(path, os.W_OK):
        pytest.skip("permissions don't bind this user (root?)")
