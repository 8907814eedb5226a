"""A float BERT made an int8 one: static, after training, from a few calibration windows.

Every product of an activation and a constant matrix gets quantised inputs, as QuantizeLinear and
DequantizeLinear around a float MatMul; the runtime makes integer products of them. Weights are
int8 with a scale per output channel, activations with one per tensor (`scales.py` chooses them).
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.files import write_whole
from bertsquad.progress import SILENT, Show, Step
from bertsquad.scales import Activation, Choice, Floats, Quantised, choose
from bertsquad.signature import PRODUCTS, Feed, Opener

#: Part of the names in the cache: to be raised whenever this module writes something else.
FORMAT = 1
#: Products with fewer columns stay in float: the span head, two columns wide, saves nothing.
MIN_COLUMNS = 32
#: The tokens, of all calibration windows, on which these are compared.
ROWS = 512


@dataclass(frozen=True)
class Product:
    """A MatMul to quantise: its place in the graph, its inputs, its matrix [rows, columns]."""

    node: int
    activation: str
    weight: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Report:
    """What `quantise` did: of the graph's matrix products, `quantised` are now int8."""

    products: int
    quantised: int
    symmetric: bool
    choices: tuple[Choice, ...]


class _Constants:
    """The values of a graph's tensors that depend on no input."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def find(self, name: str) -> NDArray[Any] | None:
        """The value of `name`, None where it isn't a constant or is calculated in other ways.

        Exports store weights transposed, shared through Identity, or as float16 with a Cast.
        """
        if name in self._stored:
            return onnx.numpy_helper.to_array(self._stored[name])
        node = self._makers.get(name)
        if node is None:
            return None
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant":
            value = attributes.get("value")
            return None if value is None else onnx.numpy_helper.to_array(value)
        if node.op_type not in ("Cast", "Identity", "Transpose"):
            return None
        found = self.find(node.input[0])
        if found is None or node.op_type == "Identity":
            return found
        if node.op_type == "Transpose":
            return found.transpose(attributes.get("perm"))
        return found.astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))

    def matrix(self, name: str) -> Floats | None:
        """The value of `name` if it is a constant float32 matrix."""
        found = self.find(name)
        if found is None or found.ndim != 2 or found.dtype != np.float32:
            return None
        return found


def products(model: onnx.ModelProto) -> list[Product]:
    """The products of an activation and a constant float32 matrix, in the graph's order."""
    constants = _Constants(model.graph)
    found = []
    for index, node in enumerate(model.graph.node):
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        activation, weight = node.input
        matrix = constants.matrix(weight)
        if matrix is None or matrix.shape[1] < MIN_COLUMNS:
            continue
        if constants.find(activation) is None:
            found.append(Product(index, activation, weight, *matrix.shape))
    return found


def quantise(
    path: Path,
    out: Path,
    feeds: Sequence[Feed],
    open_model: Opener,
    symmetric: bool,
    show: Show = SILENT.show,
) -> Report:
    """Write the float model at `path`, quantised, to `out`.

    `feeds` are the calibration's windows, best each with a batch of its own, since padding counts
    like any token. `symmetric` activations are int8 without zero points, others uint8 with one.
    `show` is told what is being done.

    Raises SuiteError if `path` is no model, holds nothing to quantise, or gives no finite numbers.
    """
    scratch = out.parent / f".{out.stem}.calibration"
    try:
        activations = calibrate(path, scratch, feeds, open_model, show)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model = _load(path)
    choices = _rewrite(model, activations, symmetric, show)
    report = Report(
        sum(node.op_type in PRODUCTS for node in model.graph.node),
        sum(choice.products for choice in choices),
        symmetric,
        tuple(choices),
    )
    write_whole(out, lambda file: onnx.save(model, str(file)))
    return report


def calibrate(
    path: Path,
    folder: Path,
    feeds: Sequence[Feed],
    open_model: Opener,
    show: Show = SILENT.show,
) -> dict[str, Activation]:
    """Run the model at `path` on `feeds` and see what enters its products, by tensor.

    A copy of the model that gives these tensors lies in `folder` meanwhile. At any time memory
    holds the model, the tensors of one feed and the sampled rows.
    """
    # Each of a BERT's inputs has one number for a token.
    tokens = [next(iter(feed.values())).size for feed in feeds]
    if not sum(tokens):
        raise SuiteError(f"{path} can't be quantised without calibration windows: none were given")
    sampled = np.linspace(0, sum(tokens) - 1, min(ROWS, sum(tokens))).round().astype(np.int64)
    first = np.cumsum([0, *tokens])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=folder) as temporary:
        probe = Path(temporary) / "probe.onnx"
        channels = _write_probe(path, probe)
        seen = {name: _Seen(size) for name, size in channels.items()}
        run = open_model(probe)
        for index, feed in enumerate(feeds):
            show(Step("calibrating", index, len(feeds), "windows"))
            here = sampled[(sampled >= first[index]) & (sampled < first[index + 1])] - first[index]
            for (name, one), array in zip(seen.items(), run(feed), strict=True):
                if not np.isfinite(array).all():
                    raise SuiteError(
                        f"{path} can't be quantised: its tensor {name} isn't finite for "
                        f"calibration window {index + 1}"
                    )
                one.add(array, here, tokens[index])
        del run  # an open session may keep its file from being removed
    return {name: one.activation() for name, one in seen.items()}


class _Seen:
    """What was seen of one tensor so far."""

    def __init__(self, channels: int) -> None:
        self._lowest = np.full(channels, np.inf, np.float32)
        self._highest = np.full(channels, -np.inf, np.float32)
        self._rows: list[Floats] = []

    def add(self, array: NDArray[Any], tokens: NDArray[np.int64], of: int) -> None:
        """Add an array [..., channels] and keep the rows of `tokens`, which count up to `of`."""
        rows = array.reshape(-1, len(self._lowest))
        np.minimum(self._lowest, rows.min(0), out=self._lowest)
        np.maximum(self._highest, rows.max(0), out=self._highest)
        # A tensor may have fewer rows than the feed has tokens, as that of a pooler.
        self._rows.append(rows[np.unique(tokens * len(rows) // of)])

    def activation(self) -> Activation:
        return Activation(self._lowest, self._highest, np.concatenate(self._rows))


def _write_probe(path: Path, probe: Path) -> dict[str, int]:
    """Write the model with the inputs of its products as outputs; their names and channels."""
    model = _load(path)
    channels = {product.activation: product.rows for product in products(model)}
    if not channels:
        raise SuiteError(
            f"{path} holds no float product with a constant matrix of {MIN_COLUMNS} columns or "
            "more, so there is nothing to quantise: give a float BERT"
        )
    del model.graph.output[:]
    for name in channels:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(value)
    # Weights beside the graph spare memory a serialised copy of both.
    onnx.save(model, str(probe), save_as_external_data=True, location=f"{probe.name}.data")
    return channels


def _rewrite(
    model: onnx.ModelProto,
    activations: dict[str, Activation],
    symmetric: bool,
    show: Show,
) -> list[Choice]:
    """Quantise the products of `model` in place."""
    graph = model.graph
    constants = _Constants(graph)
    sharing: dict[str, list[Product]] = {}
    for product in products(model):
        sharing.setdefault(product.activation, []).append(product)
    writer = _Writer(model, symmetric)
    before: dict[int, list[onnx.NodeProto]] = {}
    choices = []
    for index, (name, group) in enumerate(sharing.items()):
        show(Step("quantising", index, len(sharing), "tensors"))
        weights = cast(list[Floats], [constants.matrix(one.weight) for one in group])
        found = choose(name, activations[name], weights, symmetric)
        choices.append(found.choice)
        entering, nodes = writer.activation(name, found)
        for product, (codes, scales) in zip(group, found.weights, strict=True):
            weight, node = writer.weight(product, codes, scales)
            before[product.node] = [*nodes, node]
            nodes = []  # made once, before the first of the group
            graph.node[product.node].input[:] = [entering, weight]
    nodes = []
    for index, node in enumerate(graph.node):
        nodes += before.get(index, [])
        nodes.append(node)
    _replace(graph.node, nodes)
    _remove_unused(graph)
    return choices


class _Writer:
    """Makes the nodes and constants of a quantised graph, under names that it doesn't have yet."""

    def __init__(self, model: onnx.ModelProto, symmetric: bool) -> None:
        self._graph = model.graph
        self._symmetric = symmetric
        taken = set(_names(model.graph))
        self._prefix = "int8"
        while any(name.startswith(f"{self._prefix}/") for name in taken):
            self._prefix += "_"
        # Only from opset 13 on has ONNX's DequantizeLinear scales per channel, and MLPerf's model
        # is of opset 11; ONNX Runtime's and OpenVINO's own operators are the same at any opset.
        self._domain = ""
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        if opsets.get("", opsets.get("ai.onnx", 0)) < 13:
            self._domain = "com.microsoft"
            if self._domain not in opsets:
                model.opset_import.append(onnx.helper.make_opsetid(self._domain, 1))

    def activation(self, name: str, found: Quantised) -> tuple[str, list[onnx.NodeProto]]:
        """Smooth, quantise and dequantise the tensor `name`; the name of the result."""
        prefix = f"{self._prefix}/{name}"
        nodes = []
        source = name
        if found.factors is not None:
            inverse = self._constant(f"{prefix}/inverse", 1 / found.factors)
            source = f"{prefix}/smoothed"
            nodes.append(onnx.helper.make_node("Mul", [name, inverse], [source], source))
        zero = np.array(found.zero, np.int8 if self._symmetric else np.uint8)
        parameters = [
            self._constant(f"{prefix}/scale", np.array(found.scale, np.float32)),
            self._constant(f"{prefix}/zero", zero),
        ]
        codes, result = f"{prefix}/codes", f"{prefix}/result"
        nodes.append(self._node("QuantizeLinear", [source, *parameters], codes))
        nodes.append(self._node("DequantizeLinear", [codes, *parameters], result))
        return result, nodes

    def weight(
        self, product: Product, codes: NDArray[np.int8], scales: Floats
    ) -> tuple[str, onnx.NodeProto]:
        """Store and dequantise the matrix of `product`; the name of the result."""
        # By product, since a matrix used with two tensors is smoothed in two ways.
        prefix = f"{self._prefix}/{product.node}/{product.weight}"
        inputs = [
            self._constant(f"{prefix}/codes", codes),
            self._constant(f"{prefix}/scales", scales),
            self._constant(f"{prefix}/zeros", np.zeros(len(scales), np.int8)),
        ]
        result = f"{prefix}/result"
        return result, self._node("DequantizeLinear", inputs, result, axis=1)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return onnx.helper.make_node(
            op, inputs, [output], output, domain=self._domain, **attributes
        )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in the graph, of whatever kind."""
    for one in _graphs(graph):
        for named in (*one.input, *one.output, *one.initializer, *one.value_info):
            yield named.name
        for node in one.node:
            yield from (node.name, *node.input, *node.output)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Drop the float matrices that no product needs any more, and what made them."""
    results = {value.name for value in graph.output}
    used = set(results)
    kept = []
    for node in reversed(graph.node):
        if used.isdisjoint(node.output):
            continue
        kept.append(node)
        used.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                used.update(_names(inner))
    kept.reverse()
    _replace(graph.node, kept)
    gone = {tensor.name for tensor in graph.initializer} - used
    for tensors in (graph.initializer, graph.input):
        for index in reversed(range(len(tensors))):
            if tensors[index].name in gone:
                del tensors[index]
    alive = used | {name for node in kept for name in node.output}
    _replace(graph.value_info, [value for value in graph.value_info if value.name in alive])


def _replace(field: Any, values: Iterable[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path))
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError has no public home
        raise SuiteError(
            f"{path} is not an ONNX model, is truncated, or lacks the weights stored beside it"
        ) from error
