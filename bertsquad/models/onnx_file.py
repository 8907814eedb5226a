"""ONNX files: loaded, and the other files that hold weights of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

import onnx

from bertsquad.errors import SuiteError, out_of_memory
from bertsquad.files import unreadable


def load_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """An ONNX file, with or without the weights stored beside it; SuiteError if it is none."""
    try:
        size = path.stat().st_size
        model = onnx.load(str(path), load_external_data=weights)
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # protobuf's DecodeError has no public home
        if out_of_memory(error):
            raise  # which says nothing of the file
        raise SuiteError(
            f"{path} is not an ONNX model, is truncated, or lacks the weights stored beside it"
            if weights
            else f"{path} is not an ONNX model, or is truncated"
        ) from error
    if size == 0:
        raise SuiteError(f"{path} is empty")
    return model


def weight_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The other files that hold weights; SuiteError unless they lie beside the model, whole."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not _is_beside(path, location):
            raise SuiteError(
                f"{path}: its weights should lie in a file in its own folder, but it names "
                f"{location!r:.200}: give a model that keeps them there"
            )
        try:
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        except ValueError as error:
            raise SuiteError(f"{path} is not an ONNX model, or is damaged: {error}") from error
        needed[location] = max(end, needed.get(location, 0))
    files = []
    for location, size in needed.items():
        file = path.parent / location
        try:
            found = file.stat().st_size if file.is_file() else None
        except OSError:  # a name that is too long
            found = None
        if found is None:
            raise SuiteError(
                f"{path} needs {str(file)[:300]}, which holds weights of it and is missing"
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


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors that are stored in a model."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in (model.graph, *graphs_inside([*model.graph.node, *nodes])):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def graphs_inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that nodes such as If hold, and all graphs inside these."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield graph
                yield from graphs_inside(graph.node)
