"""A float BERT made an int8 one: statically, after training, by a few calibration windows.

Every product of an activation and a constant matrix gets quantised inputs, as QuantizeLinear and
DequantizeLinear around a float MatMul; the runtime makes integer products of them. Weights are
int8 with a scale per output channel, activations with one per tensor (`scales.py` chooses them).
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx.numpy_helper
from numpy.typing import NDArray

from bertsquad.models.calibration import calibrate
from bertsquad.models.onnx_file import graphs_inside, load_model, save_model
from bertsquad.models.products import Constants, Product, products
from bertsquad.models.scales import (
    Activation,
    Choice,
    Floats,
    Quantisation,
    Quantised,
    choose,
)
from bertsquad.models.signature import Feed, Opener
from bertsquad.models.stored import look_at
from bertsquad.progress import Show, Step, unseen

#: Part of the names in the cache: to be raised whenever this module writes something else.
FORMAT = 1


@dataclass(frozen=True)
class Report:
    """What `quantise` did: so many of the graph's matrix products, and so many now in int8."""

    products: int
    quantised: int
    symmetric: bool
    choices: tuple[Choice, ...]

    def as_fact(self, calibration: str, windows: int) -> Quantisation:
        """What a result says of it; `calibration` names what it was calibrated with."""
        return Quantisation(
            self.products,
            self.quantised,
            by_suite=True,
            symmetric=self.symmetric,
            tensors=len(self.choices),
            smoothed=sum(one.smoothing is not None for one in self.choices),
            clipped=sum(one.clipping < 1 for one in self.choices),
            calibration=calibration,
            windows=windows,
        )


def quantise(
    path: Path,
    out: Path,
    feeds: Sequence[Feed],
    open_model: Opener,
    symmetric: bool,
    show: Show = unseen,
) -> Report:
    """Write the float model at `path`, quantised, to `out`.

    `feeds` are the calibration's windows, best one in each, since padding counts like any token.
    `symmetric` activations are int8 without zero points, others uint8 with one.

    Raises SuiteError if `path` is no model, holds nothing to quantise, or gives no finite numbers.
    """
    scratch = out.parent / f".{out.stem}.calibration"
    try:
        activations = calibrate(path, scratch, feeds, open_model, show)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model = load_model(path)
    choices = _rewrite(model, activations, symmetric, show)
    total = look_at(model).products
    save_model(model, out)
    return Report(total, sum(one.products for one in choices), symmetric, tuple(choices))


def _rewrite(
    model: onnx.ModelProto,
    activations: dict[str, Activation],
    symmetric: bool,
    show: Show,
) -> list[Choice]:
    """Quantise the products of `model` in place."""
    graph = model.graph
    constants = Constants(graph)
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


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in the graph, of whatever kind."""
    for one in (graph, *graphs_inside(graph.node)):
        for named in (*one.input, *one.output, *one.initializer, *one.value_info):
            yield named.name
        for node in one.node:
            yield from (node.name, *node.input, *node.output)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Drop the float matrices that no product needs any more, and what made them."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.isdisjoint(node.output):
            continue
        kept.append(node)
        used.update(node.input)
        for inner in graphs_inside([node]):
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
