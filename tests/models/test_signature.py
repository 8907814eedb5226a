"""A model's inputs and outputs are matched by role, and what is no extractive-QA model is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported
import numpy as np
import onnx
import pytest
import tiny
from onnx import helper

from bertsquad.errors import SuiteError
from bertsquad.models.reads import MLPERF, Layout, Reads
from bertsquad.models.signature import examine


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


def test_unnamed_inputs_are_refused_with_what_was_expected_and_found(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", inputs=("input.1", "input.3", "onnx::Cast_2"))
    with pytest.raises(SuiteError, match=r"one input with 'ids' .*found input\.1, input\.3"):
        tiny.inspect(path)


ALL = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    "types",
    [
        {"input_ids": "int32"},
        {"input_ids": "int32", "token_type_ids": "int32", "position_ids": "int32"},
        {"attention_mask": "float32"},
        {"attention_mask": "float16", "token_type_ids": "uint8"},
        {"attention_mask": "bool", "input_ids": "int32"},
    ],
)
def test_each_input_is_fed_in_its_own_type(tmp_path: Path, types: dict[str, str]) -> None:
    signature = tiny.inspect(exported.model(tmp_path / "a.onnx", inputs=ALL, types=types))
    expected = {name: types.get(name, "int64") for name in ALL}
    assert signature.types == expected
    assert all(f"{name} {kind}" in signature.dtype for name, kind in expected.items())
    feed = signature.feed(MASK * 7, MASK, MASK * 0)
    assert {name: str(array.dtype) for name, array in feed.items()} == expected
    assert (feed["attention_mask"] == MASK).all()


@pytest.mark.parametrize(
    ("types", "complaint"),
    [
        ({"position_ids": "float32"}, "position_ids of FLOAT"),
        ({"input_ids": "bool"}, "input_ids of BOOL"),
    ],
)
def test_ids_and_positions_are_integers(
    tmp_path: Path, types: dict[str, str], complaint: str
) -> None:
    path = exported.model(tmp_path / "a.onnx", inputs=ALL, types=types)
    with pytest.raises(SuiteError, match=f"integer type.*{complaint}"):
        tiny.inspect(path)


@pytest.mark.parametrize(
    ("layout", "shared", "expected"),
    [
        (MLPERF, False, [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]),
        (MLPERF, True, [[0, 1, 2, 3, 4]]),
        # As Hugging Face's RoBERTa makes of ids whose padding is 1.
        (Layout(1, 2), False, [[2, 3, 4, 5, 6], [2, 3, 4, 1, 1]]),
        (Layout(1, 2), True, [[2, 3, 4, 5, 6]]),
    ],
)
def test_positions_are_counted_as_the_layout_says(
    tmp_path: Path, layout: Layout, shared: bool, expected: list[list[int]]
) -> None:
    path = exported.model(tmp_path / "a.onnx", inputs=ALL, shared_row=shared)
    signature, _ = examine(path, Reads(layout))
    assert (signature.positions, signature.shared_positions) == ("position_ids", shared)
    assert (signature.batch, signature.length) == (None, None)
    feed = signature.feed(MASK * 7, MASK, MASK * 0)
    assert feed["position_ids"].tolist() == expected


def test_padding_has_the_models_own_id(tmp_path: Path) -> None:
    signature, _ = examine(exported.model(tmp_path / "a.onnx"), Reads(Layout(padding_id=9)))
    feed = signature.feed(MASK * 7, MASK, MASK * 0)
    assert feed["input_ids"].tolist() == [[7, 7, 7, 7, 7], [7, 7, 7, 9, 9]]


def test_what_is_right_already_is_not_copied(tmp_path: Path) -> None:
    signature = tiny.inspect(tiny.model(tmp_path / "a.onnx"))
    given = MASK * 7, MASK, MASK * 0
    feed = signature.feed(*given)
    assert all(feed[name] is array for name, array in zip(tiny.INPUTS, given, strict=True))


@pytest.mark.parametrize(
    ("reads", "complaint"),
    [
        (Reads(highest_id=exported.ROWS), "embeddings of 300 ids.*ids up to 300.*--tokenizer"),
        (Reads(longest=391), "390 positions.*up to 391 tokens: give --max-length 390"),
        (Reads(Layout(1, 2), longest=389), "388 positions.*give --max-length 388"),
    ],
)
def test_windows_that_exceed_the_models_tables_are_refused(
    tmp_path: Path, reads: Reads, complaint: str
) -> None:
    path = exported.model(tmp_path / "a.onnx")
    with pytest.raises(SuiteError, match=complaint) as caught:
        examine(path, reads)
    assert str(path) in str(caught.value)
    examine(path, Reads(highest_id=exported.ROWS - 1, longest=390))


@pytest.mark.parametrize(("length", "longest"), [(128, 128), (128, 100), (512, 384)])
def test_a_fixed_length_must_hold_the_longest_window(
    tmp_path: Path, length: int, longest: int
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=length)
    assert examine(path, Reads(longest=longest))[0].length == length
    with pytest.raises(
        SuiteError, match=f"exactly {length} tokens.*--max-length {length}.*--tokenizer DIR"
    ):
        examine(path, Reads(longest=length + 1))


@pytest.mark.parametrize("rows", [3, 40, 300, 5000, 60_000])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_random_ids_are_in_the_table_and_none_is_padding(
    tmp_path: Path, rows: int, padding: int
) -> None:
    path = exported.model(tmp_path / "a.onnx", rows=rows)
    signature, _ = examine(path, Reads(Layout(padding_id=padding)))
    ids = signature.random_ids(np.random.default_rng(0), (20, 100))
    assert ids.min() >= 0
    assert ids.max() < rows
    assert not (ids == padding).any()


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
