"""What a result says of versions and of the clone it was made in."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nvidia_smi
import pytest

from bertsquad.machine import provenance
from bertsquad.machine.distributions import owner


def test_versions_are_of_what_is_installed() -> None:
    versions = provenance.versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["pytest"] == pytest.__version__
    assert versions["mlcommons-loadgen"] == version("mlcommons-loadgen")
    assert None not in versions.values()


def test_a_version_is_that_of_the_module_that_ran() -> None:
    name = owner("onnxruntime")
    ran = {"onnxruntime": "1.0.7", "mlperf_loadgen": "9.8"}
    assert provenance.versions(ran)[name] == "1.0.7"
    assert provenance.versions(ran)["mlcommons-loadgen"] == "9.8"
    assert provenance.facts(ran)["runtime"] == name
    assert list(provenance.versions(ran)) == list(provenance.versions())


def test_a_module_that_only_this_process_has_is_asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "__version__", "0.0.1")
    assert provenance.versions()["pytest"] == "0.0.1"
    assert provenance.versions({"pytest": "0.0.2"})["pytest"] == "0.0.2"


def test_a_module_of_another_release_than_its_name_says_is_told() -> None:
    name = owner("onnxruntime")
    known = version(name)
    assert provenance.claimed({"onnxruntime": "1.0.7"}) == {name: known}
    assert provenance.claimed({"onnxruntime": known}) == {}
    assert provenance.claimed({"onnxruntime": f"{known}.dev20260101"}) == {}
    assert provenance.claimed({"onnxruntime": f"{known}+cu12"}) == {}
    assert provenance.claimed({"mlperf_loadgen": "", "not_installed": "1"}) == {}


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
    revision = provenance.git_revision(clone)
    assert revision is not None
    assert len(revision) >= 12
    assert head.stdout.startswith(revision)


def test_a_changed_clone_is_called_dirty(clone: Path) -> None:
    (clone / "file").write_text("two\n")
    assert str(provenance.git_revision(clone)).endswith("-dirty")


def test_a_folder_within_somebody_elses_clone_has_no_revision(clone: Path) -> None:
    (clone / "installed").mkdir()
    assert provenance.git_revision(clone / "installed") is None


def test_asking_for_the_commit_writes_nothing_into_the_clone(clone: Path) -> None:
    index = clone / ".git" / "index"
    os.utime(clone / "file", ns=(0, 0))  # what git would note in its index
    before = index.read_bytes()
    assert provenance.git_revision(clone) is not None
    assert index.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_gpu_counts_once_however_many_instances_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    used = provenance.gpus_used((0, 1, 0, 1))
    assert used == {"gpus": ["Tesla T4", "NVIDIA H100 80GB HBM3"], "gpu_ids": ["2", "0"]}
    assert provenance.gpus_used((1, 1, 1))["gpu_ids"] == ["0"]
