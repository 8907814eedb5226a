"""How many ids, positions and kinds of segments a model has is read from its graph."""

from pathlib import Path

import exported
import onnx
import onnx.numpy_helper
import pytest
import tiny
from onnx import TensorProto, helper

from bertsquad.models import random_bert
from bertsquad.models.embedding import tables
from bertsquad.models.matching import Tables
from bertsquad.models.random_bert import Architecture

ALL = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@pytest.mark.parametrize("stored", exported.STORED)
@pytest.mark.parametrize("inputs", [ALL[:2], ALL[:3], ALL], ids=len)
def test_tables_are_found_however_they_are_stored(
    tmp_path: Path, stored: str, inputs: tuple[str, ...]
) -> None:
    path = exported.model(tmp_path / "a.onnx", stored=stored, inputs=inputs)
    found = tiny.inspect(path).tables
    kinds = 2 if len(inputs) > 2 else None
    assert found == Tables(exported.ROWS, exported.POSITIONS, kinds)


def test_ids_that_are_changed_before_they_choose_tell_nothing(tmp_path: Path) -> None:
    assert tiny.inspect(tiny.model(tmp_path / "a.onnx")).tables == Tables()


def test_no_weight_is_needed_to_know_the_rows(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    assert tables(model, "input_ids").words == exported.ROWS


def test_the_tables_of_mlperfs_graph_are_found(tmp_path: Path) -> None:
    architecture = Architecture(1, 16, 2, 32, positions=512, vocabulary=30_522)
    random_bert.write(tmp_path / "a.onnx", architecture)
    found = tiny.inspect(tmp_path / "a.onnx").tables
    assert (found.words, found.positions) == (30_522, 512)


@pytest.mark.parametrize("operator", ["EmbedLayerNormalization", "QEmbedLayerNormalization"])
@pytest.mark.parametrize("cast", [False, True])
def test_onnx_runtimes_own_operator_holds_all_tables(operator: str, cast: bool) -> None:
    names = ["ids", "kinds", "words", "places", "sorts", "gamma", "beta"]
    given = [f"{name}_32" if cast and name in ("ids", "kinds") else name for name in names]
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_32"], to=TensorProto.INT32)
        for name in ("ids", "kinds")
    ]
    rows = {"words": 97, "places": 40, "sorts": 3}
    nodes.append(
        helper.make_node(
            operator, [*given, "", "numbers"], ["all", ""], domain="com.microsoft", epsilon=1e-12
        )
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
        for name in ("ids", "kinds", "numbers")
    ]
    made = [onnx.TensorProto(name=name, dims=[count, 8]) for name, count in rows.items()]
    model = helper.make_model(helper.make_graph(nodes, "fused", inputs, [], made))
    assert tables(model, "ids", "kinds") == Tables(97, 40, 3)
    assert tables(model, "ids", "kinds", "numbers") == Tables(97, 40, 3)


def test_a_table_of_blocks_of_four_bits_has_its_rows() -> None:
    nodes = [
        helper.make_node(
            "GatherBlockQuantized",
            ["words", "ids", "scales"],
            ["all"],
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
        )
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "n"])]
    made = [onnx.TensorProto(name="words", dims=[97, 8])]
    assert (
        tables(helper.make_model(helper.make_graph(nodes, "a", inputs, [], made)), "ids").words
        == 97
    )


def test_of_two_tables_that_ids_choose_from_the_smaller_counts(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.graph.initializer.append(onnx.TensorProto(name="other", dims=[100, 8]))
    model.graph.node.append(helper.make_node("Gather", ["other", "input_ids"], ["unused"]))
    assert tables(model, "input_ids").words == 100
