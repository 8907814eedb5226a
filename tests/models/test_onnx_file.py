"""An ONNX file is read, with the files of its weights, or refused in a sentence."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.numpy_helper
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from bertsquad.errors import SuiteError
from bertsquad.models import onnx_file
from bertsquad.models.onnx_file import load_model, save_model
from bertsquad.models.signature import examine
from bertsquad.models.zoo import files_of, find, locate
from bertsquad.runtime.sessions import open_on_cpu

links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


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


@dataclass(frozen=True)
class Layout:
    """How a model's two files lie, with links, and by which path it is opened."""

    named: str
    files: dict[str, str]
    links: dict[str, str]
    opened: str
    location: str = "a.data"


LAYOUTS = {
    "Hugging Face's cache": Layout(
        "snapshots/0a1b/onnx/model.onnx",
        {"graph": "blobs/4e11", "weights": "blobs/77ff"},
        {
            "snapshots/0a1b/onnx/model.onnx": "../../../blobs/4e11",
            "snapshots/0a1b/onnx/a.data": "../../../blobs/77ff",
        },
        "snapshots/0a1b/onnx/model.onnx",
    ),
    "weights in a folder below": Layout(
        "snapshot/model.onnx",
        {"graph": "blobs/4e11", "weights": "blobs/77ff"},
        {"snapshot/model.onnx": "../blobs/4e11", "snapshot/sub/w": "../../blobs/77ff"},
        "snapshot/model.onnx",
        "./sub/w",
    ),
    "weights below the folder that the link leads to": Layout(
        "here/model.onnx",
        {"graph": "store/4e11", "weights": "store/77/ff"},
        {"here/model.onnx": "../store/4e11", "here/a.data": "../store/77/ff"},
        "here/model.onnx",
    ),
    "weights only where the link leads to": Layout(
        "here/model.onnx",
        {"graph": "real/one.onnx", "weights": "real/a.data"},
        {"here/model.onnx": "../real/one.onnx"},
        "real/one.onnx",
    ),
    "weights where a link between leads to": Layout(
        "here/model.onnx",
        {"graph": "blobs/4e11", "weights": "blobs/77ff"},
        {
            "here/model.onnx": "../there/other.onnx",
            "there/other.onnx": "../blobs/4e11",
            "there/a.data": "../blobs/77ff",
        },
        "there/other.onnx",
    ),
    "a folder that is a link": Layout(
        "latest/model.onnx",
        {"graph": "v2/model.onnx", "weights": "v2/a.data"},
        {"latest": "v2"},
        "v2/model.onnx",
    ),
    "a link beside what it leads to": Layout(
        "model.onnx",
        {"graph": "model.onnx", "weights": "v2.data"},
        {"a.data": "v2.data"},
        "model.onnx",
    ),
}


def laid_out(folder: Path, layout: Layout) -> Path:
    """A model in these files and links; the path that names it."""
    made = tiny.model(folder / "made" / "a.onnx", wide=True, external=True)
    proto = load_model(made, weights=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = layout.location
    made.write_bytes(proto.SerializeToString())
    for kind, source in {"graph": made, "weights": made.with_name("a.onnx.data")}.items():
        place = folder / layout.files[kind]
        place.parent.mkdir(parents=True, exist_ok=True)
        source.rename(place)
    for link, target in layout.links.items():
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).symlink_to(target)
    return folder / layout.named


def answers(path: Path) -> bool:
    """Whether ONNX Runtime takes the model at `path`, and it calculates what it should."""
    ones = np.ones((2, 40), np.int64)
    start, _ = open_on_cpu(path, 1)(dict.fromkeys(tiny.INPUTS, ones))
    return np.allclose(start, tiny.logits(ones, ones, ones)[..., 0], rtol=0, atol=1e-4)


@links
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_weights_are_found_beside_the_model_or_beside_what_it_links_to(
    tmp_path: Path, layout: Layout
) -> None:
    model = find(str(laid_out(tmp_path, layout)))
    located = locate(model)
    assert model.name == "model"
    assert located.path == tmp_path / layout.opened
    assert len(located.files) == 2
    assert answers(located.path)
    whole = load_model(located.path)
    matrices = [onnx.numpy_helper.to_array(tensor) for tensor in whole.graph.initializer]
    assert any(np.array_equal(matrix, tiny.WIDE) for matrix in matrices)


@links
@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("../../../../elsewhere/secret", "in its own folder, but it names"),
        ("a.data", "in its own folder, but it names|is missing"),
        ("../../../blobs/nothing", "is missing"),
    ],
    ids=["elsewhere", "in a circle", "nowhere"],
)
def test_a_link_to_no_weights_or_out_of_both_folders_is_refused(
    tmp_path: Path, target: str, complaint: str
) -> None:
    layout = LAYOUTS["Hugging Face's cache"]
    at = tmp_path / "cache"
    path = laid_out(at, layout)
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(bytes(10_000))
    link = path.with_name("a.data")
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(SuiteError, match=complaint) as caught:
        locate(find(str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_weights_that_have_two_names_are_read(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True, external=True)
    (tmp_path / "again").hardlink_to(tmp_path / "a.onnx.data")  # as a cache that copies nothing
    stored = load_model(path).graph.initializer
    assert any(np.array_equal(onnx.numpy_helper.to_array(one), tiny.WIDE) for one in stored)


@pytest.mark.parametrize("with_length", [True, False])
def test_weights_whose_length_is_not_said_reach_to_the_end(
    tmp_path: Path, with_length: bool
) -> None:
    value = np.arange(8, dtype=np.float32)
    tensor = onnx.numpy_helper.from_array(value, "w")
    onnx.external_data_helper.set_external_data(tensor, "w", 4, 32 if with_length else None)
    tensor.ClearField("raw_data")
    path = tiny.model(tmp_path / "a.onnx")
    proto = onnx.load(str(path))
    proto.graph.initializer.append(tensor)
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "w").write_bytes(bytes(4) + value.tobytes())
    found = load_model(path).graph.initializer[-1]
    assert onnx.numpy_helper.to_array(found).tolist() == value.tolist()
    assert not found.external_data


def test_a_model_too_large_for_one_file_is_written_as_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny.model(tmp_path / "a.onnx", wide=True))
    save_model(model, tmp_path / "one.onnx")
    monkeypatch.setattr(onnx_file, "MOST_INSIDE", 1000)
    two = tmp_path / "two" / "b.onnx"
    save_model(model, two)
    assert sorted(file.name for file in two.parent.iterdir()) == ["b.onnx", "b.onnx.data"]
    assert not (tmp_path / "one.onnx.data").exists()
    assert [Path(one.path).name for one in files_of(two).files] == ["b.onnx", "b.onnx.data"]
    assert answers(two)
    places = [
        int(entry.value)
        for tensor in load_model(two, weights=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert len(places) > 1
    assert not any(place % 4096 for place in places)


@pytest.mark.parametrize("value", ["far", "-4", "9" * 5000])
@pytest.mark.parametrize("entry", ["offset", "length"])
def test_weights_at_a_place_that_is_no_number_are_refused(
    tmp_path: Path, entry: str, value: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    proto = load_model(path, weights=False)
    stored = next(t for t in proto.graph.initializer if t.external_data)
    next(e for e in stored.external_data if e.key == entry).value = value
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
