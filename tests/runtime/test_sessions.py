"""A session is what was asked for, or an error that names the file."""

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest
import tiny
from engines import arrays, is_a_sentence, make_engine

from bertsquad.errors import SuiteError
from bertsquad.runtime import sessions


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is empty"), (b"PK\x03\x04 this is some other file", "is not an ONNX model")],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=complaint) as caught:
        make_engine(path)
    assert str(path) in str(caught.value)


def test_a_model_that_the_runtime_cannot_load_is_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    proto = onnx.load(str(path))
    next(node for node in proto.graph.node if node.op_type == "Div").op_type = "Divide"
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match=r"cpu can't load .*a\.onnx.*Divide") as caught:
        make_engine(path)
    assert is_a_sentence(str(caught.value))


def test_a_model_opened_for_proofs_gives_its_outputs_in_order(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    given = arrays(2, 40)
    start, end = sessions.open_on_cpu(path, 1)(tiny.inspect(path).feed(*given))
    assert np.stack((start, end), -1) == pytest.approx(tiny.logits(*given), abs=1e-4)
