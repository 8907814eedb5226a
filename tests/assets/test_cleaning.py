"""`clean` removes what the suite made, and nothing of the user's, wherever its folders are."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import preparing
import pytest
import tiny
from loopback import LoopbackServer, Reply, entry, isolate, register
from shared_data import POCKET_FILE, pocket, reading

from bertsquad.__main__ import main
from bertsquad.assets import cache, cleaning, registry
from bertsquad.errors import Unavailable
from bertsquad.models.zoo import MODELS
from bertsquad.squad import datasets

HEX = "0123456789abcdef" * 2

links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        yield started


@pytest.fixture(autouse=True)
def derived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: LoopbackServer) -> Path:
    isolate(monkeypatch, tmp_path, server)
    return tmp_path / "cache" / "derived"


def place(path: Path, body: bytes = b"mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def clean(*options: str) -> None:
    assert main(["clean", *options]) == 0


def make(tmp_path: Path) -> None:
    """Features and models of each kind, named as the suite names them."""
    datasets.cached_features(pocket(), reading(), POCKET_FILE)
    wide = tiny.model(tmp_path / "a.onnx", wide=True)
    calibration = tiny.calibration(HEX[:16])
    preparing.ready(wide, "int8", calibration=lambda: calibration, key=HEX)
    fixed = tiny.model(tmp_path / "b.onnx", length=384, wide=True)
    preparing.ready(fixed, "fp16", key=HEX * 2)


def kill(path: Path) -> None:
    """Leave what a killed process leaves of a file that it was making."""
    place(path.with_name(f".{path.stem}.ab_0cd1e{path.suffix}"))
    if path.suffix == ".onnx":
        place(path.with_name(f".{path.stem}.calibration") / ".a.b" / "probe.onnx")


def test_all_that_the_suite_made_goes_with_its_folders(
    tmp_path: Path,
    derived: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: LoopbackServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path)
    assert {path.suffix for path in derived.rglob("*")} == {"", ".npz", ".onnx", ".json", ".lock"}
    for model in MODELS.values():
        if model.random:
            place(derived / "prepared" / f"{model.name}-1.onnx")
            place(derived / "prepared" / f"{model.name}-1.json")
            place(derived / "locks" / f"{model.name}-1.onnx.lock")
    (weighty, *_) = derived.glob("prepared/*-fp16-*.onnx")  # as one whose weights lie beside it
    place(cache.weights_beside(weighty))
    for path in [*derived.glob("features/*"), *derived.glob("prepared/*")]:
        kill(path)
    place(derived / "tensorrt" / "TensorrtExecutionProvider_TRTKernel_graph_a_0_sm90.engine")
    place(derived / "tensorrt" / "TensorrtExecutionProvider_cache_sm90.timing")
    for gpu in ("gpu-tesla-t4", "gpu-nvidia-l4"):
        place(derived / "tensorrt" / gpu / "TensorrtExecutionProvider_TRTKernel_a_0_sm75.engine")
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", HEX)
    register(monkeypatch, entry("some/model.onnx", b"body", server.fail("/gone", 404)))
    with pytest.raises(Unavailable):
        registry.fetch("some/model.onnx")
    assert (derived / "locks" / f"some_model.onnx.failed-{HEX}").is_file()
    clean()
    assert under(tmp_path) == {"a.onnx", "b.onnx", "cache"}
    out = capsys.readouterr().out
    assert re.fullmatch(rf"removed {re.escape(str(derived))} \([1-9][\d.]* (bytes|[kM]B)\)\n", out)


#: What a user may have in such folders.
MINE = (
    "mine.txt",
    "raw/squad.npz",
    "features/train.npz",
    f"features/{HEX}.npy",
    f"features/{HEX}.npz.bak",
    f"features/x{HEX}.npz",
    f"features/{HEX}/a.npz",
    f"features/{HEX}.npz/a.txt",
    f"features/.{HEX}.npz",
    f"features/deeper/{HEX}.npz",
    "prepared/model.onnx",
    "prepared/model.json",
    f"prepared/{HEX}.onnx",
    f"prepared/{HEX}-final.txt",
    "prepared/.git/config",
    "prepared/.model.calibration/data.csv",
    "tensorrt/model.engine",
    "tensorrt/mine/TensorrtExecutionProvider_TRTKernel_a_0_sm75.engine",
    "tensorrt/gpu-tesla-t4/model.engine",
    "locks/apt.lock",
    "locks/my-model.onnx.lock",
    f"{HEX}.npz",
)


def test_nothing_of_the_users_goes(
    tmp_path: Path, derived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in MINE:
        place(derived / name)
    before = under(tmp_path)
    made = [
        place(derived / "features" / f"{'f' * 32}.npz"),
        place(derived / "prepared" / f"{HEX}-2.onnx"),
        place(derived / "locks" / f"{HEX}-2.onnx.lock"),
    ]
    clean("--downloads", "--yes")
    assert under(tmp_path) == before
    *removed, left = capsys.readouterr().out.splitlines()
    assert removed == [f"removed {path} (4 bytes)" for path in made]
    assert left.startswith(f"left in {derived}: features/")
    assert left.count("(not made by the suite)") == 5
    assert left.endswith(" more")


@pytest.mark.parametrize("place_of", ["home", "a file's folder", "nowhere"])
def test_a_folder_without_anything_of_the_suite_is_left_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place_of: str,
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / place_of))
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / place_of))
    if place_of == "home":
        for name in (".bashrc", "features/a.npz", f"prepared/{HEX}-2.onnx", "locks/a.lock"):
            place(tmp_path / place_of / name)
    elif place_of == "a file's folder":
        place(tmp_path / place_of / "derived")
    before = under(tmp_path)
    clean("--downloads", "--yes")
    assert under(tmp_path) == before
    assert capsys.readouterr().out == ""


@links
@pytest.mark.parametrize("link", ["features", f"features/{HEX}.npz", "locks", "prepared"])
@pytest.mark.parametrize("dangling", [True, False])
def test_nothing_goes_through_a_link_and_the_link_stays(
    tmp_path: Path,
    derived: Path,
    capsys: pytest.CaptureFixture[str],
    link: str,
    dangling: bool,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if not dangling:
        for name in (f"{HEX}.npz", f"{HEX}-2.onnx", f"{HEX}-2.onnx.lock"):
            place(elsewhere / name)
    (derived / link).parent.mkdir(parents=True)
    (derived / link).symlink_to(elsewhere)
    before = under(tmp_path)
    clean()
    assert under(tmp_path) == before
    assert capsys.readouterr().out == f"left in {derived}: {link} (a link)\n"


@links
def test_what_a_killed_calibration_left_goes_without_what_it_links_to(
    tmp_path: Path, derived: Path
) -> None:
    precious = place(tmp_path / "precious" / "a.txt")
    scratch = derived / "prepared" / f".{HEX}-s8-{HEX}-2-1.calibration"
    scratch.mkdir(parents=True)
    (scratch / "link").symlink_to(precious.parent)
    clean()
    assert precious.exists()
    assert not derived.exists()


def test_what_another_process_makes_just_now_stays(
    derived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = place(derived / "features" / f"{HEX}.npz")
    half = place(derived / "prepared" / f".{HEX}-fp16-2.ab_0cd1e.onnx")
    with cache.lock(f"{HEX}-fp16-2.onnx"):
        clean()
    assert not made.exists()
    assert half.exists()
    left = f"prepared/{half.name} (in use by another process), locks/{HEX}-fp16-2.onnx.lock (in use"
    assert f"left in {derived}: {left}" in capsys.readouterr().out
    clean()
    assert not derived.exists()


# Downloads.


def test_a_file_that_only_has_the_name_of_a_download_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: LoopbackServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    register(
        monkeypatch,
        entry("model.onnx", b"the model", server.serve("/a", b"the model")),
        entry("other.bin", b"other", server.answer("/b", Reply(200, b"other", sent=3))),
        entry("third.bin", b"third", server.serve("/c", b"third")),
    )
    mine = place(data / "model.onnx", b"my own model")
    with pytest.raises(Unavailable):
        registry.fetch("other.bin")
    assert under(data) == {"model.onnx", ".other.bin.part"}
    registry.fetch("third.bin")
    clean("--downloads", "--yes")
    assert under(data) == {"model.onnx"}
    assert mine.read_bytes() == b"my own model"
    out = capsys.readouterr().out
    assert f"left in {data}: model.onnx (not the file that the suite downloads)\n" in out
    mine.write_bytes(b"the model")
    clean("--downloads", "--yes")
    assert under(data) == set()


@links
def test_a_download_that_is_a_link_and_one_under_way_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    register(monkeypatch, entry("model.onnx", b"the model"), entry("other.bin", b"other"))
    store = place(tmp_path / "store" / "model.onnx", b"the model")
    data.mkdir()
    (data / "model.onnx").symlink_to(store)
    part = place(data / ".other.bin.part")
    with cache.lock("other.bin"):
        clean("--downloads", "--yes")
    assert (data / "model.onnx").read_bytes() == b"the model"
    assert part.exists()
    left = "model.onnx (a link), .other.bin.part (in use by another process)"
    assert f"left in {data}: {left}\n" in capsys.readouterr().out


@links
def test_the_size_of_what_goes_is_that_of_the_files_in_it_and_not_of_what_they_link_to(
    tmp_path: Path, derived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place(derived / "features" / f"{HEX}.npz", bytes(1500))
    scratch = derived / "prepared" / f".{HEX}-s8-{HEX}-2-1.calibration"
    place(scratch / "deep" / "a.bin", bytes(500))
    (scratch / "link").symlink_to(place(tmp_path / "precious.bin", bytes(10**6)))
    link = (scratch / "link").lstat().st_size
    clean()
    assert capsys.readouterr().out == f"removed {derived} (2 kB)\n"
    assert cleaning.size_of(tmp_path) == 10**6 and link < 500


def test_every_folder_of_the_cache_is_known_to_it() -> None:
    folders = {
        cache.FEATURES,
        cache.PREPARED,
        cache.TENSORRT,
        cache.SHIPPED,
        cache.LOCKS,
        cache.TIMES,
    }
    assert {*cleaning.MADE, cache.LOCKS} == folders
