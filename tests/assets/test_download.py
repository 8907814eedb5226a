"""Downloads that go wrong, against a real server: what is said, what is kept, what comes next."""

import gzip
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from loopback import (
    UNPRIVILEGED,
    LoopbackServer,
    Reply,
    entry,
    isolate,
    refusing_address,
    register,
)

from bertsquad.assets import cache, download, registry
from bertsquad.errors import SuiteError, Unavailable

BODY = random.Random(0).randbytes(1 << 20)
NAME = "thing.bin"
PART = ".thing.bin.part"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        yield started


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer) -> Path:
    """The data folder, not made yet."""
    isolate(monkeypatch, tmp_path, server)
    return tmp_path / "data"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, data: Path) -> "Given":
    return Given(monkeypatch)


class Given:
    """The file under test, at the addresses that a test gives it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def fetch(self, *urls: str) -> Path:
        """Fetch it as a new pytest session would."""
        register(self.monkeypatch, entry(NAME, BODY, *urls))
        self.monkeypatch.setattr(registry, "_failed", {})
        return registry.fetch(NAME)

    def reason(self, *urls: str) -> str:
        """Why it can't be had, in one line."""
        with pytest.raises(Unavailable) as caught:
            self.fetch(*urls)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def size(self, size: int) -> None:
        """Let its size be known."""
        self.monkeypatch.setitem(registry.SIZES, NAME, registry.Size(size))

    def patience(self, **limits: float) -> None:
        for name, value in limits.items():
            self.monkeypatch.setattr(download, name, value)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def place_part(data: Path, body: bytes) -> Path:
    data.mkdir()
    part = data / PART
    part.write_bytes(body)
    return part


def ranges(server: LoopbackServer) -> list[str | None]:
    return [request.range for request in server.requests]


# Broken off and gone on with.


def test_what_came_before_a_break_is_kept_and_the_next_pytest_session_goes_on_from_there(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    reason = given.reason(server.truncate("/thing.bin", BODY, 0.6))
    assert f"of {len(BODY):,} bytes" in reason
    assert "broke off after" in reason
    assert "kept for the next attempt" in reason
    assert left_in(data) == [PART]
    kept = (data / PART).read_bytes()
    assert len(kept) > len(BODY) // 2
    assert BODY.startswith(kept)

    path = given.fetch(server.serve("/thing.bin", BODY))
    assert path.read_bytes() == BODY
    assert left_in(data) == [NAME]
    assert ranges(server) == [None, f"bytes={len(kept)}-"]


def test_the_next_address_goes_on_where_the_one_before_stopped(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    given.patience(STALL_S=0.2)
    first, second = server.truncate("/first", BODY, 0.3), server.stall("/second", BODY, 0.6)
    path = given.fetch(first, second, server.serve("/third", BODY))
    assert path.read_bytes() == BODY
    starts = [int(asked[6:-1]) for asked in ranges(server) if asked]
    assert 0 < starts[0] < starts[1]


def test_a_server_that_falls_silent_half_way_is_given_up(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    given.patience(STALL_S=0.2)
    assert "no byte for 0.2 s after" in given.reason(server.stall("/thing.bin", BODY))
    assert left_in(data) == [PART]


def test_a_server_that_sends_the_whole_all_the_same_is_taken_at_its_word(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    place_part(data, BODY[:1000])
    assert given.fetch(server.serve("/thing.bin", BODY, ranged=False)).read_bytes() == BODY
    assert ranges(server) == ["bytes=1000-"]
    assert left_in(data) == [NAME]


@pytest.mark.parametrize(
    "headers",
    [
        (("Content-Range", f"bytes 0-{len(BODY) - 1}/{len(BODY)}"),),
        (),
        (("Content-Range", f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"), ("Content-Encoding", "br")),
    ],
    ids=["another range", "no range said", "encoded"],
)
def test_a_range_other_than_the_one_asked_for_is_not_appended(
    given: Given, data: Path, server: LoopbackServer, headers: tuple[tuple[str, str], ...]
) -> None:
    place_part(data, BODY[:1000])
    odd = Reply(206, BODY[1000:], headers, then=Reply(200, BODY))
    assert given.fetch(server.answer("/thing.bin", odd)).read_bytes() == BODY
    assert ranges(server) == ["bytes=1000-", None]


def test_a_part_of_something_else_is_found_out_and_begun_anew(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    place_part(data, b"not the start of it" * 1000)
    assert given.fetch(server.serve("/thing.bin", BODY)).read_bytes() == BODY
    assert ranges(server) == ["bytes=19000-", None]
    assert left_in(data) == [NAME]


@pytest.mark.parametrize(("extra", "requests"), [(b"", 1), (b"more", 2)], ids=["whole", "longer"])
def test_a_part_with_nothing_left_to_fetch_is_taken_if_it_is_right_and_begun_anew_if_not(
    given: Given, data: Path, server: LoopbackServer, extra: bytes, requests: int
) -> None:
    place_part(data, BODY + extra)
    assert given.fetch(server.serve("/thing.bin", BODY)).read_bytes() == BODY
    assert server.count() == requests
    assert left_in(data) == [NAME]


def test_a_wrong_file_is_refused_at_every_address_and_leaves_no_part(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    place_part(data, BODY[:1000])
    reason = given.reason(server.serve("/one", BODY[::-1]), server.serve("/two", BODY[1:]))
    assert reason.count("does not match the checksum: expected sha256") == 2
    assert left_in(data) == []


# Answers that are not the file.


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", ""])
def test_an_html_page_is_called_one_and_costs_nothing_of_what_is_there(
    given: Given, data: Path, server: LoopbackServer, content_type: str
) -> None:
    part = place_part(data, BODY[:1000])
    page = b"\n<!DOCTYPE html><html>Please log in</html>"
    url = server.serve("/thing.bin", page, ranged=False, content_type=content_type)
    assert f"{url}: an HTML page came instead of the file" in given.reason(url)
    assert part.read_bytes() == BODY[:1000]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_an_error_is_named_by_its_number_and_leaves_no_folder(
    given: Given, data: Path, server: LoopbackServer, status: int
) -> None:
    url = server.fail("/thing.bin", status)
    assert f"{url}: {status} " in given.reason(url)
    assert not data.exists()


def test_a_circle_of_redirects_is_left(given: Given, server: LoopbackServer) -> None:
    url = server.redirect("/thing.bin", "/thing.bin")
    assert "redirects" in given.reason(url)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP", "x"])
def test_an_answer_that_was_encoded_unasked_is_refused_whatever_it_unpacks_to(
    given: Given, data: Path, server: LoopbackServer, encoding: str
) -> None:
    bomb = gzip.compress(bytes(10 * len(BODY)), 9)
    url = server.answer("/thing.bin", Reply(200, bomb, (("Content-Encoding", encoding),)))
    assert f"{url}: it came encoded ({encoding.lower()})" in given.reason(url)
    assert not data.exists()
    assert given.fetch(url, server.serve("/whole", BODY)).read_bytes() == BODY


def test_identity_is_no_encoding(given: Given, server: LoopbackServer) -> None:
    plain = Reply(200, BODY, (("Content-Encoding", "Identity"),))
    assert given.fetch(server.answer("/thing.bin", plain)).read_bytes() == BODY


# More than the file has.

MORE = {
    "announced": Reply(200, BODY + b"x"),
    "unannounced": Reply(200, BODY + b"x", unannounced=True),
    "chunked": Reply(200, BODY + b"x", chunked=True),
    "endless": Reply(200, BODY, unannounced=True, endless=True),
    "endless chunks": Reply(200, BODY, chunked=True, endless=True),
    "announced as 10 TB": Reply(
        200, BODY, (("Content-Length", str(10**13)),), unannounced=True, endless=True
    ),
    "announced as no number": Reply(
        200, BODY, (("Content-Length", "9" * 5000),), unannounced=True, endless=True
    ),
    "announced as less": Reply(
        200, BODY, (("Content-Length", "1000"),), chunked=True, endless=True
    ),
}


@pytest.mark.parametrize("how", MORE)
def test_a_server_that_sends_more_than_the_file_has_is_left_and_nothing_of_it_kept(
    given: Given, data: Path, server: LoopbackServer, how: str
) -> None:
    given.size(len(BODY))
    url = server.answer("/thing.bin", MORE[how])
    reason = given.reason(url)
    said = "it announces " if how.startswith("announced") else "it sends more than the "
    if how in ("announced as no number", "announced as less"):
        said = "it sends more than the "
    assert f"{url}: {said}" in reason
    assert f"{len(BODY):,} " in reason
    assert not data.exists()
    assert given.fetch(url, server.serve("/whole", BODY)).read_bytes() == BODY
    assert server.sent_bytes < 100 * len(BODY)


@pytest.mark.parametrize("how", ["announced", "chunked", "endless"])
def test_what_another_server_sent_outlives_one_that_sends_more(
    given: Given, data: Path, server: LoopbackServer, how: str
) -> None:
    given.size(len(BODY))
    part = place_part(data, BODY[:1000])
    headers = (("Content-Range", f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"),)
    more = replace(MORE[how], status=206, headers=headers)
    given.reason(server.answer("/thing.bin", more))
    assert part.read_bytes() == BODY[:1000]
    assert given.fetch(server.serve("/thing.bin", BODY)).read_bytes() == BODY
    assert ranges(server) == ["bytes=1000-"] * 2


def test_a_part_that_is_longer_than_the_file_is_begun_anew(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    given.size(len(BODY))
    place_part(data, BODY + b"x")
    assert given.fetch(server.serve("/thing.bin", BODY)).read_bytes() == BODY
    assert ranges(server) == [None]


def test_a_file_of_unknown_size_has_a_bound_too(given: Given, server: LoopbackServer) -> None:
    headers = (("Content-Length", "1400000001"),)
    url = server.answer("/thing.bin", Reply(200, BODY, headers, unannounced=True))
    assert "1,400,000,001 bytes, and the file has 1,400,000,000 at most" in given.reason(url)


def test_what_a_redirect_sends_is_not_read(given: Given, server: LoopbackServer) -> None:
    to = (("Location", server.serve("/whole", BODY)),)
    moved = server.answer("/thing.bin", Reply(302, BODY, to, chunked=True, endless=True))
    assert given.fetch(moved).read_bytes() == BODY


# Too slow.

SLOW = {
    "announced": Reply(200, BODY, slow=0.02),
    "unannounced": Reply(200, BODY, slow=0.02, unannounced=True),
    "chunked": Reply(200, BODY, slow=0.02, chunked=True),
    "a line between chunks": Reply(
        200,
        b"4\r\n" + BODY[:4] + b"\r\n1;" + b"x" * 50_000,
        (("Transfer-Encoding", "chunked"),),
        slow=0.02,
        unannounced=True,
    ),
}


@pytest.mark.parametrize("how", SLOW)
def test_a_server_that_trickles_is_given_up_and_the_next_goes_on_from_there(
    given: Given, data: Path, server: LoopbackServer, how: str
) -> None:
    given.patience(LEAST_BYTES=1000, LEAST_S=0.4)
    url = server.answer("/thing.bin", SLOW[how])
    before = set(threading.enumerate())
    assert f"{url}: given up for fewer than 1,000 bytes within 0.4 s, after " in given.reason(url)
    assert left_in(data) == [PART]
    kept = (data / PART).read_bytes()
    assert kept
    assert BODY.startswith(kept)
    ours = [one for one in set(threading.enumerate()) - before if "request_thread" not in one.name]
    assert ours == []
    assert given.fetch(server.serve("/whole", BODY)).read_bytes() == BODY
    assert ranges(server)[-1] == f"bytes={len(kept)}-"


def test_a_small_file_must_be_whole_in_time(given: Given, server: LoopbackServer) -> None:
    given.patience(LEAST_S=0.4)
    url = server.answer("/thing.bin", Reply(200, BODY[:495], slow=0.01))
    assert "given up for fewer than 60,000 bytes within 0.4 s, after " in given.reason(url)


def test_a_slow_line_is_borne(given: Given, data: Path, server: LoopbackServer) -> None:
    given.patience(LEAST_BYTES=2, LEAST_S=0.3)
    place_part(data, BODY[:-100])
    slow = Reply(200, BODY, slow=0.01, ranged=True)
    assert given.fetch(server.answer("/thing.bin", slow)).read_bytes() == BODY


def test_the_floor_is_below_the_slowest_line_there_is() -> None:
    gsm = 9600 / 8
    assert gsm > download.LEAST_BYTES / download.LEAST_S
    assert download.LEAST_S == 60


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_who_answers_too_late_is_hung_up_on(given: Given, server: LoopbackServer) -> None:
    given.patience(ANSWER_S=0.2)
    server.hold()
    before = set(threading.enumerate())
    url = server.answer("/thing.bin", Reply(200, BODY, endless=True, unannounced=True))
    assert "no answer within 0.2 s" in given.reason(url)
    server.release()
    deadline = time.monotonic() + 20
    while set(threading.enumerate()) - before:  # the server's, too: nobody reads what it sends
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Credentials in addresses.


def test_a_failed_download_shows_no_credentials(
    given: Given, monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    mine = server.url("/mirror").replace("://", "://someone:hunter2@")
    signed = server.url("/bucket?X-Amz-Signature=hunter2&token=hunter2")
    server.answer("/bucket?X-Amz-Signature=hunter2&token=hunter2", Reply(403))
    monkeypatch.setenv("BERTSQUAD_MIRROR", mine)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "one")
    moved = server.redirect("/moved", signed)
    reason = given.reason(moved, signed, f"{mine}?token=hunter2")
    assert "hunter2" not in reason
    assert f"{server.url('/mirror/thing.bin').replace('://', '://***@')}: 404" in reason
    assert f"{moved}: 403" in reason
    assert f"{server.url('/bucket')}?***: 403" in reason
    (note,) = (cache.cache_folder() / "locks").glob("*.failed-one")
    assert "hunter2" not in note.read_text("utf-8")


@pytest.mark.parametrize(
    "mirror",
    [
        "https://someone:hunt/er2@mirror.invalid",
        "https://someone:hunt?er2@mirror.invalid",
        "https://someone:hunter2@[mirror.invalid",
        "https://someone:hunter2℀@mirror.invalid",
        "https://someone:hunter2@.invalid",
        "https://someone:hunter2@mirror.invalid:port",
        f"https://someone:hunter2@{'m' * 70}.invalid",
        "someone:hunter2@mirror.invalid/files",
        "ftp://someone:hunter2@mirror.invalid/files",
        "https://someone:hunter2@mirror.invalid/files",
    ],
)
@pytest.mark.parametrize("of", ["BERTSQUAD_MIRROR", "https_proxy"])
def test_not_even_an_address_that_is_none_shows_them(
    given: Given, monkeypatch: pytest.MonkeyPatch, mirror: str, of: str
) -> None:
    given.patience(ANSWER_S=3)
    with refusing_address() as refusing:
        monkeypatch.setenv("https_proxy", refusing.replace("://", "://someone:hunter2@"))
        monkeypatch.setenv(of, mirror)
        reason = given.reason("https://elsewhere.invalid/thing.bin")
    for secret in ("hunt", "er2"):
        assert secret not in reason


def test_a_server_that_moves_the_file_within_itself_is_given_its_password_again(
    given: Given, server: LoopbackServer
) -> None:
    whole = server.serve("/whole", BODY)
    own = server.url("").replace("://", "://someone:hunter2@")
    for location in ("/whole", whole):
        server.redirect("/thing.bin", location)
        given.fetch(f"{own}/thing.bin").unlink()
    with LoopbackServer() as other:
        server.redirect("/thing.bin", other.serve("/whole", BODY))
        given.fetch(f"{own}/thing.bin")
        assert [one.authorization for one in other.requests] == [None]
    known = "Basic c29tZW9uZTpodW50ZXIy"
    assert [one.authorization for one in server.requests] == [known] * 5


# Servers that ask for patience.


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("when", ["0", format_datetime(datetime(2020, 1, 1, tzinfo=UTC))])
def test_a_busy_server_is_asked_again_when_it_wants_to_be(
    given: Given, server: LoopbackServer, status: int, when: str
) -> None:
    url = server.busy("/thing.bin", status, when, BODY)
    assert given.fetch(url).read_bytes() == BODY
    assert server.count() == 2


def test_a_server_that_is_busy_for_long_is_passed_over_and_its_time_said(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2))
    first = server.busy("/first", 429, "100", BODY)
    second = server.busy("/second", 503, later, BODY)
    reason = given.reason(first, second)
    assert f"{first}: 429 Too Many Requests, asks to come back in 100 s" in reason
    assert f"{second}: 503 Service Unavailable, asks to come back in 120 min" in reason
    assert server.count() == 2
    assert not data.exists()


def test_a_server_that_stays_busy_is_not_asked_for_ever(
    given: Given, server: LoopbackServer
) -> None:
    given.patience(RETRY_S=3)
    url = server.answer("/thing.bin", Reply(429, headers=(("Retry-After", "0"),)))
    assert "429 Too Many Requests" in given.reason(url)
    assert server.count() == 4


# Nobody there.


def test_a_proxy_that_never_answers_costs_a_file_its_seconds_once_for_all_addresses(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    given.patience(ANSWER_S=0.6)
    server.hold()
    urls = [f"https://{name}.invalid/thing.bin" for name in ("one", "two", "three")]
    reason = given.reason(*urls)
    for url in urls:
        assert f"{url}: no answer within 0.2 s" in reason
    assert not data.exists()
    asked = server.count()
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        registry.fetch(NAME)
    assert server.count() == asked


def test_seconds_that_one_address_does_not_need_are_left_to_the_next(
    given: Given, server: LoopbackServer
) -> None:
    given.patience(ANSWER_S=0.6)
    drip = server.drip("/drip")
    assert f"{drip}: no answer within 0.6 s" in given.reason(server.fail("/gone", 404), drip)


def test_without_a_network_every_address_is_named_with_its_reason(
    given: Given, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    with refusing_address() as refusing:
        monkeypatch.setenv("https_proxy", refusing)
        reason = given.reason("https://one.invalid/a", f"{refusing}/b")
    assert "https://one.invalid/a: " in reason
    assert reason.count("Connection refused") == 2
    assert not data.exists()


def test_a_host_that_no_one_knows_is_named(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    given.patience(ANSWER_S=2)
    reason = given.reason("https://nowhere.invalid/thing.bin")
    assert "Failed to resolve 'nowhere.invalid'" in reason or "no answer within 2 s" in reason


# What has the file's name already.


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_not_a_file_is_named_and_left_alone(
    given: Given, data: Path, server: LoopbackServer, kind: str
) -> None:
    path = data / NAME
    data.mkdir()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(data / "unmounted" / NAME)
    with pytest.raises(SuiteError, match=r"not a file|isn't there") as caught:
        given.fetch(server.serve("/thing.bin", BODY))
    assert str(path) in str(caught.value)
    assert left_in(data) == [NAME]
    assert server.count() == 0


# Other processes: killed, interrupted, without room or permission.

FETCH = """
import resource, sys
from bertsquad.assets import registry
from bertsquad.errors import Unavailable

name, checksum, url, most = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
registry.entries = lambda: {name: registry.Entry(name, checksum, (url,))}
print("ready", flush=True)
try:
    print(registry.fetch(name))
except Unavailable as error:
    print(error)
"""

unix = pytest.mark.skipif(sys.platform == "win32", reason="Unix signals and limits")


@contextmanager
def python(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cache.PACKAGE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def fetching(url: str, *, most: int = 1 << 30) -> list[str]:
    return ["-c", FETCH, NAME, entry(NAME, BODY).checksum, url, str(most)]


def wait_for_bytes(part: Path) -> None:
    deadline = time.monotonic() + 20
    while not (part.is_file() and part.stat().st_size > len(BODY) // 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@unix
def test_a_killed_download_leaves_a_part_that_the_next_run_goes_on_with(
    given: Given, data: Path, server: LoopbackServer
) -> None:
    with python(*fetching(server.stall("/thing.bin", BODY, 0.6))) as process:
        wait_for_bytes(data / PART)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert left_in(data) == [PART]
    size = (data / PART).stat().st_size
    assert given.fetch(server.serve("/thing.bin", BODY)).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={size}-"]
    assert left_in(data) == [NAME]


@unix
def test_who_waits_for_a_process_that_is_killed_finishes_its_download(
    data: Path, server: LoopbackServer
) -> None:
    url = server.stall("/thing.bin", BODY, 0.6)
    with python(*fetching(url)) as killed:
        wait_for_bytes(data / PART)
        server.serve("/thing.bin", BODY)
        with python(*fetching(url)) as waiting:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == "ready\n"
            killed.send_signal(signal.SIGKILL)
            out, _ = waiting.communicate(timeout=30)
    assert out.strip() == str(data / NAME)
    assert (data / NAME).read_bytes() == BODY
    assert left_in(data) == [NAME]


@unix
@pytest.mark.usefixtures("listening_to_ctrl_c")
def test_ctrl_c_ends_fetch_with_130_without_a_traceback_and_keeps_what_came(
    monkeypatch: pytest.MonkeyPatch, data: Path, server: LoopbackServer
) -> None:
    monkeypatch.setenv("BERTSQUAD_MIRROR", server.url(""))
    server.stall("/dev-v1.1.json", BODY, 0.6)
    with python("-m", "bertsquad", "fetch", "dev-v1.1.json") as process:
        wait_for_bytes(data / ".dev-v1.1.json.part")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert left_in(data) == [".dev-v1.1.json.part"]


@unix
@pytest.mark.usefixtures("listening_to_ctrl_c")
def test_ctrl_c_ends_fetch_while_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, data: Path, server: LoopbackServer
) -> None:
    monkeypatch.setenv("BERTSQUAD_MIRROR", server.url(""))
    server.hold()
    with python("-m", "bertsquad", "fetch", "dev-v1.1.json") as process:
        assert server.wait_for(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=download.ANSWER_S / 2)  # it doesn't wait for them
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not data.exists()


@unix
def test_a_full_disk_is_called_one_and_given_its_room_back(
    data: Path, server: LoopbackServer
) -> None:
    url = server.serve("/thing.bin", BODY)
    with python(*fetching(url, most=300_000)) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert f"{data} has no room for it (File too large)" in out
    assert "point BERTSQUAD_DATA at a folder that can hold it" in out
    assert not data.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize("there", [True, False], ids=["folder", "folder to be made"])
def test_a_data_folder_that_can_only_be_read_is_named_with_the_way_out(
    data: Path, server: LoopbackServer, there: bool
) -> None:
    locked = data if there else data.parent / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    folder = data if there else locked / "data"
    code = f"import os; os.environ['BERTSQUAD_DATA'] = {str(folder)!r}\n{FETCH}"
    arguments = fetching(server.serve("/thing.bin", BODY))
    with python("-c", UNPRIVILEGED, "-c", code, *arguments[2:]) as process:
        out, err = process.communicate(timeout=20)
    locked.chmod(0o755)
    assert process.returncode == 0, err
    assert f"{NAME} is not in {folder} and can't be put there, since {folder} can't be" in out
    assert left_in(locked) == []
    assert server.count() == (0 if there else 1)  # nobody is asked for what has no place
