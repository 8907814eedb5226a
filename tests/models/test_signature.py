"""A model's inputs and outputs are matched by role, and what is no extractive-QA model is told."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from shared_data import POCKET, STANDINS, needs_standins

from bertsquad.errors import SuiteError
from bertsquad.models.onnx_file import load_model
from bertsquad.models.products import PRODUCTS
from bertsquad.models.signature import examine


def test_the_signature_tells_roles_types_and_sizes(tmp_path: Path) -> None:
    plain = tiny.inspect(tiny.model(tmp_path / "a.onnx"))
    assert (plain.ids, plain.mask, plain.segments) == tiny.INPUTS
    assert (plain.start, plain.end) == tiny.OUTPUTS
    assert (plain.dtype, plain.batch, plain.length) == ("int64", None, None)
    other = tiny.inspect(tiny.model(tmp_path / "b.onnx", dtype="int32", batch=1, length=384))
    assert (other.dtype, other.batch, other.length) == ("int32", 1, 384)


@pytest.mark.parametrize(
    ("variant", "counts"),
    [
        ({}, (1, 0, 0)),
        ({"wide": True}, (2, 0, 0)),
        ({"quantised": True}, (1, 1, 0)),
        ({"half": True}, (1, 0, 1)),
        ({"product": False}, (0, 0, 0)),
    ],
)
def test_products_are_counted_by_what_they_are_stored_in(
    tmp_path: Path, variant: dict[str, Any], counts: tuple[int, int, int]
) -> None:
    found = tiny.inspect(tiny.model(tmp_path / "a.onnx", **variant))
    assert (found.products, found.quantised, found.half) == counts


@pytest.mark.parametrize(
    ("op", "quantised"),
    [
        ("Attention", 0),
        ("FusedMatMul", 0),
        ("Gemm", 0),
        ("MatMulInteger", 1),
        ("MatMulIntegerToFloat", 1),
        ("QAttention", 1),
        ("QGemm", 1),
        ("QLinearMatMul", 1),
    ],
)
def test_operators_that_are_integer_by_themselves_count_as_quantised(
    tmp_path: Path, op: str, quantised: int
) -> None:
    assert op in PRODUCTS
    path = tiny.model(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = op
    onnx.save(model, str(path))
    found = tiny.inspect(path)
    assert (found.products, found.quantised) == (1, quantised)


def test_a_product_with_only_one_dequantised_input_is_not_quantised(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=True)
    model = onnx.load(str(path))
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    quantise = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    product.input[0] = quantise.input[0]
    onnx.save(model, str(path))
    found = tiny.inspect(path)
    assert (found.products, found.quantised) == (1, 0)


def test_weights_stored_in_half_precision_but_cast_are_multiplied_in_fp32() -> None:
    found = tiny.inspect(POCKET / "minilm-squad.onnx")
    assert (found.products, found.quantised, found.half) == (49, 0, 0)


@needs_standins
def test_all_products_of_the_fake_quantised_stand_in_are_quantised() -> None:
    found = tiny.inspect(STANDINS / "bert_tiny_fakequant384.onnx")
    assert found.quantised == found.products > 0
    assert found.length == 384


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids", "attention_mask", "token_type_ids"),
        ("token_type_ids", "attention_mask", "input_ids"),
        ("Input_IDs:0", "Input_Mask:0", "Segment_IDs:0"),
        ("input_ids", "attention_mask"),
    ],
)
def test_inputs_are_matched_by_name_in_any_order(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    signature = tiny.inspect(tiny.model(tmp_path / "a.onnx", inputs=inputs))
    assert "mask" in signature.mask.lower()
    assert signature.ids.lower().startswith("input_ids")
    assert {signature.ids, signature.mask, signature.segments} - {None} == set(inputs)


def test_outputs_are_matched_by_name_in_any_order(tmp_path: Path) -> None:
    signature = tiny.inspect(
        tiny.model(tmp_path / "a.onnx", outputs=("end_logits", "start_logits"))
    )
    assert (signature.start, signature.end) == ("start_logits", "end_logits")


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("inputs", [tiny.INPUTS, tiny.INPUTS[:2]])
def test_a_feed_has_the_models_names_and_type(
    tmp_path: Path, dtype: str, inputs: tuple[str, ...]
) -> None:
    signature = tiny.inspect(tiny.model(tmp_path / "a.onnx", dtype=dtype, inputs=inputs))
    ids, mask, segments = np.arange(18).reshape(3, 2, 3)
    feed = signature.feed(ids, mask, segments)
    assert {array.dtype for array in feed.values()} == {np.dtype(dtype)}
    expected = dict(zip(inputs, (ids, mask, segments), strict=False))
    assert {name: array.tolist() for name, array in feed.items()} == {
        name: array.tolist() for name, array in expected.items()
    }


def test_weights_that_an_old_file_lists_among_its_inputs_are_no_inputs(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    expected = tiny.inspect(path)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    onnx.save(model, str(path))
    assert tiny.inspect(path) == expected


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ({"inputs": ("tokens", "input_mask", "segment_ids")}, "'ids'.*tokens, input_mask"),
        ({"inputs": ("input_ids", "weights", "segment_ids")}, "'mask'.*weights"),
        ({"inputs": ("input_ids", "input_mask", "speaker")}, "at most segments.*speaker"),
        (
            {"inputs": ("input_ids", "input_mask", "segment_ids", "position_ids")},
            "at most segments.*position_ids",
        ),
        ({"outputs": ("logits",)}, "'start'.*logits"),
        ({"outputs": ("start_logits",)}, "'end'.*start_logits"),
        ({"outputs": ("start_a", "end_a", "start_b", "end_b")}, "one output.*start_b"),
        ({"dtype": "float32"}, "integer type.*found input_ids of FLOAT, input_mask of FLOAT"),
        ({"length": 128}, "exactly 128 tokens.*384"),
    ],
)
def test_a_model_that_is_no_extractive_qa_model_is_refused_with_what_was_found(
    tmp_path: Path, variant: dict[str, Any], complaint: str
) -> None:
    path = tiny.model(tmp_path / "other.onnx", **variant)
    with pytest.raises(SuiteError, match=complaint) as caught:
        tiny.inspect(path)
    assert str(path) in str(caught.value)


def test_inputs_of_different_rank_or_size_are_refused(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)
    proto = onnx.load(str(path))
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 512
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match="different fixed sizes"):
        tiny.inspect(path)
    del proto.graph.input[1].type.tensor_type.shape.dim[1]
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match=r"shape \[batch, length\].*input_mask \[\?\]"):
        tiny.inspect(path)


def changed_output(path: Path, change: Callable[[onnx.TypeProto.Tensor], object]) -> Path:
    """A tiny model whose first output is declared otherwise."""
    proto = onnx.load(str(tiny.model(path, length=384)))
    change(proto.graph.output[0].type.tensor_type)
    onnx.save(proto, str(path))
    return path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda kind: setattr(kind, "elem_type", onnx.TensorProto.INT64),
            "outputs of a float type, found output_start_logits of INT64",
        ),
        (
            lambda kind: kind.shape.dim.add(dim_value=1),
            r"shape \[batch, length\].*output_start_logits \[\?, 384, 1\]",
        ),
        (
            lambda kind: kind.shape.dim.pop(),
            r"shape \[batch, length\].*output_start_logits \[\?\]",
        ),
        (
            lambda kind: setattr(kind.shape.dim[1], "dim_value", 2),
            r"different fixed sizes: .*output_start_logits \[\?, 2\]",
        ),
    ],
    ids=["integers", "three axes", "one axis", "another length"],
)
def test_outputs_of_another_kind_are_refused_with_what_was_found(
    tmp_path: Path, change: Callable[[onnx.TypeProto.Tensor], object], complaint: str
) -> None:
    path = changed_output(tmp_path / "a.onnx", change)
    with pytest.raises(SuiteError, match=complaint) as caught:
        tiny.inspect(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda kind: kind.ClearField("shape"),
        lambda kind: setattr(kind, "elem_type", onnx.TensorProto.FLOAT16),
    ],
    ids=["no shape", "half precision"],
)
def test_outputs_need_not_say_their_shape_nor_be_float32(
    tmp_path: Path, change: Callable[[onnx.TypeProto.Tensor], object]
) -> None:
    assert tiny.inspect(changed_output(tmp_path / "a.onnx", change)).start == "output_start_logits"


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
