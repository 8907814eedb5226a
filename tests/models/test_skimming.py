"""A file is read without its weights, and nothing else is lost of it."""

from pathlib import Path

import exported
import onnx
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import POCKET

from bertsquad.errors import SuiteError
from bertsquad.models.onnx_file import load_model
from bertsquad.models.skimming import MOST_KEPT, skim

FAMILIES = Path(__file__).resolve().parents[1] / "families"
FILES = [*sorted(FAMILIES.glob("*/*/*.onnx")), POCKET / "minilm-squad.onnx"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_all_but_the_values_of_weights_is_read(path: Path) -> None:
    expected = onnx.load(str(path), load_external_data=False)
    for tensor in expected.graph.initializer:
        if len(tensor.raw_data) > MOST_KEPT:
            tensor.ClearField("raw_data")
    assert skim(path) == expected


@pytest.mark.parametrize("kind", ["float_data", "int32_data", "int64_data", "double_data"])
def test_values_are_passed_over_however_they_are_written(tmp_path: Path, kind: str) -> None:
    many, few = (onnx.TensorProto(name=name) for name in ("many", "few"))
    getattr(many, kind).extend(range(2000))
    getattr(few, kind).extend([1, 2])

    def model() -> onnx.ModelProto:
        graph = onnx.GraphProto(name="a", initializer=[many, few], doc_string="x" * 5000)
        return onnx.ModelProto(graph=graph)

    (tmp_path / "a.onnx").write_bytes(model().SerializeToString())
    many.ClearField(kind)
    assert skim(tmp_path / "a.onnx") == model()


def test_small_values_are_kept(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx", rows=2000)
    whole, found = onnx.load(str(path)), skim(path)
    for before, after in zip(whole.graph.initializer, found.graph.initializer, strict=True):
        assert (before.name, before.dims, before.data_type) == (
            *(after.name, after.dims),
            after.data_type,
        )
        small = len(before.raw_data) <= MOST_KEPT
        assert after.raw_data == (before.raw_data if small else b"")
    assert path.stat().st_size > 10 * len(found.SerializeToString())


@given(cut=st.integers(20, 5000))
@settings(max_examples=40, deadline=None)
def test_a_file_whose_graph_is_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = tiny.model(folder / "whole.onnx").read_bytes()
    path = folder / "cut.onnx"
    path.write_bytes(whole[: max(1, len(whole) - cut)])
    with pytest.raises(SuiteError, match=r"cut\.onnx is not an ONNX model, or is truncated"):
        load_model(path, weights=False)
