"""The tables of a model's embeddings: how many ids, positions and kinds of segments it has.

All of it is in the graph, and no weight is read. What can't be told is None.
"""

from collections.abc import Iterator, Sequence

import onnx
import onnx.inliner

from bertsquad.models.matching import Tables

#: Operators whose result holds all values of their first input, in any shape or type.
_PASSING = frozenset(
    "Cast CastLike Expand Flatten Identity Reshape Squeeze Tile Transpose Unsqueeze".split()
)
#: The same of a table, which may be stored in fewer bits.
_STORING = _PASSING - {"Expand", "Flatten", "Reshape", "Tile", "Transpose"} | frozenset(
    "DequantizeLinear DynamicQuantizeLinear QuantizeLinear".split()
)
#: Operators that choose rows of a table.
_GATHERS = ("Gather", "GatherBlockQuantized")
#: ONNX Runtime's operators that hold all embeddings
#: (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), and which of their
#: inputs is the table of which other: of ids, of segments and of positions.
_WHOLE = ("EmbedLayerNormalization", "QEmbedLayerNormalization")
_TABLE_OF_INPUT = {0: 2, 1: 4, 8: 3}
#: The fewest rows of a table of positions: shorter ones are of other things.
_FEWEST_POSITIONS = 16


def tables(
    model: onnx.ModelProto, ids: str, segments: str | None = None, positions: str | None = None
) -> Tables:
    """The tables of a model with inputs of these names; its weights need not be loaded."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(_without_weights(model))
    graph = _Graph(model.graph)
    words = graph.rows_fed_by(ids)
    others = graph.rows_fed_by(segments) if segments is not None else None
    fed = graph.rows_fed_by(positions) if positions is not None else None
    return Tables(words, fed or graph.positions(ids, segments), others)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model's nodes and functions, with the shapes of its constants alone."""
    bare = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = model.graph
    bare.graph.name = graph.name
    for kind in ("node", "input", "output"):
        getattr(bare.graph, kind).extend(getattr(graph, kind))
    for one in graph.initializer:
        bare.graph.initializer.add(name=one.name, data_type=one.data_type, dims=one.dims)
    return bare


class _Graph:
    """A graph that is followed from its inputs to the tables that these choose rows of."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {
            one.name: tuple(one.dims) for one in graph.initializer
        }
        self._makers: dict[str, onnx.NodeProto] = {}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                for one in node.attribute:
                    if one.name == "value":
                        self._shapes[node.output[0]] = tuple(one.t.dims)
            for name in node.output:
                self._makers[name] = node
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def rows_fed_by(self, name: str) -> int | None:
        """The rows of the smallest table that the values of `name` choose from."""
        found = [shape[axis] for shape, axis in self._chosen_by(name)]
        return min(found, default=None)

    def positions(self, ids: str, segments: str | None) -> int | None:
        """The rows of the table of positions, where the model counts them itself.

        It is the only other table as wide as that of words that is added to the words' vectors.
        """
        for node in self._all_users(ids):
            if node.op_type in _WHOLE:
                shape = self._shape(node.input[3])
                return shape[0] if shape else None
        own = [(shape, axis) for shape, axis in self._chosen_by(ids) if len(shape) == 2]
        if not own:
            return None
        width = own[0][0][1 - own[0][1]]
        fed = {id(node) for name in (ids, segments) if name for node in self._all_users(name)}
        rows = {
            found[-2]
            for users in self._users.values()
            for node in users
            if node.op_type in (*_GATHERS, "Slice") and id(node) not in fed
            for found in [self._shape(node.input[0])]
            if found is not None and found[-1:] == (width,) and _is_table(found)
            if self._is_added(node.output[0])
        }
        return rows.pop() if len(rows) == 1 else None

    def _chosen_by(self, name: str) -> Iterator[tuple[tuple[int, ...], int]]:
        """The shapes of the tables that the values of `name` choose from, and the axis of each."""
        for node in self._all_users(name):
            axis, table = 0, None
            if node.op_type in _GATHERS:
                named = "axis" if node.op_type == "Gather" else "gather_axis"
                axis = next((one.i for one in node.attribute if one.name == named), 0)
                table = self._shape(node.input[0])
            elif node.op_type in _WHOLE:
                for index, place in _TABLE_OF_INPUT.items():
                    if self._comes_from(node.input[index : index + 1], name):
                        table = self._shape(node.input[place])
            if table and -len(table) <= axis < len(table):
                yield table, axis % len(table)

    def _all_users(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read all values of `name`, in whatever shape or type."""
        for node in self._users.get(name, []):
            if node.op_type in _PASSING and node.input[0] == name:
                yield from self._all_users(node.output[0])
            elif node.op_type in _WHOLE or list(node.input[1:2]) == [name]:
                yield node

    def _comes_from(self, names: Sequence[str], source: str) -> bool:
        """Whether the first of `names`, if there is one, holds the values of `source`."""
        name = names[0] if names else ""
        while name != source:
            node = self._makers.get(name)
            if node is None or node.op_type not in _PASSING:
                return False
            name = node.input[0]
        return True

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a constant, perhaps one that is stored in fewer bits."""
        while name not in self._shapes:
            node = self._makers.get(name)
            if node is None or node.op_type not in _STORING:
                return None
            name = node.input[0]
        return self._shapes[name]

    def _is_added(self, name: str) -> bool:
        """Whether a tensor is added to another, as positions are to words."""
        users = self._users.get(name, [])
        passing = _PASSING | _STORING
        return any(
            node.op_type in ("Add", "QLinearAdd", "SkipLayerNormalization", "Sum")
            or (node.op_type in passing and self._is_added(node.output[0]))
            for node in users
        )


def _is_table(shape: tuple[int, ...]) -> bool:
    """Whether a constant may hold a vector for each position, perhaps with axes of 1 before it."""
    return len(shape) > 1 and shape[-2] >= _FEWEST_POSITIONS and set(shape[:-2]) <= {1}
