"""An ONNX file is read, with the files of its weights, or refused in a sentence."""

import os
from pathlib import Path

import onnx
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from bertsquad.errors import SuiteError
from bertsquad.models.onnx_file import load_model
from bertsquad.models.signature import examine


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.onnx can't be read: No such file"):
        tiny.inspect(tmp_path / "nowhere.onnx")


def test_a_truncated_model_is_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SuiteError, match=r"a\.onnx is not an ONNX model, or is truncated"):
        tiny.inspect(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    with pytest.raises(SuiteError, match=r"a\.onnx is empty"):
        tiny.inspect(tmp_path / "a.onnx")


def test_a_model_is_read_without_the_weights_beside_it(tmp_path: Path) -> None:
    expected = tiny.inspect(tiny.model(tmp_path / "b.onnx"))
    path = tiny.model(tmp_path / "a.onnx", external=True)
    stored = [t for t in load_model(path, weights=False).graph.initializer if t.external_data]
    assert stored
    assert not any(tensor.raw_data for tensor in stored)
    assert examine(path) == (expected, [tmp_path / "a.onnx.data"])


def test_weights_beside_a_model_that_are_missing_are_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    (tmp_path / "a.onnx.data").unlink()
    with pytest.raises(SuiteError, match=r"a\.onnx needs .*a\.onnx\.data.* is missing"):
        tiny.inspect(path)


@pytest.mark.parametrize("location", [".", "a" * 5000], ids=["a folder", "too long a name"])
def test_weights_in_what_can_be_no_file_count_as_missing(tmp_path: Path, location: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    proto = load_model(path, weights=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(SuiteError, match="is missing") as caught:
        tiny.inspect(path)
    assert len(str(caught.value)) < 1000


def test_weights_beside_a_model_that_are_truncated_are_named(tmp_path: Path) -> None:
    path, beside = tiny.model(tmp_path / "a.onnx", external=True), tmp_path / "a.onnx.data"
    size = beside.stat().st_size
    beside.write_bytes(beside.read_bytes()[:-1])
    with pytest.raises(SuiteError, match=f"truncated: expected {size} bytes, found {size - 1}"):
        tiny.inspect(path)


@pytest.mark.parametrize("place", ["initializer", "node", "branch"])
@pytest.mark.parametrize(
    "location",
    [
        *("/etc/passwd", "../a.onnx.data", "below/../../a.onnx.data", "..", ""),
        *("C:\\weights.bin", "..\\weights.bin", "//server/share/weights.bin", "a\0b"),
    ],
)
def test_weights_outside_of_the_models_folder_are_refused(
    tmp_path: Path, location: str, place: str
) -> None:
    path = tiny.model(tmp_path / "model" / "a.onnx")
    (tmp_path / "a.onnx.data").write_bytes(b"private" * 1000)
    proto = onnx.load(str(path))
    tensor = onnx.TensorProto(
        name="away", dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    else:
        node = helper.make_node("Constant", [], ["away"], value=tensor)
        if place == "branch":
            graph = helper.make_graph([node], "branch", [], [])
            node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)
        proto.graph.node.append(node)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(SuiteError, match="in its own folder, but it names") as caught:
        tiny.inspect(path)
    assert f"{location!r}" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_weights_behind_a_link_count_as_being_where_it_points(tmp_path: Path) -> None:
    real = tiny.model(tmp_path / "blobs" / "a.onnx", external=True)
    beside = real.with_name("a.onnx.data")
    path = tmp_path / "model" / "a.onnx"
    path.parent.mkdir()
    path.with_name("a.onnx.data").symlink_to(beside)
    path.symlink_to(real)  # as in a cache that keeps all files in one place
    assert tiny.inspect(path) == tiny.inspect(real)
    path.unlink()
    path.write_bytes(real.read_bytes())
    with pytest.raises(SuiteError, match="in its own folder, but it names"):
        tiny.inspect(path)


@pytest.mark.parametrize("entry", ["offset", "length"])
def test_weights_at_a_place_that_is_no_number_are_refused(tmp_path: Path, entry: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    proto = load_model(path, weights=False)
    stored = next(t for t in proto.graph.initializer if t.external_data)
    next(e for e in stored.external_data if e.key == entry).value = "far"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(SuiteError, match=r"a\.onnx is not an ONNX model, or is damaged"):
        tiny.inspect(path)


@given(content=st.binary(max_size=200) | st.text().map(str.encode))
@settings(max_examples=50, deadline=None)
def test_a_file_of_anything_is_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.onnx"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=r"anything\.onnx") as caught:
        tiny.inspect(path)
    assert "\n" not in str(caught.value)
