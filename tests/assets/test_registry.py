import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import LoopbackServer, entry, forbid, isolate, refusing_address, register

from bertsquad import __version__
from bertsquad.assets import cache, registry
from bertsquad.assets.registry import Entry
from bertsquad.credentials import masked
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.progress import Step

BODY = bytes(range(256)) * 16
OTHER_BODY = b"a login page, perhaps"
NAME = "thing.bin"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        yield started


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer) -> None:
    isolate(monkeypatch, tmp_path, server)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def place(tmp_path: Path, body: bytes, name: str = NAME) -> Path:
    path = tmp_path / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    return path


# Downloads.


@pytest.mark.parametrize(
    "checksum",
    [
        f"md5:{hashlib.md5(BODY).hexdigest()}",
        f"sha256:{hashlib.sha256(BODY).hexdigest()}",
        hashlib.sha256(BODY).hexdigest(),
    ],
    ids=["md5", "sha256", "no algorithm named"],
)
def test_a_file_is_downloaded_once_and_nothing_else_put_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer, checksum: str
) -> None:
    register(monkeypatch, Entry(NAME, checksum, (server.serve("/thing.bin", BODY),)))
    path = registry.fetch(NAME)
    assert registry.fetch(NAME) == path == tmp_path / "data" / NAME
    assert path.read_bytes() == BODY
    assert left_in(tmp_path / "data") == [NAME]
    assert server.count() == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_downloaded_file_can_be_read_by_those_whom_the_umask_lets(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    before = os.umask(0o022)
    try:
        path = registry.fetch(NAME)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_requests_carry_a_user_agent_of_our_own(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    url = server.redirect("/old", server.serve("/thing.bin", BODY))
    register(monkeypatch, entry(NAME, BODY, url))
    registry.fetch(NAME)
    assert [request.path for request in server.requests] == ["/old", "/thing.bin"]
    assert {request.user_agent for request in server.requests} == {f"bertsquad/{__version__}"}


@pytest.mark.parametrize("fault", ["404", "503", "refused", "truncated", "other content"])
def test_the_next_address_is_tried_where_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer, fault: str
) -> None:
    with refusing_address() as refusing:
        faulty = {
            "404": server.fail("/missing", 404),
            "503": server.fail("/busy", 503),
            "refused": f"{refusing}/thing.bin",
            "truncated": server.truncate("/cut", BODY),
            "other content": server.serve("/other", OTHER_BODY),
        }
        register(monkeypatch, entry(NAME, BODY, faulty[fault], server.serve("/thing.bin", BODY)))
        assert registry.fetch(NAME).read_bytes() == BODY
    assert left_in(tmp_path / "data") == [NAME]
    assert server.count("/thing.bin") == 1


def test_the_mirror_table_is_asked_after_the_registrys_own_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    own, mirror = server.fail("/own", 503), server.serve("/mirror", BODY)
    checksum = entry(NAME, BODY).checksum
    (tmp_path / "data_registry.txt").write_text(f"# a comment\n{NAME} {checksum} {own}\n", "utf-8")
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "bertsquad")
    monkeypatch.setattr(registry, "MIRRORS", {NAME: (mirror,)})
    registry.entries.cache_clear()
    try:
        assert registry.entries() == {NAME: Entry(NAME, checksum, (own, mirror))}
        assert registry.fetch(NAME).read_bytes() == BODY
    finally:
        registry.entries.cache_clear()
    assert [request.path for request in server.requests] == ["/own", "/mirror"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_users_mirror_is_asked_first(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, slash: str
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/own", BODY)))
    server.serve("/mirror/thing.bin", BODY)
    monkeypatch.setenv("BERTSQUAD_MIRROR", server.url("/mirror") + slash)
    assert registry.fetch(NAME).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/mirror/thing.bin"]


def test_a_users_mirror_without_the_file_gives_way_to_its_own_address(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/own", BODY)))
    monkeypatch.setenv("BERTSQUAD_MIRROR", server.url("/mirror"))
    assert registry.fetch(NAME).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/mirror/thing.bin", "/own"]


def test_a_download_with_another_checksum_is_refused_and_nothing_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", OTHER_BODY)))
    with pytest.raises(Unavailable, match=r"thing\.bin.*does not match") as caught:
        registry.fetch(NAME)
    assert hashlib.sha256(BODY).hexdigest() in str(caught.value)
    assert left_in(tmp_path / "data") == []


def test_the_refusal_of_a_download_says_which_checksum_it_had(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", OTHER_BODY)))
    with pytest.raises(Unavailable, match=hashlib.sha256(OTHER_BODY).hexdigest()):
        registry.fetch(NAME)


def test_a_download_tells_its_progress_and_prints_nothing_itself(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.serve("/thing.bin", BODY)
    register(monkeypatch, entry("quiet.bin", BODY, url), entry("shown.bin", BODY, url))
    registry.fetch("quiet.bin")
    told: list[Step] = []
    registry.fetch("shown.bin", show=told.append)
    assert capfd.readouterr() == ("", "")
    name, size = "downloading shown.bin", len(BODY)
    assert told[:2] == [Step(name), Step(name, 0, size, "B")]
    assert told[-1] == Step(name, size, size, "B")


@pytest.mark.parametrize("wrong", [0, 1, None])
def test_a_file_with_several_checksums_must_match_all_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer, wrong: int | None
) -> None:
    sums = [f"{name}:{hashlib.new(name, BODY).hexdigest()}" for name in ("md5", "sha256")]
    right = Entry(NAME, "+".join(sums), (server.serve("/thing.bin", BODY),))
    assert right.digest == hashlib.md5(BODY).hexdigest()
    if wrong is None:
        register(monkeypatch, right)
        assert registry.fetch(NAME).read_bytes() == BODY
        return
    sums[wrong] = f"{sums[wrong].partition(':')[0]}:{'0' * 32}"
    register(monkeypatch, Entry(NAME, "+".join(sums), right.urls))
    with pytest.raises(Unavailable, match="does not match the checksum"):
        registry.fetch(NAME)
    place(tmp_path, BODY)
    with pytest.raises(SuiteError, match="is not the file it should be"):
        registry.fetch(NAME)


# Where it is not allowed to ask.


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_a_whole_address_is_followed(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, status: int
) -> None:
    url = server.redirect("/old", server.serve("/new", BODY), status)
    register(monkeypatch, entry(NAME, BODY, url))
    assert registry.fetch(NAME).read_bytes() == BODY


@pytest.mark.parametrize("location", ["/files/new", "new", "new?download=1"])
def test_a_redirect_to_a_relative_address_is_followed(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, location: str
) -> None:
    server.serve("/files/new", BODY)
    server.serve("/files/new?download=1", BODY)
    register(monkeypatch, entry(NAME, BODY, server.redirect("/files/old", location)))
    assert registry.fetch(NAME).read_bytes() == BODY


def test_a_redirect_to_another_host_without_encryption_is_refused_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    elsewhere = server.serve_elsewhere("http://elsewhere.invalid/thing.bin", BODY)
    register(monkeypatch, entry(NAME, BODY, server.redirect("/thing.bin", elsewhere)))
    with pytest.raises(Unavailable, match="only https is safe"):
        registry.fetch(NAME)
    assert [request.path for request in server.requests] == ["/thing.bin"]
    assert left_in(tmp_path / "data") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.invalid/thing.bin",
        "http://127.0.0.1.elsewhere.invalid/thing.bin",
        "http://localhost@elsewhere.invalid/thing.bin",
        "HTTP://elsewhere.invalid/thing.bin",
        "ftp://127.0.0.1/thing.bin",
        "file:///thing.bin",
        "elsewhere.invalid/thing.bin",
    ],
)
def test_an_address_that_is_neither_https_nor_loopback_is_refused_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, url: str
) -> None:
    server.serve_elsewhere(url, BODY)
    register(monkeypatch, entry(NAME, BODY, url))
    with pytest.raises(
        Unavailable, match=re.escape(f"{masked(url)}: refused, since only https is")
    ):
        registry.fetch(NAME)
    assert server.count() == 0


def test_an_address_that_is_none_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    monkeypatch.setenv("BERTSQUAD_MIRROR", "http://[elsewhere")
    register(monkeypatch, entry(NAME, BODY, server.serve("/own", BODY)))
    assert registry.fetch(NAME).read_bytes() == BODY


def test_a_mirror_of_the_users_that_is_neither_https_nor_loopback_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    server.serve_elsewhere("http://elsewhere.invalid/thing.bin", BODY)
    monkeypatch.setenv("BERTSQUAD_MIRROR", "http://elsewhere.invalid")
    register(monkeypatch, entry(NAME, BODY, server.serve("/own", BODY)))
    assert registry.fetch(NAME).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/own"]


def test_https_goes_out_encrypted(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer) -> None:
    register(monkeypatch, entry(NAME, BODY, "https://elsewhere.invalid/thing.bin"))
    with pytest.raises(Unavailable, match=r"https://elsewhere\.invalid"):
        registry.fetch(NAME)
    assert {request.path for request in server.requests} == {"elsewhere.invalid:443"}


# Files that are already there.


def test_a_file_put_there_by_hand_is_taken_without_asking_anyone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    path = place(tmp_path, BODY)
    assert registry.fetch(NAME) == path
    assert server.count() == 0


def test_a_file_with_another_checksum_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    path = place(tmp_path, OTHER_BODY)
    with pytest.raises(SuiteError, match=r"move it away") as caught:
        registry.fetch(NAME)
    assert not isinstance(caught.value, Unavailable)
    for part in (str(path), *(hashlib.sha256(body).hexdigest() for body in (BODY, OTHER_BODY))):
        assert part in str(caught.value)
    assert path.read_bytes() == OTHER_BODY
    assert left_in(tmp_path / "data") == [NAME]
    assert server.count() == 0


def test_a_file_that_is_replaced_after_it_was_verified_is_verified_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, entry(NAME, BODY))
    path = place(tmp_path, BODY)
    assert registry.fetch(NAME) == path
    path.unlink()
    place(tmp_path, OTHER_BODY)
    with pytest.raises(SuiteError, match="is not the file it should be"):
        registry.fetch(NAME)
    place(tmp_path, BODY)
    assert registry.fetch(NAME) == path


def test_a_data_folder_that_vanishes_is_filled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    registry.fetch(NAME)
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "cache")
    assert registry.fetch(NAME).read_bytes() == BODY
    assert server.count() == 2


def test_a_read_only_data_folder_with_the_file_in_it_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, entry(NAME, BODY))
    path = place(tmp_path, BODY)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    # Root may write all the same: the folder's time shows that nothing came and went.
    before = path.parent.stat().st_mtime_ns
    try:
        assert registry.fetch(NAME) == path
        assert path.parent.stat().st_mtime_ns == before
    finally:
        path.parent.chmod(0o755)


def test_a_file_that_is_here_needs_no_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, entry(NAME, BODY))
    path = place(tmp_path, BODY)
    assert registry.fetch(NAME) == path
    assert not (tmp_path / "cache").exists()


def test_a_file_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, entry(NAME, BODY))
    path = place(tmp_path, BODY)
    forbid(path, 0)
    with pytest.raises(SuiteError, match=re.escape(str(path))):
        registry.fetch(NAME)


# Bundled files.


@pytest.mark.parametrize(
    "name", [name for name, known in registry.entries().items() if known.bundled]
)
def test_what_is_bundled_is_what_the_registry_says(name: str) -> None:
    assert registry.fetch(name) == cache.PACKAGE / name


def test_a_bundled_file_that_was_changed_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, registry.entries()["pocket/vocab.txt"])
    copy = tmp_path / "bertsquad" / "pocket" / "vocab.txt"
    copy.parent.mkdir(parents=True)
    shutil.copy(cache.PACKAGE / "pocket" / "vocab.txt", copy)
    with copy.open("ab") as file:
        file.write(b"\n")
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "bertsquad")
    with pytest.raises(SuiteError, match="reinstall the package") as caught:
        registry.fetch("pocket/vocab.txt")
    assert str(copy) in str(caught.value)
    assert server.count() == 0


def test_a_bundled_file_that_is_gone_is_not_downloaded_into_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry("pocket/vocab.txt", BODY, server.serve("/vocab.txt", BODY)))
    monkeypatch.setattr(registry, "PACKAGE", tmp_path)
    with pytest.raises(SuiteError, match=r"vocab\.txt is missing: reinstall the package"):
        registry.fetch("pocket/vocab.txt")
    assert server.count() == 0


def test_every_file_that_is_downloaded_has_a_size_and_an_https_address() -> None:
    for name, known in registry.entries().items():
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", known.checksum)
        assert all(url.startswith("https://") for url in known.urls)
        if not known.bundled:
            assert known.urls
            assert name in registry.SIZES
        if known.size and known.size.exact and registry.is_here(registry.path_of(name)):
            assert registry.path_of(name).stat().st_size == known.size.bytes
    assert registry.MIRRORS.keys() <= registry.entries().keys()


@pytest.mark.parametrize(
    ("name", "words", "most"),
    [
        ("model.onnx", "1.34 GB", 1_400_000_000),
        ("bert_large_v1_1_fake_quant.onnx", "1.34 GB", 1_400_000_000),
        ("dev-v1.1.json", "4.9 MB", 4_854_279),
        ("bert_calibration_features.txt", "495 bytes", 495),
        ("pocket/vocab.txt", "232 kB", 231_508),
    ],
)
def test_how_large_a_file_is_and_may_be(name: str, words: str, most: int) -> None:
    known = registry.entries()[name]
    assert str(known.size) == words
    assert known.most_bytes == most


# What can't be had.


def test_the_reason_names_the_file_its_size_every_address_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    name = "dev-v1.1.json"
    with refusing_address() as refusing:
        register(
            monkeypatch,
            entry(name, BODY, server.fail("/gone", 404), f"{refusing}/{name}"),
        )
        with pytest.raises(Unavailable) as caught:
            registry.fetch(name, "dataset")
    reason = str(caught.value)
    assert caught.value.subject == "dataset"
    assert "\n" not in reason
    for part in (
        f"{name} (4.9 MB) is not in {tmp_path / 'data'}",
        f"{server.url('/gone')}: 404 ",
        f"{refusing}/{name}: Failed to establish a new connection",
        f"python -m bertsquad fetch {name}",
        "BERTSQUAD_DATA",
    ):
        assert part in reason


def test_a_failure_is_remembered_until_the_file_is_put_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.fail("/thing.bin", 503)))
    reasons = set()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            registry.fetch(NAME, "dataset")
        assert caught.value.subject == "dataset"
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert server.count() == 1
    path = place(tmp_path, BODY)
    assert registry.fetch(NAME) == path


def test_a_data_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "file" / "data"))
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    with pytest.raises(Unavailable, match=r"is not in .*file.data and can't be put there"):
        registry.fetch(NAME)


def test_a_cache_folder_that_cannot_be_made_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "file"))
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    with pytest.raises(SuiteError, match="set BERTSQUAD_CACHE") as caught:
        registry.fetch(NAME)
    assert str(tmp_path / "file") in str(caught.value)
    assert left_in(tmp_path / "data") == []


def test_a_cache_folder_that_cannot_be_written_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    register(monkeypatch, entry(NAME, BODY, server.serve("/thing.bin", BODY)))
    locks = tmp_path / "cache" / "derived" / "locks"
    locks.mkdir(parents=True)
    forbid(locks, 0o555)
    with pytest.raises(SuiteError, match="set BERTSQUAD_CACHE"):
        registry.fetch(NAME)


# Several processes.

FETCH = """
import sys
from bertsquad.assets import registry
from bertsquad.errors import Unavailable

name, checksum, url = sys.argv[1:]
registry.entries = lambda: {name: registry.Entry(name, checksum, (url,))}
print("ready", flush=True)
try:
    print(registry.fetch(name))
except Unavailable as error:
    print(error)
"""


def start_fetching(url: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, NAME, entry(NAME, BODY).checksum, url],
        cwd=cache.PACKAGE.parent,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def said(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output.strip()


def fetch_twice_at_once(server: LoopbackServer, url: str) -> list[str]:
    server.hold()
    processes = [start_fetching(url) for _ in range(2)]
    assert server.wait_for(1)
    server.wait_for(2, timeout=0.5)  # the other one's chance to ask as well
    server.release()
    return [said(process) for process in processes]


def test_two_processes_at_once_download_a_file_once(tmp_path: Path, server: LoopbackServer) -> None:
    path = tmp_path / "data" / NAME
    url = server.serve("/thing.bin", BODY)
    assert fetch_twice_at_once(server, url) == [str(path)] * 2
    assert path.read_bytes() == BODY
    assert left_in(path.parent) == [NAME]
    assert [request.path for request in server.requests] == ["/thing.bin"]


def test_workers_of_one_pytest_session_try_once_and_those_of_the_next_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer
) -> None:
    url = server.fail("/thing.bin", 503)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "one")
    first, second = fetch_twice_at_once(server, url)
    assert url in first
    assert first == second
    assert server.count() == 1

    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "two")
    server.serve("/thing.bin", BODY)
    assert said(start_fetching(url)) == str(tmp_path / "data" / NAME)
    assert server.count() == 2
