"""Caches that are damaged, contended for or can't be written: features and prepared models."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tiny
from shared_data import POCKET_FILE, PROJECT, pocket, reading

from bertsquad.assets.cache import cache_folder, data_folder, derived, derived_model, kept
from bertsquad.files import write_whole
from bertsquad.squad import datasets, features
from bertsquad.squad.features import Features
from bertsquad.squad.mlperf import MlperfFeatures

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits and signals")

#: Builds the pocket set's features, or an int8 model, as the suite does, and notes that it did.
MAKE_FEATURES = """
from bertsquad.squad import datasets
from bertsquad.squad.mlperf import MlperfReading
from shared_data import POCKET_FILE, pocket, reading
build = MlperfReading.build
def noted(*arguments):
    note()
    return build(*arguments)
MlperfReading.build = noted
def make():
    return datasets.cached_features(pocket(), reading(), POCKET_FILE)[1]
"""
MAKE_MODEL = """
import preparing
opens = preparing.Opens()
def noted(path):
    note()
    return opens(path)
def make():
    return preparing.ready(folder / "a.onnx", "int8", noted).path
"""
#: Waits until all are there, so that they really contend.
TOGETHER = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
def note():
    with (folder / "made").open("a") as file:
        file.write("once\\n")
{make}
(folder / f"ready-{{sys.argv[2]}}").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
print(make())
"""
#: Can write no file of more than so many bytes, as on a disk that is full.
LIMITED = """
import pathlib, resource, sys
from bertsquad.errors import SuiteError
folder = pathlib.Path(sys.argv[1])
def note():
    pass
{make}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    make()
except SuiteError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "derived"


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    folders = os.pathsep.join([str(PROJECT), str(PROJECT / "tests" / "support")])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": folders, "ORT_DISABLE_TELEMETRY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files(folder: Path) -> list[str]:
    """What lies in a cache, half files included, locks left out."""
    return sorted(f.name for f in folder.rglob("*") if f.is_file() and "locks" not in f.parts)


def pocket_again() -> tuple[Features, Path]:
    return datasets.cached_features(pocket(), reading(), POCKET_FILE)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def age(path: Path) -> None:
    """As of a version that had an array less."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if "max" not in name}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("damage", "state"), [(cut, "damaged"), (empty, "damaged"), (flip, "damaged"), (age, "older")]
)
def test_features_that_are_damaged_or_older_are_rebuilt_with_a_warning(
    damage: Callable[[Path], None], state: str
) -> None:
    first, path = pocket_again()
    damage(path)
    with pytest.warns(UserWarning) as caught:
        again, same_path = pocket_again()
    text = f"{path} was rebuilt, since the cached copy was {state}"
    assert [str(one.message) for one in caught if one.category is UserWarning] == [text]
    assert (same_path, again.tokens.tolist()) == (path, first.tokens.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pocket_again()[0].tokens.tolist() == first.tokens.tolist()


def test_a_rebuilt_copy_is_no_error_where_warnings_are() -> None:
    first, path = pocket_again()
    cut(path)
    with pytest.warns(UserWarning, match="was rebuilt"):
        warnings.simplefilter("error")
        assert pocket_again()[0].tokens.tolist() == first.tokens.tolist()


class Bomb:
    """Unpickling it makes the folder `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("inside", [False, True], ids=["as the file", "as its arrays"])
def test_a_pickle_in_the_place_of_features_is_rebuilt_and_never_unpickled(
    tmp_path: Path, inside: bool
) -> None:
    first, path = pocket_again()
    bomb = pickle.dumps(Bomb(tmp_path / "unpickled"))
    path.write_bytes(bomb)
    if inside:
        with zipfile.ZipFile(path, "w") as archive:
            for field in fields(MlperfFeatures):
                archive.writestr(f"{field.name}.npy", bomb)
    with pytest.warns(UserWarning, match="was rebuilt"):
        assert pocket_again()[0].tokens.tolist() == first.tokens.tolist()
    assert not (tmp_path / "unpickled").exists()


def test_what_a_killed_process_left_beside_the_features_is_removed(cache: Path) -> None:
    key = features.cache_key(POCKET_FILE, reading().key)
    folder = cache / "features"
    folder.mkdir(parents=True)
    (folder / f".{key}.abc.npz").write_bytes(b"half")
    (folder / ".other.abc.npz").write_bytes(b"half")
    _, path = pocket_again()
    assert files(cache) == [".other.abc.npz", path.name]


@pytest.mark.parametrize("make", [MAKE_FEATURES, MAKE_MODEL], ids=["features", "model"])
def test_two_processes_make_a_file_once_and_nobody_sees_half_of_it(
    tmp_path: Path, cache: Path, make: str
) -> None:
    tiny.model(tmp_path / "a.onnx", wide=True)
    processes = [start(TOGETHER.format(make=make), tmp_path, index) for index in range(2)]
    seen: set[bytes] = set()
    try:
        while len(list(tmp_path.glob("ready-*"))) < 2:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        while any(process.poll() is None for process in processes):
            for path in (*cache.glob("features/[!.]*"), *cache.glob("prepared/[!.]*")):
                if path.suffix != ".json":
                    seen.add(path.read_bytes())
            time.sleep(0.001)
        results = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [err for _, err in results] == ["", ""]
    (path,) = {Path(out.strip()) for out, _ in results}
    assert seen <= {path.read_bytes()}
    assert (tmp_path / "made").read_text("utf-8") == "once\n"


@posix
@pytest.mark.parametrize(
    ("make", "size"), [(MAKE_FEATURES, 100_000), (MAKE_MODEL, 1_000)], ids=["features", "model"]
)
def test_a_full_disk_is_said_in_a_sentence_and_leaves_nothing(
    tmp_path: Path, cache: Path, make: str, size: int
) -> None:
    tiny.model(tmp_path / "a.onnx", wide=True)
    out, err = start(LIMITED.format(make=make), tmp_path, size).communicate(timeout=60)
    assert err == ""
    assert f"{cache}" in out
    assert "can't be written (File too large): free some space, or set BERTSQUAD_CACHE" in out
    assert out.count("\n") == 1
    assert files(cache) == []


#: Makes them as a user to whom another user's files are closed, root included.
AS_ANOTHER = """
import ctypes, pathlib, sys
from bertsquad.errors import SuiteError
folder = pathlib.Path(sys.argv[1])
def note():
    (folder / "made").touch()
{make}
class Capabilities(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
none = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capset(ctypes.byref(Capabilities(0x20080522, 0)), none)
try:
    make()
except SuiteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize("make", [MAKE_FEATURES, MAKE_MODEL], ids=["features", "model"])
@pytest.mark.parametrize("kind", ["lock", "file", "facts"])
def test_another_users_file_is_told_as_that_and_left_as_it_is(
    tmp_path: Path, cache: Path, make: str, kind: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    tiny.model(tmp_path / "a.onnx", wide=True)
    out, err = start(LIMITED.format(make=make), tmp_path, 1 << 30).communicate(timeout=60)
    assert (out, err) == ("", "")
    derived = [path for path in cache.rglob("*") if path.is_file()]
    named = {
        "lock": [path for path in derived if path.suffix == ".lock"],
        "file": [path for path in derived if path.suffix in (".npz", ".onnx")],
        "facts": [path for path in derived if path.suffix == ".json"],
    }[kind]
    if not named:
        pytest.skip("features have no facts")
    before = {path: path.read_bytes() for path in derived}
    for path in named:
        os.chown(path, 65_534, -1)
        path.chmod(0o600)
    out, err = start(AS_ANOTHER.format(make=make), tmp_path).communicate(timeout=60)
    assert err == ""
    assert out.count("\n") == 1
    assert any(f"since {path} belongs to " in out for path in named)
    assert "Permission denied" in out and "BERTSQUAD_CACHE" in out
    assert "damaged" not in out and "free some space" not in out
    assert not (tmp_path / "made").exists()
    assert {path: path.read_bytes() for path in before} == before


def test_a_cache_that_vanishes_while_a_file_is_made_is_made_again(cache: Path) -> None:
    path = cache / "features" / "a.txt"
    times = []

    def make(path: Path) -> str:
        times.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / "half").open("w") as file:
            if len(times) == 1:
                shutil.rmtree(cache)
            file.write("made")
        (path.parent / "half").replace(path)
        return "made"

    found = derived(path, lambda path: path.read_text("utf-8"), make)
    assert (found.content, found.rebuilt) == ("made", None)
    assert path.read_text("utf-8") == "made"


def test_a_model_that_vanishes_before_it_is_described_is_made_again(cache: Path) -> None:
    times = []

    def make(path: Path) -> dict[str, Any]:
        times.append(path)
        write_whole(path, lambda file: file.write_text("model", "utf-8"))
        if len(times) == 1:
            shutil.rmtree(cache)
        return {"equal": True}

    found = derived_model("a.onnx", None, make)
    assert found.path.read_text("utf-8") == "model"
    assert derived_model("a.onnx", None, make).content == found.content
    assert len(times) == 2


def test_both_folders_are_the_users_own_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("BERTSQUAD_CACHE", "BERTSQUAD_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert data_folder() == cache_folder().parent
    assert data_folder().name == "bertsquad"


def test_what_is_kept_is_made_again_where_its_file_has_gone(tmp_path: Path) -> None:
    made = []

    def make(name: str) -> Path:
        made.append(name)
        (tmp_path / name).touch()
        return tmp_path / name

    get = kept(make, lambda path: [path])
    assert get("a") == get("a") == tmp_path / "a"
    get("b")
    (tmp_path / "a").unlink()
    assert get("a").is_file()
    assert get("b").is_file()
    assert made == ["a", "b", "a"]


def pytest_session(folder: Path, model: Path) -> tuple[str, dict[str, Any]]:
    """Run an accuracy case of an int8 model; the terminal's text and the result's provenance."""
    options = "--dataset pocket --device cpu --precision int8 -k offline --output out".split()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(PROJECT / "benchmarks/test_accuracy.py"), "--model", str(model), *options],
        cwd=folder,
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (result,) = (folder / "out").rglob("result.json")
    return done.stdout, json.loads(result.read_bytes())["provenance"]


@pytest.mark.slow
def test_a_pytest_session_with_damaged_caches_passes_and_tells_its_user(
    tmp_path: Path, cache: Path
) -> None:
    model = tiny.model(tmp_path / "a.onnx", wide=True)
    out, first = pytest_session(tmp_path, model)
    assert "rebuilt" not in out + first["model_preparation"]
    assert first["model_rebuilt"] is None
    key = features.cache_key(POCKET_FILE, reading().key)
    cut(cache / "features" / f"{key}.npz")
    (prepared,) = cache.rglob("prepared/*.onnx")
    flip(prepared)
    out, again = pytest_session(tmp_path, model)
    assert out.count("npz was rebuilt, since the cached copy was damaged") == 1
    assert out.count("(rebuilt, since the cached copy was damaged)") == 1
    assert again["model_rebuilt"] == "damaged"
    assert again["model_preparation"] == first["model_preparation"]
    assert "Traceback" not in out
    _, third = pytest_session(tmp_path, model)
    assert third["model_rebuilt"] is None
    assert third["model_preparation"] == first["model_preparation"]
