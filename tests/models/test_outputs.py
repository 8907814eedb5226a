"""Start and end logits are found by the names and shapes of outputs, or as the user names them."""

from pathlib import Path

import exported
import pytest
import tiny
from preparing import ready

from bertsquad.errors import SuiteError
from bertsquad.models.reads import Reads


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("names", "extras", "expected"),
    [
        (("start_logits", "end_logits"), ("hidden", "pooled", "attention", "flat"), "by name"),
        (("output_start", "output_end"), ("same", "flat"), "by name"),
        (("START", "the_end"), (), "by name"),
        (("start_logits", "1234"), ("hidden", "pooled"), "by name"),
        (("1234", "end_logits"), ("hidden",), "by name"),
        (("logits",), (), "stacked"),
        (("start_end_logits",), ("hidden", "pooled", "attention"), "stacked"),
        (("1234", "1235"), (), "unknown"),
        (("1234", "1235"), ("hidden", "pooled", "attention"), "unknown"),
        (("backend_0", "backend_1"), (), "unknown"),
        (("start_a", "start_b"), (), "unknown"),
    ],
)
@pytest.mark.parametrize("length", [None, 384])
def test_outputs_are_found_by_name_or_shape_whatever_else_there_is(
    tmp_path: Path, names: tuple[str, ...], extras: tuple[str, ...], expected: str, length: int
) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=names, extras=extras, length=length)
    found = tiny.inspect(path)
    if expected == "unknown":
        assert set(found.candidates) == set(names)
    else:
        assert (found.start, found.end, found.candidates) == (names[0], names[-1], ())
        assert found.stacked == (expected == "stacked")


@pytest.mark.parametrize(
    ("names", "given", "complaint"),
    [
        (("a", "b"), ("b", "c"), "no output 'c'.*hidden, pooled, a, b"),
        (("a", "b"), ("a", "hidden"), r"two of \[batch, tokens\].*hidden \[\?, \?, 8\]"),
        (("a", "b"), ("a", "pooled"), r"pooled \[\?, 8\]"),
        (("a", "b"), ("a", "a"), r"one of \[batch, tokens, 2\]"),
        (("logits",), ("logits", "logits"), ""),
        (("end", "start"), ("end", "start"), ""),
    ],
)
def test_outputs_that_the_user_names_must_be_such_outputs(
    tmp_path: Path, names: tuple[str, ...], given: tuple[str, str], complaint: str
) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=names, extras=("hidden", "pooled"))
    if complaint:
        with pytest.raises(SuiteError, match=complaint):
            ready(path, reads=Reads(outputs=given))
    else:  # the user's word counts more than names
        signature = ready(path, reads=Reads(outputs=given)).signature
        assert (signature.start, signature.end) == given


def test_outputs_that_the_user_named_stay_so_after_quantisation(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True, outputs=("a", "b"))
    prepared = ready(path, "int8", reads=Reads(outputs=("b", "a")))
    assert (prepared.signature.start, prepared.signature.end) == ("b", "a")
    assert prepared.signature.quantised
