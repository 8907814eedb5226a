"""In what precision a model's matrix products are stored: seen in its graph, without a runtime.

A runtime may multiply in another precision than the graph says: it fuses quantised products or
leaves them in float, and widens half precision where it can't calculate in it. So the graph can
show that a model isn't of a precision, but never that it runs in it: `runtime/proofs.py` does.
"""

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import onnx.defs

from bertsquad.models.products import FLOATS, HALVES, PARTLY, is_quantiser, kind_of

#: Operators that move values and calculate none.
_MOVERS = frozenset(
    """Concat DepthToSpace Dropout Expand Flatten Gather GatherElements GatherND Identity Pad
    Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze""".split()
)
#: The types of other than eight bits, or of eight that are no integers.
_NARROW = ("int4", "uint4", "int2", "uint2", "int16", "uint16", "float8", "float4")
#: The types of weights that somebody dequantises by the operators of floats.
_BY_HAND = (*_NARROW, "int8", "uint8")


@dataclass(frozen=True)
class Stored:
    """A model's matrix products, counted by how the graph says that they are calculated.

    The keys of `kinds` are those of `products.kind_of`: "int8" are products of an integer operator
    or of operands that are all dequantised; `PARTLY` those of which only some are, or are from
    fewer than eight bits, and `forms` says which these are. `quantisers` are the operators beside
    the products that make or read quantised values.
    """

    kinds: Mapping[str, int] = field(default_factory=dict, hash=False)
    forms: tuple[str, ...] = ()
    quantisers: tuple[str, ...] = ()

    @property
    def products(self) -> int:
        """How many products there are."""
        return sum(self.kinds.values())

    @property
    def quantised(self) -> int:
        """How many of them are of integers, or become so if the runtime fuses them."""
        return self.kinds.get("int8", 0)

    @property
    def half(self) -> int:
        """How many of them are in half precision."""
        return sum(self.kinds.get(kind, 0) for kind in HALVES)


def look_at(model: onnx.ModelProto) -> Stored:
    """See how a model's products are stored, in its functions and the graphs inside of it, too."""
    look = _Look(model)
    look.graph(model.graph, ChainMap(), (), {})
    return Stored(dict(look.kinds), tuple(sorted(look.forms)), tuple(sorted(look.quantisers)))


@dataclass(frozen=True)
class _Tensor:
    """What is known of a tensor: its element type, and where its values come from.

    `constant` ones depend on no input, `picked` ones only in which constants they are, as those of
    an embedding. `source` is the type that they were dequantised from, or the half precision that
    they were calculated in, where they have another type now; else "".
    """

    type: str = ""
    constant: bool = False
    picked: bool = False
    source: str = ""


_Known = ChainMap[str, _Tensor]
_Attributes = Mapping[str, onnx.AttributeProto]


class _Look:
    """Goes through a model's nodes in their order, and keeps what it sees of products."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.kinds: Counter[str] = Counter()
        self.forms: set[str] = set()
        self.quantisers: set[str] = set()
        self._functions = {(one.domain, one.name): one for one in model.functions}
        self._opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
        self._calling: list[tuple[str, str]] = []

    def graph(
        self,
        graph: onnx.GraphProto,
        outer: _Known,
        given: Sequence[_Tensor],
        arguments: _Attributes,
    ) -> list[_Tensor]:
        """Look at a graph that gets the tensors `given`; what is known of its outputs."""
        known = outer.new_child()
        for index, value in enumerate(graph.input):
            tensor = given[index] if index < len(given) else _Tensor()
            declared = _type_name(value.type.tensor_type.elem_type)
            known[value.name] = replace(tensor, type=tensor.type or declared)
        for one in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
            known[one.name] = _Tensor(_type_name(one.data_type), constant=True)
        self._nodes(graph.node, known, arguments)
        return [known.get(value.name, _Tensor()) for value in graph.output]

    def _nodes(
        self, nodes: Iterable[onnx.NodeProto], known: _Known, arguments: _Attributes
    ) -> None:
        for node in nodes:
            attributes = {}
            for one in node.attribute:  # inside of a function it may stand for an argument
                found = arguments.get(one.ref_attr_name) if one.ref_attr_name else one
                if found is not None:
                    attributes[one.name] = found
            # An input that is left out hinders no output from being constant.
            inputs = [known.get(name, _Tensor(constant=not name)) for name in node.input]
            function = self._functions.get((node.domain, node.op_type))
            if function is not None:
                outputs = self._call(function, inputs, attributes)
            else:
                self._count(node.op_type, inputs)
                outputs = self._enter(node.op_type, inputs, attributes, known, arguments)
                outputs = outputs or self._outputs(node, inputs, attributes)
            known.update(zip(node.output, outputs, strict=False))

    def _call(
        self, function: onnx.FunctionProto, inputs: list[_Tensor], attributes: _Attributes
    ) -> list[_Tensor]:
        """Look into a function of the model, as often as it is called."""
        name = function.domain, function.name
        if name in self._calling:  # itself, which no runtime takes
            return []
        known: _Known = ChainMap(dict(zip(function.input, inputs, strict=False)))
        defaults = {one.name: one for one in function.attribute_proto}
        self._calling.append(name)
        self._nodes(function.node, known, {**defaults, **attributes})
        self._calling.pop()
        return [known.get(output, _Tensor()) for output in function.output]

    def _enter(
        self,
        operator: str,
        inputs: list[_Tensor],
        attributes: _Attributes,
        known: _Known,
        arguments: _Attributes,
    ) -> list[_Tensor]:
        """Look into the graphs of If, Loop and Scan; nothing for a node that holds no graph."""
        given: list[_Tensor] = []
        if operator == "Loop":
            given = [_Tensor("int64"), _Tensor("bool"), *inputs[2:]]
        elif operator == "Scan":
            given = inputs
        outputs: list[_Tensor] = []
        for one in attributes.values():
            for graph in (*([one.g] if one.HasField("g") else ()), *one.graphs):
                found = self.graph(graph, known, given, arguments)
                found = found[1:] if operator == "Loop" else found
                # Of two branches, that which tells of a source.
                pairs = zip(found, outputs or found, strict=False)
                outputs = [new if new.source else old for new, old in pairs]
        return outputs

    def _count(self, operator: str, inputs: list[_Tensor]) -> None:
        kind = kind_of(operator, [one.type for one in inputs])
        if kind is None:
            if is_quantiser(operator):
                self.quantisers.add(operator)
            return
        form = operator
        if kind in FLOATS.values():
            operands = inputs if operator == "Einsum" else inputs[:2]
            kind = _refined(kind, operands)
            sources = sorted({one.source for one in operands if one.source})
            form = f"{operator} with {' and '.join(sources)}"
        if kind == PARTLY:
            self.forms.add(form)
        self.kinds[kind] += 1

    def _outputs(
        self, node: onnx.NodeProto, inputs: list[_Tensor], attributes: _Attributes
    ) -> list[_Tensor]:
        """What is known of the outputs of a node without graphs of its own."""
        operator = node.op_type
        first, second, third = (*inputs, _Tensor(), _Tensor(), _Tensor())[:3]
        made = attributes.get("output_dtype")
        asked = _type_name(made.i) if made is not None else ""
        constant = bool(inputs) and all(one.constant for one in inputs)
        if operator == "Constant":
            tensors = [_Tensor(_constant_type(attributes), constant=True)]
        elif operator.startswith("Dequantize"):
            source = "int8" if first.type in ("", *FLOATS) else first.type
            tensors = [replace(first, type=asked or second.type or "float", source=source)]
        elif operator == "QuantizeLinear":
            tensors = [replace(first, type=third.type or asked or "uint8", source="")]
        elif operator in ("Cast", "CastLike"):
            to = attributes.get("to")
            tensors = [_cast(first, second.type if to is None else _type_name(to.i))]
        elif operator in _MOVERS:
            # Of what is gathered, constant indices of few values tell, too: those of a code book.
            indices = [second] if operator.startswith("Gather") and second.constant else []
            moved = inputs if operator == "Concat" else [first, *indices]
            told = next((replace(first, source=one.source) for one in moved if one.source), first)
            picked = all(one.constant or one.picked for one in moved)
            tensors = [replace(told, constant=constant, picked=picked)]
        else:
            told = next((one for one in inputs if one.source), first)
            # Weights are scaled by what may depend on an input.
            scaled = (
                operator in ("Mul", "Div") and told.constant and told.source.startswith(_BY_HAND)
            )
            source = told.source if constant or scaled else ""
            types = self._output_types(node, inputs)
            return [_Tensor(name, constant, source=source) for name in types]
        return tensors * len(node.output)

    def _output_types(self, node: onnx.NodeProto, inputs: list[_Tensor]) -> list[str]:
        domain = _domain(node.domain)
        version = self._opsets.get(domain, onnx.defs.onnx_opset_version())
        names = _type_names(node.op_type, domain, version)
        if names is None:  # an operator that isn't ONNX's, as are those of ONNX Runtime
            floats = [one.type for one in inputs if one.type in FLOATS]
            return (floats or [one.type for one in inputs] or [""])[:1] * len(node.output)
        takes, gives = names
        # The last input and output of an operator may be there many times.
        taken = zip((*takes, *takes[-1:] * len(inputs)), inputs, strict=False)
        known = {name: one.type for name, one in taken if one.type}
        given = (*gives, *gives[-1:] * len(node.output))[: len(node.output)]
        return [known.get(name, name if name.islower() else "") for name in given]


def _refined(kind: str, operands: Sequence[_Tensor]) -> str:
    """How a float product is stored, given that an operator calculates its operands in `kind`."""
    quantised = [one for one in operands if one.source and one.source not in FLOATS]
    if quantised:
        whole = len(quantised) == len(operands)
        narrow = any(one.source.startswith(_NARROW) for one in quantised)
        return "int8" if whole and not narrow else PARTLY
    found = (FLOATS.get(one.source or one.type) for one in operands)
    return next((half for half in found if half in HALVES), kind)


def _cast(tensor: _Tensor, to: str) -> _Tensor:
    """What is known of a tensor once it was cast."""
    source = tensor.source if to in FLOATS or tensor.constant else ""
    packed = tensor.type in ("int32", "uint32")  # int64 are positions
    small = tensor.type.startswith(_BY_HAND)
    half = FLOATS.get(tensor.type) in HALVES and FLOATS.get(to) not in HALVES
    # Weights dequantised by hand, or what was calculated in half precision. Weights that are only
    # stored in half precision and widened before anything is done with them are floats.
    stored = tensor.constant or tensor.picked
    by_hand = (small and stored) or (packed and tensor.constant)
    if to in FLOATS and not source and (by_hand or (half and not stored)):
        source = tensor.type
    elif to not in FLOATS and small and tensor.constant:
        source = tensor.type  # widened before it is made a float
    return replace(tensor, type=to, source=source)


def _constant_type(attributes: _Attributes) -> str:
    for name, one in attributes.items():
        if name in ("value", "sparse_value"):
            tensor = one.t if one.HasField("t") else one.sparse_tensor.values
            return _type_name(tensor.data_type)
        if name.startswith("value_float"):
            return "float"
    return "int64"


@cache
def _type_names(
    operator: str, domain: str, version: int
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names of the types of an operator's inputs and outputs; None if ONNX doesn't know it.

    A name is that of a type where there can be no other, else one such as "T", which stands for
    the same type wherever it stands.
    """
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return None
    single = {
        one.type_param_str: one.allowed_type_strs[0]
        for one in schema.type_constraints
        if len(one.allowed_type_strs) == 1
    }

    def names(parameters: Iterable[onnx.defs.OpSchema.FormalParameter]) -> tuple[str, ...]:
        found = (single.get(one.type_str, one.type_str) for one in parameters)
        return tuple(name.removeprefix("tensor(").removesuffix(")") for name in found)

    return names(schema.inputs), names(schema.outputs)


def _type_name(number: int) -> str:
    """ONNX Runtime's name of an element type; "" where it isn't said, or is none."""
    try:
        name = onnx.TensorProto.DataType.Name(number).lower()
    except ValueError:
        return ""
    return "" if name == "undefined" else name


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
