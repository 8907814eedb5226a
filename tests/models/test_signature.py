"""A model's inputs and outputs are matched by role, and what is no extractive-QA model is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from onnx import helper

from bertsquad.errors import SuiteError


def test_the_signature_tells_roles_types_and_sizes(tmp_path: Path) -> None:
    plain = tiny.inspect(tiny.model(tmp_path / "a.onnx"))
    assert (plain.ids, plain.mask, plain.segments) == tiny.INPUTS
    assert (plain.start, plain.end) == tiny.OUTPUTS
    assert (plain.dtype, plain.batch, plain.length) == ("int64", None, None)
    other = tiny.inspect(tiny.model(tmp_path / "b.onnx", dtype="int32", batch=1, length=384))
    assert (other.dtype, other.batch, other.length) == ("int32", 1, 384)


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
            {"inputs": ("input_ids", "input_mask", "position_ids", "old_position_ids")},
            "at most segments and positions.*position_ids",
        ),
        ({"outputs": ("logits",)}, "'start'.*logits"),
        ({"outputs": ("start_logits",)}, "'end'.*start_logits"),
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


@pytest.mark.parametrize("size", [-1, 0, ""])
def test_sizes_that_are_none_are_open_axes(tmp_path: Path, size: int | str) -> None:
    path = tiny.model(tmp_path / "a.onnx", batch=1, length=384)
    proto = onnx.load(str(path))
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            setattr(dim, "dim_param" if size == "" else "dim_value", size)
    onnx.save(proto, str(path))
    signature = tiny.inspect(path)
    assert (signature.batch, signature.length) == (None, None)
    assert signature.zero_sized == (size == 0)


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
