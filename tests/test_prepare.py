"""Models are matched to their inputs, and a needlessly fixed axis is opened only when proven."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertsquad.engines import check_precision
from bertsquad.errors import SuiteError
from bertsquad.prepare import Feed, Prepared, inspect, prepare

Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class Runs:
    """Runs models for the proof as the engine does, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, path: Path, feeds: list[Feed]) -> list[list[NDArray[np.float32]]]:
        self.count += 1
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return [session.run(None, feed) for feed in feeds]


def never(path: Path, feeds: list[Feed]) -> list[list[NDArray[np.float32]]]:
    raise AssertionError(f"{path.name} was run though nothing had to be proven")


def answer(prepared: Prepared, arrays: Arrays) -> NDArray[np.float32]:
    signature = prepared.signature
    names = [signature.start, signature.end]
    session = ort.InferenceSession(str(prepared.path), providers=["CPUExecutionProvider"])
    ids, mask, segments = arrays
    return np.stack(session.run(names, signature.feed(ids, mask, segments)), axis=-1)


def three(length: int, padded_to: int | None = None) -> Arrays:
    ids, mask, segments = (np.zeros((2, padded_to or length), np.int64) for _ in range(3))
    ids[:, :length] = np.arange(2 * length).reshape(2, length) + 500
    mask[:, :length] = 1
    segments[:, length // 2 : length] = 1
    return ids, mask, segments


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def standins() -> Path:
    if not tiny.STANDINS.is_dir():
        pytest.skip("the stand-in models are in ../shared/standins, which isn't here")
    return tiny.STANDINS


def test_the_signature_tells_roles_types_and_sizes(tmp_path: Path) -> None:
    plain = inspect(tiny.model(tmp_path / "a.onnx"))
    assert (plain.ids, plain.mask, plain.segments) == tiny.INPUTS
    assert (plain.start, plain.end) == tiny.OUTPUTS
    assert (plain.dtype, plain.batch, plain.length) == ("int64", None, None)
    assert not plain.quantised
    other = inspect(
        tiny.model(tmp_path / "b.onnx", dtype="int32", batch=1, length=384, quantised=True)
    )
    assert (other.dtype, other.batch, other.length) == ("int32", 1, 384)
    assert other.quantised


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids", "attention_mask", "token_type_ids"),
        ("token_type_ids", "attention_mask", "input_ids"),
        pytest.param(
            ("Input_IDs:0", "Input_Mask:0", "Segment_IDs:0"),
        ),
        ("input_ids", "attention_mask"),
    ],
)
def test_inputs_are_matched_by_name_in_any_order(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    signature = inspect(tiny.model(tmp_path / "a.onnx", inputs=inputs))
    roles = {signature.ids: "ids", signature.mask: "mask"}
    assert sorted(roles.values()) == ["ids", "mask"]
    assert "mask" in signature.mask.lower()
    assert signature.ids.lower().startswith("input_ids")
    assert {*roles, signature.segments} - {None} == set(inputs)


def test_outputs_are_matched_by_name_in_any_order(tmp_path: Path) -> None:
    signature = inspect(tiny.model(tmp_path / "a.onnx", outputs=("end_logits", "start_logits")))
    assert (signature.start, signature.end) == ("start_logits", "end_logits")


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ({"inputs": ("tokens", "input_mask", "segment_ids")}, "'ids'.*tokens, input_mask"),
        ({"inputs": ("input_ids", "weights", "segment_ids")}, "'mask'.*weights"),
        ({"inputs": ("input_ids", "input_mask", "speaker")}, "at most segments.*speaker"),
        (
            {"inputs": ("input_ids", "input_mask", "segment_ids", "position_ids")},
            "at most segments.*position_ids",
        ),
        ({"outputs": ("logits",)}, "'start'.*logits"),
        ({"outputs": ("start_logits",)}, "'end'.*start_logits"),
        ({"outputs": ("start_a", "end_a", "start_b", "end_b")}, "one output.*start_b"),
        ({"dtype": "float32"}, "integer type"),
        ({"length": 128}, "exactly 128 tokens.*384"),
    ],
)
def test_a_model_that_is_no_extractive_qa_model_is_refused_with_what_was_found(
    tmp_path: Path, variant: dict[str, Any], complaint: str
) -> None:
    path = tiny.model(tmp_path / "other.onnx", **variant)
    with pytest.raises(SuiteError, match=complaint) as caught:
        inspect(path)
    assert str(path) in str(caught.value)


def test_inputs_of_different_rank_or_size_are_refused(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)
    proto = onnx.load(str(path))
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 512
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match="different fixed sizes"):
        inspect(path)
    del proto.graph.input[1].type.tensor_type.shape.dim[1]
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match=r"shape \[batch, length\]"):
        inspect(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.onnx can't be read: No such file"):
        inspect(tmp_path / "nowhere.onnx")


def test_a_truncated_model_is_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SuiteError, match=r"a\.onnx is not an ONNX model, or is truncated"):
        inspect(path)


@given(content=st.binary(max_size=200) | st.text().map(str.encode))
@settings(max_examples=50, deadline=None)
def test_a_file_of_anything_is_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.onnx"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=r"anything\.onnx"):
        inspect(path)


def test_a_model_with_open_axes_is_run_as_it_is(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    prepared = prepare(path, "key", never)
    assert (prepared.path, prepared.note) == (path, "as it is")
    assert not cache.exists()


@pytest.mark.parametrize("length", [384, 512])
@pytest.mark.parametrize("variant", [{}, {"dtype": "int32"}, {"inputs": tiny.INPUTS[:2]}])
def test_a_needlessly_fixed_axis_is_opened_and_proven(
    tmp_path: Path, length: int, variant: dict[str, Any]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=length, **variant)
    original = path.read_bytes()
    prepared = prepare(path, "key", Runs())
    assert prepared.path != path
    assert prepared.signature.length is None
    assert "proven" in prepared.note
    assert str(length) in prepared.note
    assert path.read_bytes() == original
    arrays = three(50)
    segments = None if "inputs" in variant else arrays[2]
    expected = tiny.logits(arrays[0], arrays[1], segments)
    assert answer(prepared, arrays) == pytest.approx(expected, abs=1e-4)


def test_a_fixed_batch_stays_fixed_when_the_sequence_axis_is_opened(tmp_path: Path) -> None:
    prepared = prepare(tiny.model(tmp_path / "a.onnx", batch=1, length=384), "key", Runs())
    assert (prepared.signature.batch, prepared.signature.length) == (1, None)


@pytest.mark.parametrize("trait", [{"hardwired": True}, {"unmasked": True}])
def test_a_model_that_does_need_its_length_is_run_padded_and_says_so(
    tmp_path: Path, cache: Path, trait: dict[str, Any]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, **trait)
    prepared = prepare(path, "key", Runs())
    assert prepared.path == path
    assert prepared.signature.length == 384
    assert "every sample is padded" in prepared.note
    assert not list(cache.rglob("*.onnx"))


def test_a_model_whose_end_logits_become_nan_is_run_padded(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, nan_when_short=True)
    assert prepare(path, "key", Runs()).signature.length == 384


def test_a_model_with_weights_beside_it_is_run_padded_and_still_answers(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, external=True)
    assert (tmp_path / "a.onnx.data").is_file()
    prepared = prepare(path, "key", never)
    assert (prepared.path, prepared.signature.length) == (path, 384)
    arrays = three(50, padded_to=384)
    assert answer(prepared, arrays) == pytest.approx(tiny.logits(*arrays), abs=1e-4)


@pytest.mark.parametrize("hardwired", [False, True])
def test_the_verdict_is_remembered_so_that_the_proof_runs_once(
    tmp_path: Path, hardwired: bool
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, hardwired=hardwired)
    assert prepare(path, "key", Runs()) == prepare(path, "key", never)


def test_another_model_gets_a_proof_of_its_own(tmp_path: Path) -> None:
    good = tiny.model(tmp_path / "a.onnx", length=384)
    bad = tiny.model(tmp_path / "b.onnx", length=384, hardwired=True)
    assert prepare(good, "key of a", Runs()).signature.length is None
    assert prepare(bad, "key of b", Runs()).signature.length == 384


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '{"largest_difference": 0}', "\x00"])
def test_a_corrupt_verdict_is_proven_again(tmp_path: Path, cache: Path, content: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)
    first = prepare(path, "key", Runs())
    (verdict,) = cache.rglob("*.json")
    verdict.write_text(content, encoding="utf-8")
    runs = Runs()
    assert prepare(path, "key", runs) == first
    assert runs.count > 0
    assert json.loads(verdict.read_bytes())["equal"] is True


def test_a_vanished_copy_is_made_and_proven_again(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)
    first = prepare(path, "key", Runs())
    first.path.unlink()
    runs = Runs()
    assert prepare(path, "key", runs) == first
    assert first.path.is_file()
    assert runs.count > 0


def test_an_interrupted_proof_leaves_no_verdict_behind(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)

    def interrupted(path: Path, feeds: list[Feed]) -> list[list[NDArray[np.float32]]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(path, "key", interrupted)
    runs = Runs()
    assert prepare(path, "key", runs).signature.length is None
    assert runs.count > 0


def test_a_cache_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "file"))
    with pytest.raises(SuiteError, match="BERTSQUAD_CACHE"):
        prepare(tiny.model(tmp_path / "a.onnx", length=384), "key", never)


@pytest.mark.parametrize("name", ["fixed", "fakequant"])
def test_the_stand_in_is_relaxed_and_proven(standins: Path, name: str) -> None:
    path = standins / f"bert_tiny_{name}384.onnx"
    prepared = prepare(path, name, Runs())
    assert prepared.signature.length is None
    assert prepared.note == "sequence axis opened (was 384), logits proven equal"
    products = prepared.signature.products
    assert prepared.signature.quantised == (products if name == "fakequant" else 0)
    padded = Prepared(path, inspect(path), "")
    full = answer(padded, three(70, padded_to=384))[:, :70]
    assert answer(prepared, three(70)) == pytest.approx(full, abs=1e-3)


def test_the_hardwired_stand_in_is_padded_and_said_so(standins: Path) -> None:
    path = standins / "bert_tiny_hardwired384.onnx"
    prepared = prepare(path, "hardwired", Runs())
    assert (prepared.path, prepared.signature.length) == (path, 384)
    assert prepared.note == "needs 384 tokens always, so every sample is padded"


def test_products_in_half_precision_are_counted_and_refused_as_fp32(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    model = onnx.load(path)
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    (weight,) = (w for w in model.graph.initializer if w.name in product.input)
    half = onnx.numpy_helper.to_array(weight).astype(np.float16)
    weight.CopyFrom(onnx.numpy_helper.from_array(half, weight.name))
    onnx.save(model, path)
    signature = inspect(path)
    assert (signature.products, signature.half) == (1, 1)
    with pytest.raises(SuiteError, match="1 of 1 matrix products in half precision"):
        check_precision(signature, path, "fp32")
