"""A model is named by a path, and its checksum covers every file that holds weights of it."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from onnx import helper, numpy_helper

from bertsquad.errors import SuiteError
from bertsquad.models.zoo import MODELS, files_of, find, locate

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "w.bin"


def away(place: str) -> onnx.TensorProto:
    """A tensor of eight floats in the file `WEIGHTS`."""
    tensor = numpy_helper.from_array(np.zeros(8, np.float32), place)
    onnx.external_data_helper.set_external_data(tensor, WEIGHTS, 0, 32)
    tensor.ClearField("raw_data")
    return tensor


def constant(place: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [place], value=away(place))


def in_an_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(away("away"))


def in_a_sparse_initializer(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.arange(8), "indices")
    sparse = helper.make_sparse_tensor(away("away"), indices, [20])
    model.graph.sparse_initializer.append(sparse)


def in_a_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant("away"))


def in_a_sparse_attribute(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.arange(8), "indices")
    sparse = helper.make_sparse_tensor(away("away"), indices, [20])
    model.graph.node.append(helper.make_node("Constant", [], ["away"], sparse_value=sparse))


def in_a_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([constant("inner")], "branch", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def in_a_function(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Plus", [], ["away"], [constant("away")], opset)
    model.functions.append(function)


PLACES = [
    in_an_initializer,
    in_a_sparse_initializer,
    in_a_node,
    in_a_sparse_attribute,
    in_a_branch,
    in_a_function,
]


@pytest.mark.parametrize("place", PLACES)
def test_the_checksum_covers_weights_wherever_the_graph_names_them(
    tmp_path: Path, place: Callable[[onnx.ModelProto], None]
) -> None:
    path, weights = tiny.model(tmp_path / "a.onnx"), tmp_path / WEIGHTS
    proto = onnx.load(str(path))
    place(proto)
    path.write_bytes(proto.SerializeToString())
    weights.write_bytes(bytes(32))
    first = locate(find(str(path)))
    assert [Path(one.path) for one in first.files] == [path, weights]
    weights.write_bytes(bytes(31) + b"!")
    assert locate(find(str(path))).key != first.key
    weights.write_bytes(bytes(32))
    assert locate(find(str(path))).key == first.key
    weights.unlink()
    with pytest.raises(SuiteError, match=rf"{WEIGHTS} beside it, .* is missing"):
        locate(find(str(path)))


def test_a_model_in_one_file_keeps_that_files_checksum(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    assert files_of(path).key == hashlib.sha256(path.read_bytes()).hexdigest()
    known = locate(MODELS["minilm"])
    assert known.key == hashlib.sha256(known.path.read_bytes()).hexdigest()


def test_the_pytest_process_looks_into_no_model_that_the_suite_knows() -> None:
    code = (
        "import sys; from bertsquad.models.fitting import fit\n"
        "from bertsquad.models.zoo import find, locate\n"
        "locate(find('minilm')); fit(find('minilm'))\n"
        "sys.exit('it imported onnx' if 'onnx' in sys.modules else None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    model = find(str(path))
    path.unlink()
    with pytest.raises(SuiteError, match=r"a\.onnx can't be read: No such file"):
        locate(model)


def test_a_link_gives_a_model_its_name_and_not_the_file_behind_it(tmp_path: Path) -> None:
    real = tiny.model(tmp_path / "blobs" / "0123abcd")
    link = tmp_path / "My Model.onnx"
    link.symlink_to(real)
    model = find(str(link))
    assert (model.name, model.path) == ("my_model", link)
    assert locate(model).key == files_of(real).key
