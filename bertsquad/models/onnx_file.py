"""ONNX files: loaded and written, and the other files that hold weights of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

import onnx
from onnx.external_data_helper import set_external_data

from bertsquad.assets.cache import weights_beside
from bertsquad.errors import SuiteError, out_of_memory
from bertsquad.files import unreadable, write_whole
from bertsquad.models.skimming import skim

#: The most bytes of weights that are written into a model's own file. Protobuf takes no message of
#: 2 GiB, and the graph needs room too.
MOST_INSIDE = 2_000_000_000
#: The fewest bytes of a tensor that goes into a file beside it; shapes, which a runtime reads while
#: it loads the graph, must stay inside.
FEWEST_BESIDE = 1024
#: Where a tensor may begin in a file of weights, so that it can be mapped
#: (https://onnx.ai/onnx/repo-docs/ExternalData.html).
ALIGNMENT = 4096


def load_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """An ONNX file, with its weights or without; SuiteError if it is none.

    Without them only their names, types and shapes are read, and the values of small ones.
    """
    try:
        size = path.stat().st_size
        model = onnx.load(str(path), load_external_data=False) if weights else skim(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # protobuf's DecodeError has no public home
        if out_of_memory(error):
            raise  # which says nothing of the file
        raise SuiteError(f"{path} is not an ONNX model, or is truncated") from error
    if size == 0:
        raise SuiteError(f"{path} is empty")
    if weights:
        _bring_inside(path, model)
    return model


def _bring_inside(path: Path, model: onnx.ModelProto) -> None:
    """Read the weights that lie beside the model at `path` into it."""
    weight_files(path, model)  # they are there, and whole
    for tensor in _tensors_beside(model):
        entries = _place(tensor)
        file = path.parent / entries["location"]
        try:
            # ONNX's own reader takes no links, as a cache has them.
            with file.open("rb") as content:
                content.seek(int(entries.get("offset", 0)))
                length = entries.get("length")
                tensor.raw_data = content.read(-1 if length is None else int(length))
        except OSError as error:
            raise unreadable(file, error) from error
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model to `path`, whole or not at all; `model` loses weights that go beside it.

    Weights that are too large for one file go into another (`cache.weights_beside`).
    """
    tensors = [one for one in model.graph.initializer if len(one.raw_data) >= FEWEST_BESIDE]
    if sum(len(tensor.raw_data) for tensor in tensors) > MOST_INSIDE:
        beside = weights_beside(path)

        def move(part: Path) -> None:
            with part.open("wb") as file:
                for tensor in tensors:
                    offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
                    file.seek(offset)
                    length = file.write(tensor.raw_data)
                    set_external_data(tensor, beside.name, offset, length)
                    tensor.ClearField("raw_data")

        write_whole(beside, move)
    write_whole(path, lambda part: onnx.save(model, str(part)))


def find_files(path: Path) -> list[Path]:
    """The path by which a runtime finds the weights of the model at `path`, then their files.

    They lie beside it or, where it is a link, beside what that leads to: SuiteError unless they do.
    """
    model = load_model(path, weights=False)
    try:
        return [path, *weight_files(path, model)]
    except SuiteError:
        at = path
        while at.is_symlink():
            at = at.parent / at.readlink()
            at = at.parent.resolve() / at.name
            try:
                return [at, *weight_files(at, model)]
            except SuiteError:
                continue
        raise


def weight_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The other files that hold weights; SuiteError unless they lie beside the model, whole."""
    needed: dict[str, int] = {}
    for tensor in _tensors_beside(model):
        entries = _place(tensor)
        location = entries.get("location", "")
        if not _is_beside(path, location):
            raise SuiteError(
                f"{path}: its weights should lie in a file in its own folder, but it names "
                f"{location!r:.200}: give a model that keeps them there"
            )
        try:
            offset, length = (int(entries.get(key, 0)) for key in ("offset", "length"))
        except ValueError as error:
            raise SuiteError(f"{path} is not an ONNX model, or is damaged: {error}") from error
        if offset < 0 or length < 0:
            raise SuiteError(
                f"{path} is not an ONNX model, or is damaged: {length} bytes at {offset}"
            )
        needed[location] = max(offset + length, needed.get(location, 0))
    files = []
    for location, size in needed.items():
        file = path.parent / location
        try:
            found = file.stat().st_size if file.is_file() else None
        except OSError:  # a name that is too long
            found = None
        if found is None:
            raise SuiteError(
                f"{path} needs {str(file)[:300]} beside it, which holds weights of it and is "
                "missing"
            )
        if found < size:
            raise SuiteError(
                f"{path} needs {file}, which is truncated: expected {size} bytes, found {found}"
            )
        files.append(file)
    return files


def _is_beside(path: Path, location: str) -> bool:
    """Whether `location` is below the folder of the model at `path`, links followed."""
    pure = PureWindowsPath(location)  # whose rules know all separators and drives
    if not location or pure.anchor or ".." in pure.parts:
        return False
    try:
        real = (path.parent / location).resolve()
    except (OSError, RuntimeError, ValueError):  # no path at all, or links in a circle
        return False
    # A model that is a link itself, as in Hugging Face's cache, has its weights where that points.
    return any(real.is_relative_to(at) for at in (path.parent.resolve(), path.resolve().parent))


def _place(tensor: onnx.TensorProto) -> dict[str, str]:
    """Where a tensor lies in another file: `location`, perhaps `offset` and `length`."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _tensors_beside(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a model that are stored in other files."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in (model.graph, *graphs_inside([*model.graph.node, *nodes])):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def graphs_inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that nodes such as If hold, and all graphs inside these."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield graph
                yield from graphs_inside(graph.node)
