"""What a worker says of libraries that can't be loaded: one sentence, with the way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workers import start

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.machine.distributions import owner
from bertsquad.worker.handle import Worker, try_devices

ROOT = Path(__file__).resolve().parents[2]

AGAIN = f"pip install --force-reinstall {owner('onnxruntime')}"

#: What stands in a module before the real one, or in `sitecustomize`, and what is said of it.
BROKEN = {
    "a-library-is-missing": (
        "onnxruntime/__init__.py",
        "raise ImportError('libcudart.so.99: cannot open shared object file')",
        "onnxruntime can't be loaded (ImportError: libcudart.so.99: cannot open shared object "
        f"file): install what it lacks, or all of it again with {AGAIN}",
    ),
    "a-library-of-its-own-is-missing": (
        "onnxruntime.py",
        "import ctypes; ctypes.CDLL('libnowhere.so')",
        "onnxruntime can't be loaded (OSError: libnowhere.so: cannot open shared object file",
    ),
    "another-abi": (
        "onnxruntime.py",
        "raise RuntimeError('module compiled against ABI version 0x1000009\\nbut this is 0x2')",
        "onnxruntime can't be loaded (RuntimeError: module compiled against ABI version "
        "0x1000009 but this is 0x2): ",
    ),
    "what-it-needs-is-missing": (
        "onnxruntime.py",
        "import flatbuffers_that_nobody_has",
        "onnxruntime can't be loaded (ModuleNotFoundError: No module named 'flatbuffers_that",
    ),
    "another-module-hides-it": ("onnxruntime/__init__.py", "", "hides what is installed: "),
    "in-name-only": (
        "sitecustomize.py",
        "import importlib.machinery, sys\n"
        "class Hollow:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            return importlib.machinery.ModuleSpec(name, None, is_package=True)\n"
        "sys.meta_path.insert(0, Hollow)\n",
        "onnxruntime is there in name only, as when its files were removed with another wheel: "
        + AGAIN,
    ),
    "no-file-is-left": (
        "sitecustomize.py",
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            raise ModuleNotFoundError('No module named onnxruntime', name=name)\n"
        "sys.meta_path.insert(0, Gone)\n",
        "onnxruntime is there in name only, as when its files were removed with another wheel: "
        + AGAIN,
    ),
    "loadgen": (
        "mlperf_loadgen.py",
        "raise ImportError('GLIBCXX_3.4.99 not found')",
        "mlperf_loadgen can't be loaded (ImportError: GLIBCXX_3.4.99 not found): install what it "
        "lacks, or all of it again with pip install --force-reinstall mlcommons-loadgen",
    ),
    "onnx": ("onnx.py", "1 / 0", "onnx can't be loaded (ZeroDivisionError: division by zero): "),
    "the-process-ends": (
        "onnxruntime.py",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "onnxruntime can't be loaded: the process that loads it was killed by signal 11 (SIGSEGV): "
        + AGAIN,
    ),
    "the-process-exits": (
        "onnxruntime.py",
        "import os; os._exit(3)",
        "onnxruntime can't be loaded: the process that loads it ended with status 3: " + AGAIN,
    ),
}


#: The real one, which says of itself that it is of another version.
REAL = """
import sys
sys.path.remove({folder!r})
del sys.modules["onnxruntime"]
import onnxruntime
onnxruntime.__version__ = "1.0.7"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on a worker's import path."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(tmp_path)  # where a core file would go
    return folder


def write(path: Path, name: str, text: str) -> None:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_library_is_one_sentence_for_every_device(path: Path, case: str) -> None:
    name, text, sentence = BROKEN[case]
    write(path, name, text)
    reasons = try_devices().reasons
    assert list(reasons) == list(DEVICES)
    (reason,) = set(reasons.values())
    assert reason is not None
    assert sentence in reason
    assert "pip install --force-reinstall" in reason
    assert "\n" not in reason
    assert "worker.log" not in reason  # which is gone


@pytest.mark.parametrize("case", ["a-library-is-missing", "in-name-only", "the-process-ends"])
def test_a_case_fails_with_the_same_sentence(path: Path, tmp_path: Path, case: str) -> None:
    name, text, sentence = BROKEN[case]
    write(path, name, text)
    with pytest.raises(SuiteError) as caught:
        start(tmp_path)
    assert str(caught.value).startswith(sentence)


def test_the_doctor_goes_on_to_its_end(path: Path) -> None:
    write(path, "onnxruntime.py", "import os; os.abort()")
    paths = os.pathsep.join([str(ROOT), str(path)])
    done = subprocess.run(
        [sys.executable, "-m", "bertsquad", "doctor"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.partition("devices:\n")[2].partition("advice:")[0].splitlines()
    assert [line.split(":")[0].strip() for line in shown] == list(DEVICES)
    assert all(": no: onnxruntime can't be loaded: the process" in line for line in shown)


def test_a_worker_tells_the_versions_of_what_it_loaded(path: Path, tmp_path: Path) -> None:
    write(path, "onnxruntime.py", REAL.format(folder=str(path)))
    worker = Worker(tmp_path / "worker.log")
    found = worker.try_devices()
    worker.close()
    assert found.reasons["cpu"] is None
    assert found.versions["onnxruntime"] == "1.0.7"
    assert found.versions.keys() == {"numpy", "onnx", "onnxruntime"}
