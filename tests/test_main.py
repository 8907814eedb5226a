import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import UNPRIVILEGED, LoopbackServer, entry, forbid, isolate, register
from made import performance, run_folder

from bertsquad import __version__
from bertsquad.__main__ import main, parser
from bertsquad.assets import cache, registry
from bertsquad.devices import DEVICES
from bertsquad.submission.evidence import group_of

ROOT = Path(__file__).resolve().parents[1]

MODEL = "model.onnx"
DATASET = "dev-v1.1.json"
POCKET = "pocket/pocket-v1.1.json"
MINILM = "pocket/minilm-squad.onnx"
CALIBRATION = "pocket/calibration-v1.1.json"
ANSWERS = ["pocket/minilm-on-pocket.json", "pocket/minilm-on-squad.json"]
WINDOWS = "bert_calibration_features.txt"
#: What the suite calls a file of features in the cache.
FEATURES = f"features/{'0123456789abcdef' * 2}.npz"
BODIES = {MODEL: b"not really a model", DATASET: b"{}", WINDOWS: b"1"}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        yield started


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer) -> Path:
    """The data folder, empty; the downloaded files come from `server`, the bundled are real."""
    isolate(monkeypatch, tmp_path, server)
    bundled = [known for known in registry.entries().values() if known.bundled]
    downloaded = [
        entry(name, body, server.serve(f"/{name}", body)) for name, body in BODIES.items()
    ]
    register(monkeypatch, *downloaded, *bundled)
    return tmp_path / "data"


def place(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def start(*arguments: str, prefix: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *prefix, "-m", "bertsquad", *arguments],
        cwd=cache.PACKAGE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


# fetch


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["bert_large"], [MODEL, DATASET, WINDOWS]),
        (["squad"], [DATASET, WINDOWS]),
        ([MODEL], [MODEL]),
        (["minilm"], [MINILM, POCKET, CALIBRATION]),
        (["pocket"], [POCKET, CALIBRATION]),
        (["squad", "bert_large", DATASET], [DATASET, WINDOWS, MODEL]),
        (["bert_large_random"], [DATASET, WINDOWS]),
        ([], [MODEL, DATASET, WINDOWS, MINILM, "pocket/vocab.txt", POCKET, CALIBRATION, *ANSWERS]),
    ],
    ids=[
        *("model", "data set", "file", "bundled model", "bundled data set", "twice"),
        *("model that is built", "everything"),
    ],
)
def test_fetch_gets_what_is_named_and_says_where_it_is(
    names: list[str], files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", *names]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{name}: {registry.path_of(name)}" for name in files]
    assert err == ""


def test_fetch_downloads_nothing_that_was_not_named(data: Path, server: LoopbackServer) -> None:
    assert main(["fetch", "minilm"]) == 0
    assert server.count() == 0
    assert main(["fetch", "squad"]) == 0
    assert files_under(data) == {DATASET, WINDOWS}
    assert (data / DATASET).read_bytes() == BODIES[DATASET]


def test_fetch_with_an_unknown_name_says_which_there_are_and_fetches_nothing(
    tmp_path: Path, server: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "squad", "bert_huge"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "'bert_huge'" in err
    for known in ("bert_large", "minilm", "squad", "pocket", MODEL, DATASET):
        assert known in err
    assert server.count() == 0
    assert files_under(tmp_path) == set()


def test_a_file_that_cannot_be_had_is_told_and_the_others_are_fetched_all_the_same(
    data: Path, server: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.fail(f"/{MODEL}", 503)
    assert main(["fetch", "bert_large"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{DATASET}: {data / DATASET}\n{WINDOWS}: {data / WINDOWS}\n"
    assert len(err.splitlines()) == 1
    assert err.startswith(f"{MODEL}: {MODEL} (1.34 GB) is not in {data}")
    assert url in err


def test_fetch_leaves_a_file_with_another_checksum_and_says_so(
    data: Path, server: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = place(data / DATASET, "something of my own")
    assert main(["fetch", DATASET]) == 1
    assert f"{mine} is not the file it should be" in capsys.readouterr().err
    assert mine.read_text("utf-8") == "something of my own"
    assert server.count() == 0


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(place(tmp_path / "file")))
    assert main(["fetch", MODEL]) == 1
    assert "set BERTSQUAD_CACHE" in capsys.readouterr().err
    assert files_under(tmp_path) == {"file"}


@pytest.mark.skipif(os.name == "nt", reason="Windows can't send SIGINT to one process")
@pytest.mark.usefixtures("listening_to_ctrl_c")
def test_ctrl_c_during_a_download_ends_it_quietly_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, data: Path, server: LoopbackServer
) -> None:
    monkeypatch.setenv("BERTSQUAD_MIRROR", server.url(""))
    server.hold()
    process = start("fetch", "squad")
    assert server.wait_for(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out + err == ""
    assert files_under(data) == set()
    assert server.count() == 1


# doctor


def test_doctor_says_what_is_here_and_what_this_machine_can_run(
    data: Path, server: LoopbackServer, tmp_path: Path
) -> None:
    place(data / DATASET, "something of my own")
    process = start("doctor")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"bertsquad {__version__}"
    assert f"data:     {data}" in lines
    assert f"cache:    {cache.cache_folder()}" in lines
    assert f"  {MODEL}: not here (fetch gets it)" in lines
    assert f"  {MINILM}: ok ({cache.PACKAGE / MINILM})" in lines
    assert any(
        line.startswith(f"  {DATASET}: {data / DATASET} is not the file it should be")
        for line in lines
    )
    assert f"  cpu: ok ({', '.join(DEVICES['cpu'].precisions)})" in lines
    for device in DEVICES:
        told = [line for line in lines if line.startswith(f"  {device}: ")]
        assert len(told) == 1
        assert told[0].startswith((f"  {device}: ok (", f"  {device}: no: "))
    assert server.requests == []
    assert files_under(tmp_path) == {f"data/{DATASET}"}


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_doctor_goes_on_where_a_file_may_not_be_looked_at(data: Path) -> None:
    place(data / DATASET)
    data.chmod(0)
    process = start("doctor", prefix=("-c", UNPRIVILEGED))
    out, err = process.communicate(timeout=60)
    data.chmod(0o755)
    assert (process.returncode, err) == (0, "")
    assert f"  {DATASET}: {data / DATASET} can't be read: Permission denied" in out.splitlines()
    assert "devices:\n  cpu: ok" in out


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_doctor_names_what_is_not_a_file(data: Path, kind: str) -> None:
    path = data / DATASET
    data.mkdir()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(data / "unmounted")
    out, err = start("doctor").communicate(timeout=60)
    assert err == ""
    assert f"  {DATASET}: {path} is " in out
    assert "(fetch gets it)" not in out.partition(f"  {DATASET}: ")[2].partition("\n")[0]


# clean


def test_clean_removes_what_was_derived_and_nothing_else(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fetch", "squad"])
    place(tmp_path / "cache" / "derived" / FEATURES)
    place(tmp_path / "cache" / "mine.txt")
    capsys.readouterr()
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == f"removed {tmp_path / 'cache' / 'derived'} (4 bytes)\n"
    assert files_under(tmp_path) == {"cache/mine.txt", f"data/{DATASET}", f"data/{WINDOWS}"}
    assert not (tmp_path / "cache" / "derived").exists()


def test_clean_with_downloads_removes_the_registered_files_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    tmp_path: Path,
    server: LoopbackServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = tmp_path / "package"  # not the real one, which a fault would empty
    monkeypatch.setattr(registry, "PACKAGE", package)
    register(
        monkeypatch,
        entry(MODEL, BODIES[MODEL], server.url(f"/{MODEL}")),
        entry("absent.txt", b"text"),
        entry("pocket/vocab.txt", b"text"),
    )
    place(package / "pocket" / "vocab.txt")
    place(tmp_path / "cache" / "derived" / FEATURES)
    place(data / "mine.onnx")
    place(data / "pocket" / "vocab.txt")
    main(["fetch", MODEL])
    capsys.readouterr()
    assert main(["clean", "--downloads", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"removed {tmp_path / 'cache' / 'derived'} (4 bytes)",
        f"removed {data / MODEL} (18 bytes)",
    ]
    assert files_under(tmp_path) == {
        "data/mine.onnx",
        "data/pocket/vocab.txt",
        "package/pocket/vocab.txt",
    }


def test_clean_keeps_the_downloads_where_both_folders_are_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BERTSQUAD_DATA")
    monkeypatch.delenv("BERTSQUAD_CACHE")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    if tmp_path not in cache.cache_folder().parents:
        pytest.skip("the per-user cache folder can't be moved on this system")
    main(["fetch", "squad"])
    features = place(cache.cache_folder() / FEATURES)
    assert main(["clean"]) == 0
    assert not features.exists()
    assert registry.path_of(DATASET).is_file()


def test_clean_with_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    assert main(["clean", "--downloads"]) == 0
    assert files_under(tmp_path) == set()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_clean_copes_with_a_derived_folder_that_is_a_link_to_another_disk(tmp_path: Path) -> None:
    place(tmp_path / "disk" / FEATURES)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "derived").symlink_to(tmp_path / "disk")
    assert main(["clean"]) == 0
    assert files_under(tmp_path / "disk") == set()
    with cache.lock("features"):
        assert (tmp_path / "disk" / "locks").is_dir()


def test_clean_says_which_download_it_may_not_remove(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fetch", "squad"])
    forbid(data, 0o555)
    assert main(["clean", "--downloads", "--yes"]) == 1
    assert str(data / DATASET) in capsys.readouterr().err


def test_without_a_terminal_the_downloads_stay_unless_that_is_agreed_to(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fetch", "squad"])
    place(tmp_path / "cache" / "derived" / FEATURES)
    before = files_under(tmp_path)
    capsys.readouterr()
    assert main(["clean", "--downloads"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert f"2 files (3 bytes) would be removed from {data}" in err and "--yes" in err
    assert files_under(tmp_path) == before
    assert main(["clean", "--downloads", "--yes"]) == 0
    assert files_under(tmp_path) == set()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
@pytest.mark.parametrize(
    ("typed", "goes"),
    [
        ("n\n", False),
        ("\n", False),
        ("\x04", False),
        ("y\n", True),
        ("YES\n", True),
        ("yep\n", False),
    ],
)
def test_at_a_terminal_somebody_is_asked_before_the_downloads_go(
    data: Path, tmp_path: Path, typed: str, goes: bool
) -> None:
    import pty

    part = place(data / f".{MODEL}.part", "x" * 1234)
    features = place(tmp_path / "cache" / "derived" / FEATURES)
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = subprocess.run(
        [sys.executable, "-m", "bertsquad", "clean", "--downloads"],
        cwd=ROOT,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert f"{part} (1 kB)" in done.stdout and "Remove 1 file (1 kB)" in done.stdout
    assert "nothing was removed" in done.stdout or goes
    assert (done.returncode, done.stderr) == (0 if goes else 1, "")
    assert (part.exists(), features.exists()) == (not goes, not goes)


# The command line.


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"bertsquad {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fetsch"], ["fetch", "--all"], ["clean", "squad"]])
def test_a_command_line_that_makes_no_sense_is_a_usage_error(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m bertsquad" in capsys.readouterr().err
    assert files_under(tmp_path) == set()


# What the help says is what happens.


def helps() -> Iterator[tuple[str, argparse.Action, str]]:
    """Each command's options and arguments, with what its help says of them."""
    (commands,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    for name, command in commands.choices.items():
        formatter = command._get_formatter()
        for action in command._actions:
            yield name, action, formatter._expand_help(action) if action.help else ""


HELPS = {f"{name} {action.dest}": (action, text) for name, action, text in helps()}


def test_the_defaults_that_the_help_states_are_those_that_count() -> None:
    given = {
        "fetch": parser().parse_args(["fetch"]),
        "submission": parser().parse_args(["submission", "results"]),
        "report": parser().parse_args(["report", "results"]),
        "show": parser().parse_args(["show", "results"]),
        "compare": parser().parse_args(["compare", "a", "b"]),
    }
    stated = {
        key: match[1]
        for key, (_, text) in HELPS.items()
        if (match := re.search(r"\(default: ([^)]*)\)", text))
    }
    assert given["fetch"].names == []  # see the test of what `fetch` gets
    assert stated == {
        "fetch names": "everything",
        "submission answers": str(given["submission"].answers),
        "submission tree": str(given["submission"].tree),
        "report output": str(given["report"].output),
        "show format": given["show"].format,
        "compare format": given["compare"].format,
    }
    assert isinstance(given["report"].output, Path)
    assert isinstance(given["submission"].tree, Path)


def test_every_name_that_the_help_of_fetch_lists_is_fetched(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text = HELPS["fetch names"]
    models, datasets, _ = re.findall(r"\(([^)]*)\)", text)
    names = [*models.split(", "), *datasets.split(", ")]
    assert {"bert_large", "minilm", "squad", "pocket"} <= set(names)
    for name in names:
        if name != "bert_large_int8":  # its file isn't on this server
            assert main(["fetch", name]) == 0, capsys.readouterr().err


def test_a_path_is_asked_for_where_a_path_is_taken() -> None:
    for action, _ in HELPS.values():
        assert (action.metavar in ("DIR", "FILE", "RESULTS", "A", "B")) == (action.type is Path)


def test_session_takes_the_form_that_its_help_names() -> None:
    action, _ = HELPS["submission session"]
    result = performance(dataset="squad", device="openvino", precision="int8")
    parts = str(action.metavar).lower().split("-")
    assert "-".join(getattr(result, part) for part in parts) == group_of(result)


# Names and encodings.

#: A name that is no text, holds a terminal's control sequence and a line's end.
ODD_NAME = b"res\xff\x1b[31m\nx \xc3\xa9"
NARROW = {
    "utf-8": {"LC_ALL": "C.UTF-8"},
    "ascii stream": {"PYTHONIOENCODING": "ascii"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    if sys.platform == "win32":
        pytest.skip("no such names on Windows")
    folder = tmp_path / os.fsdecode(ODD_NAME)
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("no such names in this file system")
    run_folder(folder, performance(case="café-→"))
    (folder / "half.json").write_text('{"schema_version": 1', "utf-8")
    broken_off = folder / "accuracy-x"
    broken_off.mkdir()
    (broken_off / "timeline.npz").touch()
    return folder


def told(variables: dict[str, str], *arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "bertsquad", *map(os.fsencode, arguments)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("variables", NARROW.values(), ids=NARROW)
def test_a_report_on_files_of_odd_names_is_made_and_shows_them_escaped(
    odd_folder: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    page = tmp_path / "page.html"
    done = told(variables, "report", odd_folder, "-o", page)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout and b"\\x1b[31m\\nx" in done.stdout
    assert b"left out: " in done.stdout and b"half.json is cut short" in done.stdout
    assert "café-→" in page.read_text("utf-8")


@pytest.mark.parametrize("variables", NARROW.values(), ids=NARROW)
def test_a_refusal_of_a_file_of_an_odd_name_is_one_line_that_shows_it_escaped(
    odd_folder: Path, variables: dict[str, str]
) -> None:
    for done in (
        told(variables, "report", odd_folder / "half.json"),
        told(variables, "submission", odd_folder),
    ):
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"\n") == 1 and b"\x1b" not in done.stderr
        assert b"\\x1b[31m\\nx" in done.stderr


@pytest.mark.parametrize("variables", NARROW.values(), ids=NARROW)
def test_doctor_speaks_in_every_encoding(
    data: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    done = told(variables | {"BERTSQUAD_CACHE": str(tmp_path / "café")}, "doctor")
    assert done.stderr.count(b"\n") <= 1 and b"Traceback" not in done.stderr
    assert done.stdout.startswith(b"bertsquad ") or b"expected a path" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_has_read_enough_ends_a_command_without_a_word(tmp_path: Path, unbuffered: str) -> None:
    run_folder(tmp_path, performance())
    command = [sys.executable, "-m", "bertsquad", "show", str(tmp_path)]
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=environment, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nothing_takes_is_one_sentence(tmp_path: Path, unbuffered: str) -> None:
    run_folder(tmp_path, performance())
    command = [sys.executable, "-m", "bertsquad", "show", str(tmp_path)]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True, check=False
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line
