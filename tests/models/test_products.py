"""A graph's matrix products are counted by what they are calculated with."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny
from shared_data import POCKET, STANDINS, needs_standins

from bertsquad.models.products import PARTLY, PRODUCTS, is_quantiser, kind_of


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
    ("operator", "types", "kind"),
    [
        ("MatMul", ["float", "float"], "fp32"),
        ("MatMul", ["float"], "fp32"),  # as in a profile, where the kernel keeps its weight
        ("FusedGemm", ["float16", "float16"], "fp16"),
        ("Attention", ["bfloat16"], "bf16"),
        ("Conv", ["double"], "fp64"),
        ("Gemm", ["", "float16"], "fp32"),  # what isn't known is taken for a float
        ("Einsum", ["int64", "int64"], None),
        ("MatMul", ["int32"], None),
        ("DynamicQuantizeMatMul", ["float", "int8"], "int8"),
        ("MatMulIntegerToFloat", ["uint8", "float", "float"], "int8"),
        ("DynamicQuantizeLSTM", ["float"], "int8"),
        ("QLinearConv", ["uint8"], "int8"),
        ("MatMulNBits", ["float", "uint8"], PARTLY),
        ("MatMulBnb4", ["float16"], PARTLY),
        ("GatherBlockQuantized", ["uint8", "int64", "float"], PARTLY),
        ("MatMul", ["float8e4m3fn"], PARTLY),
        ("Add", ["float", "float"], None),
        ("QuantizeLinear", ["float"], None),
    ],
)
def test_a_product_is_of_its_operator_or_of_the_type_that_enters_it(
    operator: str, types: list[str], kind: str | None
) -> None:
    assert kind_of(operator, types) == kind


def test_what_quantises_beside_the_products_is_known_by_its_name() -> None:
    names = "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearAdd QOrderedGelu".split()
    assert all(map(is_quantiser, names))
    assert not any(map(is_quantiser, ("Add", "Gather", "QuickGelu")))
