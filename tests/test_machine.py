"""What is said of this machine, with the tools that it asks replaced by real small programs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from bertsquad import machine

ROOT = Path(__file__).resolve().parents[1]

posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    cached = (machine.gpu_names, machine.git_revision)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def driver_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of the driver's `nvidia-smi`, the only program on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(script: str) -> None:
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    return put


@posix
def test_gpus_are_those_that_the_driver_lists(driver_tool: Callable[[str], None]) -> None:
    driver_tool("echo 'NVIDIA H100 80GB HBM3'; echo ' Tesla T4 '; echo")
    assert machine.gpu_names() == ("NVIDIA H100 80GB HBM3", "Tesla T4")


@posix
def test_a_driver_that_fails_lists_no_gpu(driver_tool: Callable[[str], None]) -> None:
    driver_tool("echo 'NVIDIA-SMI has failed'; exit 9")
    assert machine.gpu_names() == ()


@posix
def test_without_a_driver_there_is_no_gpu(driver_tool: Callable[[str], None]) -> None:
    assert machine.gpu_names() == ()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_are_those_that_this_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from bertsquad import machine; print(machine.cores())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "1"
    assert machine.cores() == len(os.sched_getaffinity(0))


def test_versions_are_of_what_is_installed() -> None:
    versions = machine.versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["pytest"] == pytest.__version__
    assert versions["mlcommons-loadgen"] == version("mlcommons-loadgen")
    assert None not in versions.values()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Within a hook of git these would lead to the project's own clone.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@localhost"]
    (tmp_path / "file").write_text("one\n")
    for command in ("init --quiet", "add file", "commit --quiet --no-verify -m one"):
        try:
            subprocess.run([*git, *command.split()], check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs git")
    return tmp_path


def test_a_clone_is_known_by_its_commit(clone: Path) -> None:
    head = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    revision = machine.git_revision(clone)
    assert revision is not None
    assert len(revision) >= 12
    assert head.stdout.startswith(revision)


def test_a_changed_clone_is_called_dirty(clone: Path) -> None:
    (clone / "file").write_text("two\n")
    assert str(machine.git_revision(clone)).endswith("-dirty")


def test_a_folder_within_somebody_elses_clone_has_no_revision(clone: Path) -> None:
    (clone / "installed").mkdir()
    assert machine.git_revision(clone / "installed") is None
