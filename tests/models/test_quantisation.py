"""A float model becomes an int8 one that answers nearly the same."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tiny
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared_data import POCKET, STANDINS, needs_standins, pocket_features

from bertsquad.errors import SuiteError
from bertsquad.models import calibration, quantisation, scales
from bertsquad.models.quantisation import Report
from bertsquad.models.scales import CLIPPINGS, SMOOTHINGS, Activation
from bertsquad.models.signature import Feed
from bertsquad.progress import Step
from bertsquad.runtime.sessions import open_on_cpu

WIDTH, INNER = 64, 128
INTEGER = ("MatMulIntegerToFloat", "QLinearMatMul")
STORED = ("plain", "half", "transposed", "shared", "constant", "listed")


open_model = partial(open_on_cpu, threads=1)


def encoder(path: Path, stored: str = "plain", opset: int = 17) -> Path:
    """A one-layer transformer with random weights, its matrices stored as some exports do.

    Of its nine products, six are of constant matrices of 64 columns and more: query, key and value
    of one tensor, and three of tensors of their own.
    """
    rng = np.random.default_rng(3)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def node(op: str, *sources: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, sources, [f"{op}_{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def constant(value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), f"constant_{len(constants)}"))
        return constants[-1].name

    def matrix(*shape: int) -> str:
        value = (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        if stored == "half":
            return node("Cast", constant(value.astype(np.float16)), to=TensorProto.FLOAT)
        if stored == "transposed":
            return node("Transpose", constant(value.T.copy()), perm=[1, 0])
        if stored == "shared":
            return node("Identity", constant(value))
        if stored == "constant":
            return node("Constant", value=numpy_helper.from_array(value))
        return constant(value)

    table = rng.normal(size=(tiny.ROWS, WIDTH)).astype(np.float32)
    table[:, 5] *= 30  # an outlier, as BERTs have them
    row = node("Mod", tiny.INPUTS[0], constant(np.int64(tiny.ROWS)))
    kinds = node("Cast", tiny.INPUTS[2], to=TensorProto.FLOAT)
    embedded = node("Add", node("Gather", constant(table), row), constant(np.float32(0.1)))
    query, key, value = (node("MatMul", embedded, matrix(WIDTH, WIDTH)) for _ in range(3))
    scores = node("MatMul", query, node("Transpose", key, perm=[0, 2, 1]))
    scores = node("Mul", scores, constant(np.float32(0.01)))
    mixed = node("MatMul", node("Softmax", scores, axis=2), value)
    hidden = node("Add", embedded, node("MatMul", mixed, matrix(WIDTH, WIDTH)))
    bias = constant(rng.normal(size=INNER).astype(np.float32))
    up = node("Relu", node("Add", node("MatMul", hidden, matrix(WIDTH, INNER)), bias))
    hidden = node("Add", hidden, node("MatMul", up, matrix(INNER, WIDTH)))
    head = constant(rng.normal(size=(WIDTH, 2)).astype(np.float32))
    answer = node("MatMul", hidden, head)
    mask = node("Cast", tiny.INPUTS[1], to=TensorProto.FLOAT)
    for index, output in enumerate(tiny.OUTPUTS):
        logits = node("Gather", answer, constant(np.int64(index)), axis=2)
        logits = node("Add", node("Mul", logits, mask), kinds)
        nodes.append(helper.make_node("Identity", [logits], [output]))

    axes = ["batch_size", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in tiny.INPUTS]
    if stored == "listed":  # as of IR version 3
        inputs += [helper.make_tensor_value_info(c.name, c.data_type, c.dims) for c in constants]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in tiny.OUTPUTS
    ]
    return save(path, nodes, inputs, outputs, constants, opset)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=6), str(path))
    return path


def one_product(path: Path, matrix: NDArray[np.float32], *more: onnx.NodeProto) -> Path:
    """The model of a single product, y = x @ w, of x [batch, length, rows]."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length", size])
        for name, size in zip("xy", matrix.shape, strict=True)
    )
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), *more]
    return save(path, nodes, [x], [y], [numpy_helper.from_array(matrix, "w")])


def windows(count: int = 4, seed: int = 0) -> list[Feed]:
    """Feeds of one window each, of different lengths."""
    rng = np.random.default_rng(seed)
    feeds: list[Feed] = []
    for index in range(count):
        ids = rng.integers(0, 20_000, (1, 20 + 13 * index))
        arrays = ids, np.ones_like(ids), np.zeros_like(ids)
        feeds.append(dict(zip(tiny.INPUTS, arrays, strict=True)))
    return feeds


def run(
    path: Path, out: Path, feeds: Sequence[Feed] | None = None, symmetric: bool = False
) -> Report:
    """Quantise, and see that the result is a sound graph, sorted, with every name made once."""
    report = quantisation.quantise(path, out, feeds or windows(), open_model, symmetric)
    onnx.checker.check_model(onnx.load(str(out)))
    return report


def outputs(path: Path, feeds: Sequence[Feed]) -> NDArray[Any]:
    run_one = open_model(path)
    return np.concatenate([array.ravel() for feed in feeds for array in run_one(feed)])


def correlation(one: Path, other: Path, feeds: Sequence[Feed]) -> float:
    return float(np.corrcoef(outputs(one, feeds), outputs(other, feeds))[0, 1])


def of_type(path: Path, op: str) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(str(path)).graph.node if node.op_type == op]


def constants_of(path: Path) -> dict[str, NDArray[Any]]:
    graph = onnx.load(str(path)).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def integer_products(path: Path, folder: Path) -> int:
    """The products that ONNX Runtime's CPU provider really makes integer ones."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return sum(len(of_type(folder / "optimised.onnx", op)) for op in INTEGER)


@pytest.mark.parametrize("symmetric", [False, True], ids=["uint8", "int8"])
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("how", STORED)
def test_every_product_with_a_wide_constant_matrix_is_quantised(
    tmp_path: Path, how: str, opset: int, symmetric: bool
) -> None:
    path, out = encoder(tmp_path / "float.onnx", how, opset), tmp_path / "int8.onnx"
    report = run(path, out, symmetric=symmetric)
    assert (report.products, report.quantised, report.symmetric) == (9, 6, symmetric)
    signature = tiny.inspect(out)
    assert (signature.products, signature.quantised, signature.half) == (9, 6, 0)
    if not symmetric:  # those are for OpenVINO
        assert integer_products(out, tmp_path) == 6
    assert correlation(path, out, windows(seed=1)) > 0.999


def test_no_float_matrix_is_left_of_them(tmp_path: Path) -> None:
    for how in STORED:
        out = tmp_path / f"{how}.onnx"
        run(encoder(tmp_path / "float.onnx", how), out)
        matrices = [array for array in constants_of(out).values() if array.ndim == 2]
        assert [array.dtype for array in matrices].count(np.dtype(np.int8)) == 6
        floats = {array.shape for array in matrices if array.dtype != np.int8}
        assert floats == {(tiny.ROWS, WIDTH), (WIDTH, 2)}  # the embeddings and the head
        makers = [len(of_type(out, op)) for op in ("Cast", "Constant", "Identity", "Transpose")]
        assert makers == [2, 0, 2, 1]  # of the inputs, of the outputs, of the keys
        given = onnx.load(str(out)).graph.input
        assert {value.name for value in given} <= {*tiny.INPUTS, *constants_of(out)}


def test_products_of_one_tensor_share_its_quantisation(tmp_path: Path) -> None:
    report = run(encoder(tmp_path / "float.onnx"), tmp_path / "int8.onnx")
    assert [choice.products for choice in report.choices] == [3, 1, 1, 1]
    assert len(of_type(tmp_path / "int8.onnx", "QuantizeLinear")) == 4
    assert len(of_type(tmp_path / "int8.onnx", "DequantizeLinear")) == 4 + 6


@pytest.mark.parametrize(("symmetric", "kind"), [(True, np.int8), (False, np.uint8)])
def test_symmetric_activations_have_no_zero_points(
    tmp_path: Path, symmetric: bool, kind: type
) -> None:
    out = tmp_path / "int8.onnx"
    run(encoder(tmp_path / "float.onnx"), out, symmetric=symmetric)
    constants = constants_of(out)
    zeros = [constants[node.input[2]] for node in of_type(out, "QuantizeLinear")]
    assert {zero.dtype for zero in zeros} == {np.dtype(kind)}
    assert all((zero == 0).all() for zero in zeros) == symmetric


def test_weights_have_a_scale_for_every_column_and_no_zero_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(16, 40)) * np.geomspace(1e-3, 1e3, 40)).astype(np.float32)
    matrix[:, 7] = 0
    feed = {"x": np.full((1, 1, 16), 1, np.float32)}
    out = tmp_path / "int8.onnx"
    run(one_product(tmp_path / "float.onnx", matrix), out, [feed])
    constants = constants_of(out)
    (weight,) = (n for n in of_type(out, "DequantizeLinear") if n.attribute)
    codes, scale, zeros = (constants[name] for name in weight.input)
    assert codes.dtype == np.int8
    assert (codes.shape, scale.shape) == ((16, 40), (40,))
    assert np.abs(codes.astype(int)).max(0).tolist() == [127] * 7 + [0] + [127] * 32
    assert zeros.dtype == np.int8
    assert not zeros.any()


@pytest.mark.parametrize("symmetric", [False, True], ids=["uint8", "int8"])
def test_a_channel_of_outliers_is_survived(
    tmp_path: Path, symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(WIDTH, 48)).astype(np.float32)
    matrix[9] /= 100
    x = rng.uniform(-1, 1, (6, 1, 50, WIDTH)).astype(np.float32)
    x[..., 9] *= 100
    feeds, others = ([{"x": one} for one in some] for some in (x[:3], x[3:]))
    path = one_product(tmp_path / "float.onnx", matrix)

    def error(name: str) -> float:
        (choice,) = run(path, tmp_path / name, feeds, symmetric).choices
        assert (choice.smoothing is None) == (name == "plain.onnx")
        wanted, found = (outputs(file, others) for file in (path, tmp_path / name))
        measured = float(((wanted - found) ** 2).sum() / (wanted**2).sum())
        assert measured == pytest.approx(choice.error, rel=0.3)
        return measured

    smoothed = error("smoothed.onnx")
    monkeypatch.setattr(scales, "SMOOTHINGS", (None,))
    assert smoothed < 0.001 < 100 * smoothed < error("plain.onnx")


def test_a_rare_outlier_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "SMOOTHINGS", (None,))
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(256, 48)).astype(np.float32)
    x = rng.uniform(-1, 1, (1, 400, 256)).astype(np.float32)
    path = one_product(tmp_path / "float.onnx", matrix)
    for largest, clipping in ((1.0, 1.0), (1.6, 0.7)):
        x[0, 17, 3] = largest
        (choice,) = run(path, tmp_path / "int8.onnx", [{"x": x}]).choices
        assert choice.clipping == clipping


def test_what_is_always_zero_does_no_harm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = one_product(tmp_path / "a.onnx", rng.normal(size=(8, 40)).astype(np.float32))
    nothing = {"x": np.zeros((1, 5, 8), np.float32)}
    run(path, tmp_path / "b.onnx", [nothing])
    assert (outputs(tmp_path / "b.onnx", [nothing]) == 0).all()

    # A channel that calibration never saw speak is heard all the same.
    x = rng.normal(size=(2, 1, 50, 8)).astype(np.float32)
    x[0, ..., 3] = 0
    run(path, tmp_path / "c.onnx", [{"x": x[0]}])
    assert correlation(path, tmp_path / "c.onnx", [{"x": x[1]}]) > 0.9


def test_calibration_sees_every_token_and_samples_evenly(tmp_path: Path) -> None:
    matrix = np.ones((3, 40), np.float32)
    path = one_product(tmp_path / "a.onnx", matrix)
    counted = np.arange(1200 * 3, dtype=np.float32).reshape(1200, 3)
    cuts = ((0, 300, 2), (300, 310, 1), (310, 1200, 5))
    feeds = [{"x": counted[low:high].reshape(batch, -1, 3)} for low, high, batch in cuts]
    (seen,) = calibration.calibrate(path, tmp_path, feeds, open_model).values()
    assert isinstance(seen, Activation)
    assert seen.lowest.tolist() == [0, 1, 2]
    assert seen.highest.tolist() == [3597, 3598, 3599]
    assert calibration.ROWS - 5 <= len(seen.rows) <= calibration.ROWS
    steps = np.diff(seen.rows[:, 0]) / 3
    assert set(steps) <= {1, 2, 3, 4}
    assert (seen.rows - seen.rows[:, :1] == [0, 1, 2]).all()


def test_a_batch_of_windows_calibrates_like_its_windows(tmp_path: Path) -> None:
    path = encoder(tmp_path / "float.onnx")
    (window,) = windows(1)
    both = {name: np.concatenate((array, array)) for name, array in window.items()}
    apart = calibration.calibrate(path, tmp_path, [window, window], open_model)
    together = calibration.calibrate(path, tmp_path, [both], open_model)
    assert list(apart) == list(together)
    for name, one in apart.items():
        assert one.rows == pytest.approx(together[name].rows, abs=1e-3)
        assert one.highest == pytest.approx(together[name].highest, abs=1e-3)


def test_a_tensor_with_fewer_rows_than_tokens_is_calibrated_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("Gather", ["x", "first"], ["pooled"], axis=1),
        helper.make_node("MatMul", ["pooled", "w"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(rng.normal(size=(97, 16)).astype(np.float32), "table"),
        numpy_helper.from_array(np.array(0), "first"),
        numpy_helper.from_array(rng.normal(size=(16, 32)).astype(np.float32), "w"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])
    path = save(tmp_path / "a.onnx", nodes, [ids], [y], constants)
    feeds = [{"ids": rng.integers(0, 97, (2, 30))} for _ in range(5)]
    (seen,) = calibration.calibrate(path, tmp_path, feeds, open_model).values()
    assert len(seen.rows) == 10
    run(path, tmp_path / "b.onnx", feeds)
    assert correlation(path, tmp_path / "b.onnx", feeds) > 0.999


def test_a_matrix_that_is_used_elsewhere_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(97, 32)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("Transpose", ["table"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 97])
    constants = [numpy_helper.from_array(table, "table")]
    path, out = save(tmp_path / "a.onnx", nodes, [ids], [y], constants), tmp_path / "b.onnx"
    feeds = [{"ids": np.arange(97)[None]}]
    run(path, out, feeds)
    assert (constants_of(out)["table"] == table).all()
    assert of_type(out, "Transpose") == []
    assert correlation(path, out, feeds) > 0.999


def test_a_matrix_that_a_branch_uses_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(16, 32)).astype(np.float32)

    def branch(name: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Neg", ["w"], [name])], name, [], [result])

    path = one_product(
        tmp_path / "a.onnx",
        matrix,
        helper.make_node("ReduceMax", ["y"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["z"], then_branch=branch("t"), else_branch=branch("e")),
    )
    model = onnx.load(str(path))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [16, 32]))
    onnx.save(model, str(path))
    feeds = [{"x": rng.normal(size=(1, 20, 16)).astype(np.float32)}]
    assert run(path, tmp_path / "b.onnx", feeds).quantised == 1
    assert (constants_of(tmp_path / "b.onnx")["w"] == matrix).all()
    assert correlation(path, tmp_path / "b.onnx", feeds) > 0.999


def test_names_that_the_model_has_already_are_not_taken_again(tmp_path: Path) -> None:
    path = one_product(tmp_path / "a.onnx", np.eye(32, dtype=np.float32))
    model = onnx.load(str(path))
    model.graph.node[0].output[0] = "int8/x/scale"
    model.graph.node.append(helper.make_node("Identity", ["int8/x/scale"], ["y"], "int8_/"))
    onnx.save(model, str(path))
    feeds = [{"x": np.random.default_rng(0).normal(size=(1, 9, 32)).astype(np.float32)}]
    run(path, tmp_path / "b.onnx", feeds)
    assert correlation(path, tmp_path / "b.onnx", feeds) > 0.999


def test_weights_beside_the_model_are_found_and_taken_along(tmp_path: Path) -> None:
    inside, beside = encoder(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    onnx.save(
        onnx.load(str(inside)),
        str(beside),
        save_as_external_data=True,
        location="b.data",
        size_threshold=64,
    )
    run(beside, tmp_path / "out" / "b.onnx")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.onnx"]
    assert correlation(inside, tmp_path / "out" / "b.onnx", windows(seed=1)) > 0.999
    (tmp_path / "b.data").unlink()
    with pytest.raises(SuiteError, match="beside it"):
        run(beside, tmp_path / "out" / "c.onnx")


def test_the_same_model_and_windows_give_the_same_bytes(tmp_path: Path) -> None:
    path = encoder(tmp_path / "a.onnx")
    reports = [run(path, tmp_path / name) for name in ("b.onnx", "c.onnx")]
    assert reports[0] == reports[1]
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()


def test_the_report_can_be_written_as_json(tmp_path: Path) -> None:
    report = run(encoder(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    found = json.loads(json.dumps(asdict(report)))
    assert sum(choice["products"] for choice in found["choices"]) == found["quantised"]
    for choice in found["choices"]:
        assert choice["smoothing"] in SMOOTHINGS
        assert choice["clipping"] in CLIPPINGS
        assert 0 < choice["error"] < 0.01


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Step] = []
    path = encoder(tmp_path / "a.onnx")
    quantisation.quantise(path, tmp_path / "b.onnx", windows(2), open_model, True, told.append)
    assert told == [
        *(Step("calibrating", done, 2, "windows") for done in range(2)),
        *(Step("quantising", done, 4, "tensors") for done in range(4)),
    ]


def test_only_the_result_is_left(tmp_path: Path) -> None:
    run(encoder(tmp_path / "a.onnx"), tmp_path / "out" / "b.onnx")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.onnx"]


@pytest.mark.parametrize("when", ["opened", "run", "told"])
def test_nothing_is_left_of_a_failure(tmp_path: Path, when: str) -> None:
    path, out = encoder(tmp_path / "a.onnx"), tmp_path / "out" / "b.onnx"
    out.parent.mkdir()
    out.write_bytes(b"an older one")

    def opener(probe: Path) -> Callable[[Feed], list[NDArray[np.float32]]]:
        assert probe.is_relative_to(out.parent)
        if when == "opened":
            raise MemoryError
        return fail if when == "run" else open_model(probe)

    def fail(_: Any) -> Any:
        raise MemoryError

    def tell(step: Step) -> None:
        if when == "told" and step.name == "quantising":
            raise MemoryError

    with pytest.raises(MemoryError):
        quantisation.quantise(path, out, windows(), opener, False, tell)
    assert [file.read_bytes() for file in out.parent.iterdir()] == [b"an older one"]


def is_a_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and len(str(error)) > 20


def unquantisable(tmp_path: Path) -> Iterator[tuple[Path, Sequence[Feed], str]]:
    path = encoder(tmp_path / "float.onnx")
    run(path, tmp_path / "int8.onnx")
    yield tmp_path / "int8.onnx", windows(), "nothing to quantise"
    yield tiny.model(tmp_path / "narrow.onnx"), windows(), "32 columns"
    yield path, [], "windows"
    yield tmp_path / "absent.onnx", windows(), "can't be read"
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-1000])
    yield tmp_path / "cut.onnx", windows(), "truncated"
    infinite = one_product(tmp_path / "infinite.onnx", np.eye(32, dtype=np.float32))
    x = np.ones((2, 1, 4, 32), np.float32)
    x[1, 0, 2, 3] = np.nan
    yield infinite, [{"x": one} for one in x], "tensor x isn't finite for calibration window 2"


def test_what_cannot_be_quantised_is_said_in_a_sentence(tmp_path: Path) -> None:
    for path, feeds, words in unquantisable(tmp_path):
        with pytest.raises(SuiteError, match=words) as caught:
            quantisation.quantise(path, tmp_path / "out" / "x.onnx", feeds, open_model, False)
        assert is_a_sentence(caught.value)
        assert list((tmp_path / "out").glob("*")) == []


@needs_standins
@pytest.mark.parametrize("symmetric", [False, True], ids=["uint8", "int8"])
def test_the_stand_in_for_mlperfs_model(tmp_path: Path, symmetric: bool) -> None:
    path, out = STANDINS / "bert_tiny_fixed384.onnx", tmp_path / "int8.onnx"
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 20_000, (4, 1, 384))
    feeds = [
        dict(zip(tiny.INPUTS, (one, np.ones_like(one), np.zeros_like(one)), strict=True))
        for one in ids
    ]
    assert run(path, out, feeds[:3], symmetric).quantised == 12
    assert symmetric or integer_products(out, tmp_path) == 12
    assert correlation(path, out, feeds) > 0.99


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Report]:
    path = POCKET / "minilm-squad.onnx"
    out = tmp_path_factory.mktemp("minilm") / "int8.onnx"
    with pytest.MonkeyPatch.context() as patch:  # for speed, the middle of what is tried
        patch.setattr(scales, "SMOOTHINGS", (0.8,))
        patch.setattr(scales, "CLIPPINGS", (1.0, 0.8))
        return path, out, run(path, out, pocket_windows(100, 106))


def pocket_windows(first: int, last: int) -> list[Feed]:
    shortest = np.argsort(pocket_features().lengths, kind="stable")[first:last]
    return [
        dict(zip(tiny.INPUTS, pocket_features().batch([sample]), strict=True))
        for sample in shortest
    ]


def test_the_bundled_model_answers_nearly_the_same(
    minilm: tuple[Path, Path, Report], tmp_path: Path
) -> None:
    path, out, report = minilm
    assert (report.products, report.quantised) == (49, 36)
    assert tiny.inspect(out).quantised == 36
    assert tiny.inspect(out).half == 0
    assert integer_products(out, tmp_path) == 36
    assert correlation(path, out, pocket_windows(0, 8)) > 0.99


def test_the_products_of_the_bundled_model_take_a_byte_a_weight(
    minilm: tuple[Path, Path, Report],
) -> None:
    path, out, _ = minilm
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    saved = path.stat().st_size - out.stat().st_size  # of the two that each took
    assert weights * 0.97 < saved < weights
