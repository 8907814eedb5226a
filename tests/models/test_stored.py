"""Matrix products are named for what the graph stores and multiplies, wherever it hides that."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
import tiny
from onnx import TensorProto

from bertsquad.models.products import PARTLY
from bertsquad.models.stored import Stored, look_at

FLOAT = np.ones((8, 8), np.float32)
SCALE, SCALES = np.float32(0.1), np.full(8, 0.1, np.float32)

#: The constants of every graph here, by name.
CONSTANTS = {
    **{"f": FLOAT, "d": FLOAT.astype(np.float64), "h": FLOAT.astype(np.float16)},
    **{"q": FLOAT.astype(np.int8), "u": FLOAT.astype(np.uint8), "s": SCALE, "ss": SCALES},
    **{"hs": SCALE.astype(np.float16), "square": np.array([8, 8]), "cube": FLOAT[:, :, None]},
    **{
        "p": FLOAT.astype(np.int32),
        "far": FLOAT.astype(np.int64),
        "table": np.ones(16, np.float32),
    },
    **{"row": np.array([1, 2]), "r": FLOAT[None], "many": np.int64(2), "yes": np.array(True)},
}


def graph(body: str, functions: str = "", opset: int = 21) -> onnx.ModelProto:
    """A model that calculates `body` from x, float [rows, 8], whose constants are `CONSTANTS`."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "own" : 1]>
        g (float[rows, 8] x, int64[rows, 8] ids, bool c) => (float[rows, 8] y) {{ {body} }}
        {functions}
    """)
    for name, value in CONSTANTS.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    for name, kind, values in (("four", TensorProto.INT4, 64), ("b", TensorProto.BFLOAT16, 64)):
        tensor = onnx.helper.make_tensor(name, kind, (8, 8), [1] * values)
        model.graph.initializer.append(tensor)
    return model


QUANTISED = "xq = QuantizeLinear(x, s)  xd = DequantizeLinear(xq, s)"
HALF = "xh = Cast<to = 10>(x)"


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ("y = MatMul(x, f)", {"fp32": 1}),
        ("y = Gemm(x, f)", {"fp32": 1}),
        ("y = com.microsoft.FusedMatMul(x, f)", {"fp32": 1}),
        ('y = Einsum<equation = "ij,jk->ik">(x, f)', {"fp32": 1}),
        ("a = Unsqueeze(x, row)  y = Conv(a, cube)", {"fp32": 1}),
        ("a = Cast<to = 11>(x)  b1 = MatMul(a, d)  y = Cast<to = 1>(b1)", {"fp64": 1}),
        ("a = Add(ids, ids)  b1 = MatMul(a, ids)  y = Cast<to = 1>(b1)", {}),
        ("y = Add(x, f)", {}),
    ],
)
def test_plain_products_are_of_the_type_that_enters_them(body: str, kinds: dict[str, int]) -> None:
    assert look_at(graph(body)) == Stored(kinds)


@pytest.mark.parametrize(
    "body",
    [
        f"{HALF}  m = MatMul(xh, h)  y = Cast<to = 1>(m)",
        f"{HALF}  t = Transpose(h)  m = MatMul(xh, t)  y = Cast<to = 1>(m)",
        f"{HALF}  t = Reshape(h, square)  m = Gemm(xh, t)  y = Cast<to = 1>(m)",
        f"{HALF}  t = Identity(h)  m = com.microsoft.FusedMatMul(xh, t)  y = Cast<to = 1>(m)",
        f"{HALF}  t = Cast<to = 10>(f)  m = MatMul(xh, t)  y = Cast<to = 1>(m)",
        f"{HALF}  t = CastLike(f, h)  m = MatMul(xh, t)  y = Cast<to = 1>(m)",
        f"{HALF}  a = Softmax(xh)  t = Where(c, a, xh)  m = MatMul(a, t)  y = Cast<to = 1>(m)",
        f"{HALF}  a = com.microsoft.BiasGelu(xh, hs)  m = MatMul(a, a)  y = Cast<to = 1>(m)",
        # As ONNX Runtime saves it for a processor that can't multiply halves.
        f"{HALF}  a = Cast<to = 1>(xh)  y = MatMul(a, f)",
    ],
)
def test_half_precision_is_seen_behind_what_only_moves_it(body: str) -> None:
    assert look_at(graph(body)).kinds == {"fp16": 1}


def test_weights_in_bfloat16_are_told_from_those_in_float16() -> None:
    found = look_at(graph("xb = Cast<to = 16>(x)  m = MatMul(xb, b)  y = Cast<to = 1>(m)"))
    assert (found.kinds, found.half) == ({"bf16": 1}, 1)


@pytest.mark.parametrize(
    "body",
    [
        "w = Cast<to = 1>(h)  y = MatMul(x, w)",
        "t = Transpose(h)  w = Cast<to = 1>(t)  y = MatMul(x, w)",
        "e = Gather(h, ids)  w = Cast<to = 1>(e)  y = MatMul(w, f)",
    ],
)
def test_floats_that_only_lie_in_the_file_as_halves_are_multiplied_as_floats(body: str) -> None:
    assert look_at(graph(body)) == Stored({"fp32": 1})


@pytest.mark.parametrize(
    "weight",
    [
        "w = DequantizeLinear(q, s)",
        "w = DequantizeLinear<axis = 1>(q, ss)",
        "w = com.microsoft.DequantizeLinear(q, s)",
        "e = QuantizeLinear(f, s)  w = DequantizeLinear(e, s)",
        "e = DequantizeLinear<axis = 0>(q, ss)  w = Transpose<perm = [1, 0]>(e)",
        "e = DequantizeLinear(u, s)  w = Reshape(e, square)",
        "e = DequantizeLinear(u, s)  i = Identity(e)  w = Cast<to = 1>(i)",
        "e = DequantizeLinear(q, s)  i = Unsqueeze(e, row)  w = Squeeze(i, row)",
        "e = DequantizeLinear(q, s)  w = Mul(e, s)",
        "e = Cast<to = 1>(q)  w = Mul(e, ss)",
        "i = Cast<to = 6>(u)  d = Sub(i, i)  e = Cast<to = 1>(d)  w = Mul(e, s)",
        "i = Cast<to = 7>(u)  w = Gather(table, i)",
    ],
)
def test_products_of_what_was_dequantised_are_quantised_whatever_lies_between(weight: str) -> None:
    both = look_at(graph(f"{QUANTISED}  {weight}  y = MatMul(xd, w)"))
    assert (both.kinds, both.quantised) == ({"int8": 1}, 1)
    alone = look_at(graph(f"{weight}  y = MatMul(x, w)"))
    assert alone.kinds == {PARTLY: 1}
    assert alone.forms in (("MatMul with int8",), ("MatMul with uint8",))


@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        ("e = Cast<to = 1>(p)  w = Mul(e, ss)", PARTLY),  # several codes in a word
        ("e = Cast<to = 1>(q)  m = ReduceMax(x)  w = Mul(e, m)", PARTLY),  # scaled by an input
        ("w = Cast<to = 1>(far)", "fp32"),  # positions
        ("e = Cast<to = 1>(far)  w = Mul(e, x)", "fp32"),
    ],
)
def test_whole_numbers_are_told_to_be_weights_or_positions(weight: str, kind: str) -> None:
    assert look_at(graph(f"{weight}  y = MatMul(x, w)")).kinds == {kind: 1}


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (f"{QUANTISED}  y = MatMul(xd, f)", "MatMul with uint8"),
        ("w = DequantizeLinear(four, s)  y = MatMul(x, w)", "MatMul with int4"),
        (
            f"{QUANTISED}  w = DequantizeLinear(four, s)  y = Gemm(xd, w)",
            "Gemm with int4 and uint8",
        ),
        ("y = com.microsoft.MatMulNBits<K = 8, N = 8>(x, u, ss)", "MatMulNBits"),
        ("y = com.microsoft.MatMulBnb4<K = 8, N = 8>(x, u, ss)", "MatMulBnb4"),
        ("y = com.microsoft.MatMulFpQ4(x, u, square)", "MatMulFpQ4"),
        ("y = com.microsoft.GatherBlockQuantized(u, ids, ss)", "GatherBlockQuantized"),
    ],
)
def test_products_that_are_quantised_only_in_part_say_in_which_form(body: str, form: str) -> None:
    assert look_at(graph(body)) == Stored({PARTLY: 1}, (form,), look_at(graph(body)).quantisers)


@pytest.mark.parametrize(
    "body",
    [
        "y = com.microsoft.DynamicQuantizeMatMul(x, q, s)",
        "a, b1, e = DynamicQuantizeLinear(x)  m = MatMulInteger(a, q, e)  y = Cast<to = 1>(m)",
        "a = QuantizeLinear(x, s)  y = com.microsoft.MatMulIntegerToFloat(a, q, s, s)",
    ],
)
def test_integer_products_count_as_quantised(body: str) -> None:
    assert look_at(graph(body)).kinds == {"int8": 1}


def test_what_is_quantised_beside_the_products_is_named() -> None:
    body = f"{QUANTISED}  a = Add(xd, f)  y = MatMul(a, f)"
    operators = ("DequantizeLinear", "QuantizeLinear")
    assert look_at(graph(body)) == Stored({"fp32": 1}, quantisers=operators)


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ("y = own.linear(x, f)", {"fp32": 1}),
        ("w = DequantizeLinear(q, s)  y = own.linear(x, w)", {PARTLY: 1}),
        ("w = DequantizeLinear(q, s)  y = own.outer(x, w)", {PARTLY: 1}),
        ("w = DequantizeLinear(q, s)  v = own.same(w)  y = MatMul(x, v)", {PARTLY: 1}),
        (f"{HALF}  m = own.linear(xh, h)  y = Cast<to = 1>(m)", {"fp16": 1}),
        ("a = own.cast<to = 10>(x)  m = MatMul(a, a)  y = Cast<to = 1>(m)", {"fp16": 1}),
        ("a = own.linear(x, f)  b1 = own.linear(a, f)  y = MatMul(b1, f)", {"fp32": 3}),
        ("y = own.circle(x)", {"fp32": 1}),
    ],
)
def test_products_are_found_in_the_functions_of_a_model(body: str, kinds: dict[str, int]) -> None:
    functions = """
        <domain: "own", opset_import: ["" : 21]> linear (a, w) => (m) { m = MatMul(a, w) }
        <domain: "own", opset_import: ["" : 21, "own" : 1]> outer (a, w) => (m) {
            t = Transpose(w)
            m = own.linear(a, t)
        }
        <domain: "own", opset_import: ["" : 21]> same (w) => (v) { v = Identity(w) }
        <domain: "own", opset_import: ["" : 21]> cast <to> (a) => (v) { v = Cast<to: int = @to>(a) }
        <domain: "own", opset_import: ["" : 21, "own" : 1]> circle (a) => (v) {
            m = MatMul(a, a)
            v = own.circle(m)
        }
    """
    assert look_at(graph(body, functions)).kinds == kinds


BRANCHES = """y = If(c) <
    then_branch = yes_branch () => (float[rows, 8] y1) {{ {} }},
    else_branch = no_branch () => (float[rows, 8] y2) {{ {} }}>"""


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (BRANCHES.format("y1 = MatMul(x, f)", "y2 = Identity(x)"), {"fp32": 1}),
        (
            BRANCHES.format("y1 = MatMul(x, f)", "w = DequantizeLinear(q, s)  y2 = MatMul(x, w)"),
            {"fp32": 1, PARTLY: 1},
        ),
        (
            "w = DequantizeLinear(q, s)"
            + BRANCHES.format("y1 = MatMul(x, w)", "y2 = MatMul(x, f)"),
            {"fp32": 1, PARTLY: 1},
        ),
        (
            BRANCHES.format("y1 = DequantizeLinear(q, s)", "y2 = Identity(f)").replace("y =", "w =")
            + "y = MatMul(x, w)",
            {PARTLY: 1},
        ),
        (
            """e = DequantizeLinear(q, s)
            y = Loop(many, yes, x) <body = once (int64 i, bool go, float[rows, 8] a)
                => (bool on, float[rows, 8] m) { on = Identity(go)  m = MatMul(a, e) }>""",
            {PARTLY: 1},
        ),
    ],
)
def test_products_are_found_in_the_graphs_inside(body: str, kinds: dict[str, int]) -> None:
    assert look_at(graph(body)).kinds == kinds


def transposed(opset: int, axis: int | None, weights: Sequence[str] = ("f",)) -> onnx.ModelProto:
    """Fake quantisation as PyTorch exports it: a weight is transposed after it was dequantised."""
    scale = "ss" if axis is not None else "s"
    by = f"<axis = {axis}>" if axis is not None else ""
    body = QUANTISED
    for index, weight in enumerate(weights):
        body += f"""
            q{index} = QuantizeLinear{by}({weight}, {scale})
            d{index} = DequantizeLinear{by}(q{index}, {scale})
            t{index} = Transpose<perm = [1, 0]>(d{index})
            {"y" if index == 0 else f"y{index}"} = MatMul(xd, t{index})"""
    return graph(body, opset=opset)


@pytest.mark.parametrize(("opset", "axis"), [(11, None), (13, 0), (17, 0)])
def test_fake_quantisation_with_a_transpose_is_counted_at_every_opset(
    opset: int, axis: int | None
) -> None:
    found = look_at(transposed(opset, axis, ("f", "f")))
    assert (found.products, found.quantised) == (2, 2)


def test_constants_are_seen_in_whatever_way_they_are_written() -> None:
    model = graph("w = Constant<value = float16[1, 1] {1}>()  xh = CastLike(x, w)  z = Neg(xh)")
    model.graph.node.append(onnx.helper.make_node("MatMul", ["z", "w"], ["y"]))
    assert look_at(model).kinds == {"fp16": 1}
    floats = graph("w = Constant<value_floats = [1.0]>()  a = MatMul(x, w)  y = Identity(a)")
    assert look_at(floats).kinds == {"fp32": 1}


def test_a_graph_of_operators_that_nobody_knows_is_looked_through(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.model(tmp_path / "a.onnx")))
    for node in model.graph.node:
        if node.op_type != "MatMul":
            node.op_type, node.domain = f"My{node.op_type}", "elsewhere"
    assert look_at(model).kinds == {"fp32": 1}
