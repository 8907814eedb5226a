"""Whose a module is, by the metadata of what is installed."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertsquad.machine.distributions import installed, owner, owners, reinstall

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions, each with a name, a version and a module, where there are no others.

    Half of all wheels say in top_level.txt which module is theirs; the others' files say it.
    """
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    owners.cache_clear()

    def one(name: str, version: str, module: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        if len(name) % 2:
            (folder / "top_level.txt").write_text(f"{module}\n")
        else:
            (folder / "RECORD").write_text(f"{module}/__init__.py,,\n{folder.name}/METADATA,,\n")

    yield one
    owners.cache_clear()


def test_a_module_is_of_whatever_distribution_brings_it(install: Install) -> None:
    install("onnxruntime-openvino", "1.24.1", "onnxruntime")
    assert owners("onnxruntime") == ("onnxruntime-openvino",)
    assert owner("onnxruntime") == "onnxruntime-openvino"
    assert reinstall("onnxruntime") == "pip install --force-reinstall onnxruntime-openvino"
    assert installed("onnxruntime-openvino") == "1.24.1"
    assert installed("onnxruntime") is None


@pytest.mark.parametrize("name", ["ort-nightly-directml", "Onnxruntime_QNN", "onnxruntime-gpu"])
def test_several_that_bring_one_module_are_all_named(install: Install, name: str) -> None:
    install("onnxruntime", "1.31.1", "onnxruntime")
    install(name, "1.2", "onnxruntime")
    assert owners("onnxruntime") == tuple(sorted(("onnxruntime", name.lower().replace("_", "-"))))


def test_a_name_that_only_looks_like_it_owns_nothing(install: Install) -> None:
    install("onnxruntime-gpu", "1.31.1", "onnxruntime")
    for name in ("onnxruntime-ep-openvino", "onnxruntime-genai", "onnxruntime-extensions"):
        install(name, "1.8.1", name.replace("-", "_"))
    assert owners("onnxruntime") == ("onnxruntime-gpu",)
    assert owners("onnxruntime_ep_openvino") == ("onnxruntime-ep-openvino",)


def test_a_module_of_nobody_has_its_usual_name(install: Install) -> None:
    assert owners("mlperf_loadgen") == ()
    assert owner("mlperf_loadgen") == "mlcommons-loadgen"
    assert owner("onnxruntime") == "onnxruntime"
