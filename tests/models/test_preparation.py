"""A model is made ready once: an axis opened, int8 or half precision written in, and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import tiny
from numpy.typing import NDArray
from preparing import Opens, Run, ready, uncalibrated
from shared_data import POCKET, STANDINS, needs_standins, pocket_features

from bertsquad.errors import SuiteError, Unavailable
from bertsquad.models import equality, onnx_file
from bertsquad.models.calibration import Calibration
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.models.reads import Layout, Reads
from bertsquad.models.zoo import files_of
from bertsquad.progress import Step
from bertsquad.runtime.sessions import open_on_cpu

ROOT = Path(__file__).resolve().parents[2]

Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def never(path: Path) -> Run:
    raise AssertionError(f"{path.name} was opened though nothing had to be proven")


def answer(prepared: Prepared, arrays: Arrays) -> NDArray[np.float32]:
    """The logits of a prepared model [batch, length, 2], whatever the order of its outputs."""
    signature = prepared.signature
    outputs = [value.name for value in onnx.load(prepared.path).graph.output]
    found = dict(zip(outputs, open_on_cpu(prepared.path, 1)(signature.feed(*arrays)), strict=True))
    return np.stack((found[signature.start], found[signature.end]), axis=-1)


def three(length: int, padded_to: int | None = None) -> Arrays:
    ids, mask, segments = (np.zeros((2, padded_to or length), np.int64) for _ in range(3))
    ids[:, :length] = np.arange(2 * length).reshape(2, length) + 500
    mask[:, :length] = 1
    segments[:, length // 2 : length] = 1
    return ids, mask, segments


def multiplied(path: Path, *factors: tuple[NDArray[np.float32], float]) -> Path:
    """The model at `path` with some of its weights, known by their shape, multiplied."""
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        for like, factor in factors:
            if value.shape == like.shape:
                scaled = (value * factor).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
    onnx.save(model, str(path))
    return path


def files(folder: Path) -> list[str]:
    """What lies in the cache, half files included, locks left out."""
    return sorted(
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and "locks" not in file.parts
    )


def is_a_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and len(str(error)) > 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_with_open_axes_is_run_as_it_is(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    prepared = ready(path, "fp32", never)
    assert (prepared.path, prepared.note) == (path, "as it is")
    assert prepared.signature == tiny.inspect(path)
    assert not cache.exists()


@pytest.mark.parametrize("length", [384, 512])
@pytest.mark.parametrize("variant", [{}, {"dtype": "int32"}, {"inputs": tiny.INPUTS[:2]}])
def test_a_needlessly_fixed_axis_is_opened_and_proven(
    tmp_path: Path, length: int, variant: dict[str, Any]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=length, **variant)
    original = path.read_bytes()
    prepared = ready(path)
    assert prepared.path != path
    assert prepared.signature.length is None
    assert "proven" in prepared.note
    assert str(length) in prepared.note
    assert path.read_bytes() == original
    arrays = three(50)
    segments = None if "inputs" in variant else arrays[2]
    expected = tiny.logits(arrays[0], arrays[1], segments)
    assert answer(prepared, arrays) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("outputs", [("logits",), ("start_logits", "end_logits")], ids=len)
@pytest.mark.parametrize("size", [0, 384])
def test_other_outputs_and_positions_are_opened_with_the_rest(
    tmp_path: Path, outputs: tuple[str, ...], size: int
) -> None:
    path = exported.model(
        tmp_path / "a.onnx",
        inputs=("input_ids", "attention_mask", "token_type_ids", "position_ids"),
        outputs=outputs,
        extras=("hidden", "attention", "pooled"),
        length=384,
    )
    if size == 0:
        model = onnx.load(str(path))
        for value in (*model.graph.input, *model.graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param or dim.dim_value == 384:
                    dim.dim_value = 0
        onnx.save(model, str(path))
    prepared = ready(path)
    assert prepared.path != path
    assert "opened" in prepared.note
    signature = prepared.signature
    assert (signature.length, signature.zero_sized) == (None, False)
    arrays = three(50)
    arrays[0][:] %= exported.ROWS
    found = signature.logits(signature.pick(open_on_cpu(prepared.path, 1)(signature.feed(*arrays))))
    alone = exported.model(
        tmp_path / "b.onnx",
        inputs=("input_ids", "attention_mask", "token_type_ids", "position_ids"),
        outputs=outputs,
    )
    as_alone = tiny.inspect(alone)
    expected = as_alone.logits(as_alone.pick(open_on_cpu(alone, 1)(as_alone.feed(*arrays))))
    assert found.shape == (2, 50, 2)
    assert (found == expected).all()


def test_a_small_vocabulary_bounds_the_ids_of_the_proof(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx", rows=40, length=384)
    assert "logits proven equal" in ready(path).note
    reads = Reads(Layout(padding_id=39, first_position=2))
    assert "logits proven equal" in ready(path, key="other", reads=reads).note


@pytest.mark.parametrize(("longest", "proven"), [(10, 10), (100, 100), (384, 383), (500, 499)])
def test_an_opened_axis_is_proven_for_the_longest_window(
    tmp_path: Path, longest: int, proven: int
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=512)
    opens = Opens()
    assert ready(path, "fp32", opens, reads=Reads(longest=longest)).signature.length is None
    assert max(shape[1] for shape in opens.shapes - {(2, 512)}) == proven


def test_a_copy_that_was_proven_for_short_windows_is_not_taken_for_longer_ones(
    tmp_path: Path,
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=512)
    short = ready(path)
    opens = Opens()
    long = ready(path, "fp32", opens, reads=Reads(longest=500))
    assert short.path != long.path
    assert opens.opened
    assert ready(path, "fp32", never, reads=Reads(longest=200)).path == short.path


def test_a_fixed_batch_stays_fixed_when_the_sequence_axis_is_opened(tmp_path: Path) -> None:
    prepared = ready(tiny.model(tmp_path / "a.onnx", batch=1, length=384))
    assert (prepared.signature.batch, prepared.signature.length) == (1, None)


@pytest.mark.parametrize("trait", [{"hardwired": True}, {"unmasked": True}])
def test_a_model_that_does_need_its_length_is_run_padded_and_says_so(
    tmp_path: Path, cache: Path, trait: dict[str, Any]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, **trait)
    prepared = ready(path)
    assert prepared.path == path
    assert prepared.signature.length == 384
    assert "every sample is padded" in prepared.note
    assert not list(cache.rglob("*.onnx"))


def test_a_model_whose_end_logits_become_nan_is_run_padded(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, nan_when_short=True)
    assert ready(path).signature.length == 384


def test_a_model_with_weights_beside_it_is_opened_like_any_other(
    tmp_path: Path, cache: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, external=True)
    before = {file: file.read_bytes() for file in (path, tmp_path / "a.onnx.data")}
    prepared = ready(path)
    assert prepared.path.is_relative_to(cache)
    assert prepared.signature.length is None
    assert prepared.note == "sequence axis opened (was 384), logits proven equal"
    assert answer(prepared, three(50)) == pytest.approx(tiny.logits(*three(50)), abs=1e-4)
    assert {file: file.read_bytes() for file in before} == before
    assert ready(path, "fp32", never) == prepared


def test_a_model_that_needs_its_length_is_padded_wherever_its_weights_lie(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, hardwired=True, external=True)
    prepared = ready(path)
    assert (prepared.path, prepared.signature.length) == (path, 384)
    assert prepared.note == "needs 384 tokens always, so every sample is padded"
    arrays = three(50, padded_to=384)
    expected = tiny.logits(*arrays, hardwired=True)
    assert answer(prepared, arrays) == pytest.approx(expected, abs=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_model_in_a_cache_of_links_is_prepared_like_any_other(
    tmp_path: Path, precision: str
) -> None:
    plain = tiny.model(tmp_path / "blobs" / "a.onnx", length=384, wide=True, external=True)
    expected = answer(ready(plain, precision), three(50))
    path = tmp_path / "snapshots" / "a.onnx"
    path.parent.mkdir()
    for name, blob in {"a.onnx": "4e11", "a.onnx.data": "77ff"}.items():
        plain.with_name(name).rename(plain.with_name(blob))
        path.with_name(name).symlink_to(f"../blobs/{blob}")
    prepared = ready(path, precision)
    assert prepared.signature.length is None
    assert answer(prepared, three(50)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_copy_too_large_for_one_file_is_kept_as_two_and_both_are_checked(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    expected = answer(ready(path, precision, key="inside"), three(50))
    monkeypatch.setattr(onnx_file, "MOST_INSIDE", 1000)
    first = ready(path, precision)
    beside = first.path.with_name(f"{first.path.name}.data")
    assert beside.is_file()
    assert answer(first, three(50)) == pytest.approx(expected, abs=1e-6)
    assert ready(path, precision, never) == first
    content = beside.read_bytes()
    for damage in (halve, flip, Path.unlink):
        damage(beside)
        assert ready(path, precision) == replace(first, rebuilt="damaged")
        assert beside.read_bytes() == content
        assert answer(first, three(50)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [-1, 0, -5])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sizes_of_no_meaning_are_open_axes(
    tmp_path: Path, size: int, axes: tuple[int, ...], precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        for axis in axes:
            value.type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(model, str(path))
    prepared = ready(path, precision)
    assert (prepared.signature.batch, prepared.signature.length) == (None, None)
    assert prepared.note.startswith("sizes of 0 opened") == (size == 0)
    for length in (16, 50):
        expected = tiny.logits(*three(length))
        tolerance = 1e-4 if precision == "fp32" else 0.6
        assert answer(prepared, three(length)) == pytest.approx(expected, abs=tolerance)
    assert ready(path, precision, never) == prepared


@pytest.mark.parametrize("hardwired", [False, True])
def test_a_batch_of_no_size_is_opened_before_the_length_is_tried(
    tmp_path: Path, hardwired: bool
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, hardwired=hardwired)
    model = onnx.load(str(path))
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 0
    onnx.save(model, str(path))
    prepared = ready(path)
    last = "needs 384 tokens" if hardwired else "sequence axis opened (was 384)"
    assert prepared.note.startswith(f"sizes of 0 opened; {last}")
    arrays = three(50, padded_to=384 if hardwired else None)
    expected = tiny.logits(*arrays, hardwired=hardwired)
    assert answer(prepared, arrays) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("suffix", ["", ".data"], ids=["the graph", "its weights"])
def test_a_model_that_changed_after_its_checksum_was_taken_is_not_prepared(
    tmp_path: Path, cache: Path, precision: str, suffix: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True, external=True)
    model = files_of(path)
    flip(path.with_name(f"a.onnx{suffix}"))
    complaint = rf"a\.onnx{suffix} was changed after its checksum was taken"
    with pytest.raises(SuiteError, match=complaint) as caught:
        prepare(model, "cpu", precision, never, tiny.calibration)
    assert is_a_sentence(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize("step", ["calibrating", "quantising"])
def test_a_model_that_is_another_half_way_is_said_to_have_changed(
    tmp_path: Path, cache: Path, step: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    model = files_of(path)

    def interfere(now: Step) -> None:
        if now.name == step:
            path.write_text("no model at all")

    with pytest.raises(SuiteError, match=r"a\.onnx was changed after its checksum was taken"):
        prepare(model, "cpu", "int8", Opens(), tiny.calibration, interfere)
    assert files(cache) == []


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("precision", "step"),
    [
        ("fp32", "opening the sequence axis"),
        ("fp16", "converting to half precision"),
        ("int8", "calibrating"),
        ("int8", "quantising"),
    ],
)
def test_nothing_is_kept_of_a_model_that_changes_while_it_is_prepared(
    tmp_path: Path, cache: Path, precision: str, step: str, external: bool
) -> None:
    length = 384 if precision == "fp32" else None
    path = tiny.model(tmp_path / "a.onnx", length=length, wide=True, external=external)
    other = multiplied(tiny.model(tmp_path / "b.onnx", length=length, wide=True), (tiny.WIDE, 0.5))
    model = files_of(path)

    def interfere(now: Step) -> None:
        if now.name == step:
            path.write_bytes(other.read_bytes())

    with pytest.raises(SuiteError, match=r"a\.onnx was changed after its checksum was taken"):
        prepare(model, "cpu", precision, Opens(), tiny.calibration, interfere)
    assert files(cache) == []


def test_a_graph_that_names_other_files_than_were_checked_is_refused(
    tmp_path: Path, cache: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    model = files_of(path)
    with pytest.raises(SuiteError, match="names other files of weights than when its checksum"):
        prepare(replace(model, files=model.files[:1]), "cpu", "fp32", never, uncalibrated)


@pytest.mark.parametrize("hardwired", [False, True])
def test_the_verdict_is_remembered_so_that_the_proof_runs_once(
    tmp_path: Path, hardwired: bool
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, hardwired=hardwired)
    assert ready(path) == ready(path, "fp32", never)


def test_another_model_gets_a_proof_of_its_own(tmp_path: Path) -> None:
    good = tiny.model(tmp_path / "a.onnx", length=384)
    bad = tiny.model(tmp_path / "b.onnx", length=384, hardwired=True)
    assert ready(good, key="key of a").signature.length is None
    assert ready(bad, key="key of b").signature.length == 384


def test_a_model_cut_off_anywhere_is_refused_here_or_by_the_runtime(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    whole = path.read_bytes()
    # All of the last places: between two parts of the file only the runtime sees what is missing.
    places = {*range(1, len(whole), max(1, len(whole) // 97)), *range(len(whole) - 20, len(whole))}
    for length in sorted(places):
        path.write_bytes(whole[:length])
        with pytest.raises(SuiteError, match=r"a\.onnx") as caught:
            tiny.inspect(path)
            open_on_cpu(path, 1)
        assert is_a_sentence(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("content", ["", "{", "null", "[]", "3", '{"largest_difference": 0}', "\0"])
def test_a_corrupt_verdict_is_proven_again(
    tmp_path: Path, cache: Path, content: str, precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    first = ready(path, precision)
    verdicts = {verdict: verdict.read_bytes() for verdict in cache.rglob("*.json")}
    for verdict in verdicts:
        verdict.write_text(content, encoding="utf-8")
    opens = Opens()
    again = ready(path, precision, opens)
    assert again == replace(first, rebuilt="older" if "difference" in content else "damaged")
    assert opens.opened
    assert {verdict: verdict.read_bytes() for verdict in cache.rglob("*.json")} == verdicts
    assert ready(path, precision, never) == first


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_vanished_copy_is_made_and_proven_again(tmp_path: Path, precision: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    first = ready(path, precision)
    content = first.path.read_bytes()
    first.path.unlink()
    opens = Opens()
    assert ready(path, precision, opens) == replace(first, rebuilt="damaged")
    assert first.path.read_bytes() == content
    assert opens.opened


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [halve, empty, flip])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_damaged_copy_is_made_anew_and_said_so(
    tmp_path: Path, precision: str, damage: Callable[[Path], None]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    first = ready(path, precision)
    content = first.path.read_bytes()
    damage(first.path)
    again = ready(path, precision)
    assert again == replace(first, rebuilt="damaged")
    assert again.note == first.note
    assert first.path.read_bytes() == content
    assert ready(path, precision, never) == first


def test_a_damaged_copy_that_another_was_made_of_is_made_anew_too(
    tmp_path: Path, cache: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    first = ready(path, "int8")
    assert first.note.startswith("sequence axis opened (was 384), logits proven equal; ")
    opened = next(file for file in cache.rglob("*.onnx") if file != first.path)
    flip(opened)
    content = first.path.read_bytes()
    assert ready(path, "int8") == replace(first, rebuilt="damaged")
    assert first.path.read_bytes() == content
    assert ready(path, "int8", never) == first


def test_a_copy_of_which_nothing_tells_that_it_is_whole_is_made_anew(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    first = ready(path, "int8")
    facts_file = first.path.with_suffix(".json")
    facts = json.loads(facts_file.read_bytes())
    del facts["sha256"]  # as facts were before they had it
    facts_file.write_text(json.dumps(facts), encoding="utf-8")
    assert ready(path, "int8") == replace(first, rebuilt="older")
    facts_file.unlink()  # as of a process that was killed between the two
    assert ready(path, "int8") == replace(first, rebuilt="damaged")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_weights_beside_the_same_graph_are_another_model(
    tmp_path: Path, precision: str
) -> None:
    path, beside = tiny.model(tmp_path / "a.onnx", wide=True, external=True), "a.onnx.data"
    first = ready(path, precision)
    graph, arrays = path.read_bytes(), three(50)
    before = answer(first, arrays)
    weights = np.frombuffer((tmp_path / beside).read_bytes(), np.float32)
    (tmp_path / beside).write_bytes((weights * np.float32(0.5)).tobytes())
    assert path.read_bytes() == graph
    second = ready(path, precision)
    assert second.path != first.path
    assert not np.allclose(answer(second, arrays), before, rtol=0, atol=0.1)
    assert ready(path, precision, never) == second


def test_weights_beside_a_model_that_are_missing_are_said_in_a_sentence(
    tmp_path: Path, cache: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True, external=True)
    (tmp_path / "a.onnx.data").unlink()
    for precision in ("fp32", "fp16", "int8"):
        with pytest.raises(SuiteError, match=r"a\.onnx\.data.* is missing") as caught:
            ready(path, precision, never, uncalibrated)
        assert is_a_sentence(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_interrupted_preparation_leaves_no_verdict_behind(
    tmp_path: Path, cache: Path, precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=None if precision == "int8" else 384, wide=True)

    def interrupted(path: Path) -> Run:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready(path, precision, interrupted)
    assert not list(cache.rglob("*.json"))
    opens = Opens()
    assert ready(path, precision, opens).signature.length is None
    assert opens.opened


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("Failed to allocate memory for requested buffer of size 9")],
    ids=["Python's", "the runtime's"],
)
def test_too_little_memory_for_the_copy_says_nothing_of_the_model(
    tmp_path: Path, cache: Path, error: Exception
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384)

    def exhausted(opened: Path) -> Run:
        if opened != path:
            raise SuiteError("cpu can't load it") from error
        return open_on_cpu(opened, 1)

    with pytest.raises(SuiteError, match="can't load it"):
        ready(path, "fp32", exhausted)
    assert not list(cache.rglob("*.json"))
    assert ready(path).signature.length is None


def test_a_cache_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "file"))
    with pytest.raises(SuiteError, match="BERTSQUAD_CACHE"):
        ready(tiny.model(tmp_path / "a.onnx", length=384), "fp32", never)


@needs_standins
@pytest.mark.parametrize(
    ("name", "precision"), [("fixed", "fp32"), ("fixed", "int8"), ("fakequant", "int8")]
)
def test_the_stand_in_is_relaxed_and_proven(name: str, precision: str) -> None:
    path = STANDINS / f"bert_tiny_{name}384.onnx"
    prepared = ready(path, precision, key=name)
    assert prepared.signature.length is None
    note = "sequence axis opened (was 384), logits proven equal"
    counts = {"fixed": (17, 0), "fakequant": (17, 17)}[name]
    tolerance = 1e-3
    if (name, precision) == ("fixed", "int8"):
        note += "; 12 of 17 matrix products quantised, calibrated with 3 windows"
        counts, tolerance = (17, 12), 0.05
    assert prepared.note == note
    assert (prepared.signature.products, prepared.signature.quantised) == counts
    full = answer(Prepared(path, tiny.inspect(path)), three(70, padded_to=384))[:, :70]
    assert answer(prepared, three(70)) == pytest.approx(full, abs=tolerance)


@needs_standins
def test_the_hardwired_stand_in_is_padded_and_said_so() -> None:
    path = STANDINS / "bert_tiny_hardwired384.onnx"
    prepared = ready(path, key="hardwired")
    assert (prepared.path, prepared.signature.length) == (path, 384)
    assert prepared.note == "needs 384 tokens always, so every sample is padded"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_quantised_model_is_refused_in_any_other_precision(
    tmp_path: Path, precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=True)
    complaint = rf"a\.onnx is quantised \(1 of 1.*run in {precision}: use --precision int8"
    with pytest.raises(SuiteError, match=complaint) as caught:
        ready(path, precision, never)
    assert is_a_sentence(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_model_in_half_precision_is_refused_in_any_other_precision(
    tmp_path: Path, precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", half=True)
    complaint = (
        rf"a\.onnx holds 1 of 1 .*in half precision.*run in {precision}: give the float32 "
        "model, or use --precision fp16 on a GPU$"
    )
    with pytest.raises(SuiteError, match=complaint) as caught:
        ready(path, precision, never, uncalibrated)
    assert is_a_sentence(caught.value)


@pytest.mark.parametrize(
    ("variant", "precision"), [({"quantised": True}, "int8"), ({"half": True}, "fp16")]
)
def test_a_model_that_has_the_precision_already_is_run_as_it_is(
    tmp_path: Path, cache: Path, variant: dict[str, Any], precision: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", **variant)
    prepared = ready(path, precision, never, uncalibrated)
    assert (prepared.path, prepared.note) == (path, "as it is")
    assert not cache.exists()


def test_a_float_model_is_quantised_for_int8(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    original = path.read_bytes()
    prepared = ready(path, "int8")
    assert prepared.path.is_relative_to(cache)
    assert prepared.note == "1 of 2 matrix products quantised, calibrated with 3 windows"
    assert prepared.signature == tiny.inspect(prepared.path)
    assert (prepared.signature.products, prepared.signature.quantised) == (2, 1)
    assert path.read_bytes() == original
    arrays = three(50)
    found, exact = answer(prepared, arrays), tiny.logits(*arrays)
    assert found == pytest.approx(exact, abs=0.6)
    assert not np.array_equal(found, exact)


def test_what_was_chosen_is_written_beside_the_quantised_model(tmp_path: Path) -> None:
    prepared = ready(tiny.model(tmp_path / "a.onnx", wide=True), "int8")
    report = json.loads(prepared.path.with_suffix(".json").read_bytes())
    assert (report["products"], report["quantised"]) == (2, 1)
    (choice,) = report["choices"]
    assert 0 < choice["error"] < 0.01


@pytest.mark.parametrize(("precision", "device"), [("int8", "cpu"), ("fp16", "cuda")])
def test_what_was_made_for_a_precision_is_made_once(
    tmp_path: Path, cache: Path, precision: str, device: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    first = ready(path, precision, device=device)
    made = files(cache)
    assert len(made) == 4  # the opened model and that of the precision, each with its facts
    told: list[Step] = []
    assert ready(path, precision, never, device=device, show=told.append) == first
    assert told == []
    assert files(cache) == made


def test_each_calibration_device_and_model_has_a_quantised_model_of_its_own(
    tmp_path: Path,
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)

    def made(calibration: str = "some", device: str = "cpu", key: str = "key") -> Path:
        windows = tiny.calibration(calibration)
        return ready(path, "int8", None, lambda: windows, key=key, device=device).path

    made_all = {made(), made("others"), made(device="openvino"), made(key="another")}
    assert len(made_all) == 4
    assert made() in made_all


@pytest.mark.parametrize(("device", "symmetric"), [("cpu", False), ("openvino", True)])
def test_only_for_openvino_are_activations_without_zero_points(
    tmp_path: Path, device: str, symmetric: bool
) -> None:
    prepared = ready(tiny.model(tmp_path / "a.onnx", wide=True), "int8", device=device)
    model = onnx.load(str(prepared.path))
    (quantise,) = (node for node in model.graph.node if node.op_type == "QuantizeLinear")
    (zero,) = (tensor for tensor in model.graph.initializer if tensor.name == quantise.input[2])
    kind = onnx.numpy_helper.to_array(zero).dtype
    assert kind == (np.int8 if symmetric else np.uint8)


def test_a_quantised_model_keeps_the_opened_axis(tmp_path: Path) -> None:
    opens = Opens()
    prepared = ready(tiny.model(tmp_path / "a.onnx", length=384, wide=True), "int8", opens)
    assert prepared.signature.length is None
    assert prepared.note == (
        "sequence axis opened (was 384), logits proven equal; "
        "1 of 2 matrix products quantised, calibrated with 3 windows"
    )
    assert {(1, 20), (1, 33), (1, 50)} <= opens.shapes  # the calibration, without padding
    assert answer(prepared, three(50)) == pytest.approx(tiny.logits(*three(50)), abs=0.6)


def test_a_model_of_fixed_sizes_is_calibrated_in_those(tmp_path: Path) -> None:
    opens = Opens()
    path = tiny.model(tmp_path / "a.onnx", batch=2, length=384, wide=True, hardwired=True)
    prepared = ready(path, "int8", opens)
    assert (prepared.signature.batch, prepared.signature.length) == (2, 384)
    assert prepared.note == (
        "needs 384 tokens always, so every sample is padded; "
        "1 of 2 matrix products quantised, calibrated with 3 windows"
    )
    assert {shape for shape in opens.shapes if shape[1] in (20, 33, 50)} == set()
    arrays = three(50, padded_to=384)
    expected = tiny.logits(*arrays, hardwired=True)[:, :50]
    assert answer(prepared, arrays)[:, :50] == pytest.approx(expected, abs=0.6)


def test_nothing_to_quantise_is_said_in_a_sentence(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(SuiteError, match=r"a\.onnx.*nothing to quantise") as caught:
        ready(tiny.model(tmp_path / "a.onnx"), "int8")
    assert is_a_sentence(caught.value)
    assert files(cache) == []


def test_a_calibration_that_cannot_be_had_is_said_and_nothing_is_made(
    tmp_path: Path, cache: Path
) -> None:
    def missing() -> Calibration:
        raise Unavailable("no calibration windows here", "dataset")

    with pytest.raises(Unavailable, match="no calibration windows here"):
        ready(tiny.model(tmp_path / "a.onnx", wide=True), "int8", never, missing)
    assert files(cache) == []


@pytest.mark.parametrize("moment", [("calibrating", 1), ("quantising", 0)])
def test_a_quantisation_that_fails_half_way_leaves_nothing(
    tmp_path: Path, cache: Path, moment: tuple[str, int]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)

    def interrupt(step: Step) -> None:
        if (step.name, step.done) == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready(path, "int8", show=interrupt)
    assert files(cache) == []
    assert ready(path, "int8").signature.quantised == 1


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    made = ready(path, "int8").path
    scratch = made.parent / f".{made.stem}.calibration" / "x" / "probe.onnx"
    scratch.parent.mkdir(parents=True)
    part, other = made.parent / f".{made.stem}.abc.onnx", made.parent / ".other.abc.onnx"
    for file in (scratch, part, other):
        file.write_bytes(b"half")
    made.unlink()
    assert ready(path, "int8").path.is_file()
    assert not part.exists()
    assert not scratch.parent.parent.exists()
    assert other.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_quantisation_leaves_no_half_model(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    # In the same way as `ready`, but killed while the model of the result is in the making.
    code = """if True:
        import os, pathlib, signal, sys
        import onnx, preparing
        saved = onnx.save
        def save(model, file, **others):
            if others:  # the copy that calibration runs
                return saved(model, file, **others)
            pathlib.Path(file).write_bytes(b"half a model")
            os.kill(os.getpid(), signal.SIGKILL)
        onnx.save = save
        preparing.ready(pathlib.Path(sys.argv[1]), "int8")
    """
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = os.environ | {"PYTHONPATH": folders, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code, path], env=environment, check=False)
    assert done.returncode == -9
    named = [file for file in cache.rglob("*") if file.is_file() and not file.name.startswith(".")]
    assert [file.suffix for file in named] == [".lock"]
    prepared = ready(path, "int8")
    assert prepared.signature == tiny.inspect(prepared.path)
    assert answer(prepared, three(50)) == pytest.approx(tiny.logits(*three(50)), abs=0.6)


def test_two_that_want_the_same_model_make_it_once(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    opens = Opens()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ready(path, "int8", opens), range(2))
    assert first == second
    assert len(opens.opened) == 1


def test_a_float_model_is_made_half_precision_for_fp16(tmp_path: Path, cache: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    original = path.read_bytes()
    prepared = ready(path, "fp16")
    assert prepared.path.is_relative_to(cache)
    assert prepared.note == "converted to half precision, logits compared on the CPU"
    assert path.read_bytes() == original
    before, after = tiny.inspect(path), tiny.inspect(prepared.path)
    assert (after.products, after.half) == (2, 2)
    assert (after.ids, after.mask, after.segments) == (before.ids, before.mask, before.segments)
    arrays = three(50)
    found, exact = answer(prepared, arrays), tiny.logits(*arrays)
    assert found.dtype == np.float32
    assert found == pytest.approx(exact, abs=0.02 * float(np.abs(exact).max()))
    assert not np.allclose(found, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "variant",
    [
        {"dtype": "int32"},
        {"inputs": tiny.INPUTS[:2]},
        {"length": 384},
        {"length": 384, "batch": 1, "hardwired": True},
        {"external": True},
    ],
)
def test_any_float_model_can_be_made_half_precision(
    tmp_path: Path, variant: dict[str, Any]
) -> None:
    path = tiny.model(tmp_path / "a.onnx", **variant)
    prepared = ready(path, "fp16")
    assert prepared.note.endswith("converted to half precision, logits compared on the CPU")
    padded = 384 if "hardwired" in variant else None
    arrays = three(50, padded_to=padded)
    if "batch" in variant:
        arrays = arrays[0][:1], arrays[1][:1], arrays[2][:1]
    ids, mask, segments = arrays
    expected = tiny.logits(ids, mask, None if "inputs" in variant else segments, bool(padded))
    assert answer(prepared, arrays) == pytest.approx(expected, abs=0.1)


def test_the_bundled_model_answers_nearly_the_same_in_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(equality, "PROOF_LENGTHS", (61,))  # for speed
    path = POCKET / "minilm-squad.onnx"
    prepared = ready(path, "fp16")
    model = onnx.load(str(prepared.path))
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    to_float = [node.output[0] for node in casts if node.attribute[0].i == onnx.TensorProto.FLOAT]
    assert to_float == [*tiny.OUTPUTS]  # its weights were stored as what a Cast makes float
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    arrays = pocket_features().batch([0])
    exact = answer(Prepared(path, tiny.inspect(path)), arrays)
    assert answer(prepared, arrays) == pytest.approx(exact, abs=0.005 * float(np.abs(exact).max()))


@pytest.mark.parametrize(
    ("weights", "inside"), [(1e5, 1.0), (300.0, 300.0)], ids=["weights", "activations"]
)
def test_a_model_that_overflows_in_half_precision_is_refused(
    tmp_path: Path, cache: Path, weights: float, inside: float
) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    multiplied(path, (tiny.PRODUCT, weights), (tiny.EMBEDDING, inside))
    with pytest.raises(
        SuiteError, match=r"a\.onnx can't run in fp16: .*0\.02 is allowed"
    ) as caught:
        ready(path, "fp16")
    assert is_a_sentence(caught.value)
    assert not list(cache.rglob("*.onnx"))
    with pytest.raises(SuiteError) as again:
        ready(path, "fp16", never)
    assert str(again.value) == str(caught.value)


def test_a_model_that_half_precision_spoils_is_refused(tmp_path: Path) -> None:
    # What is too small for half precision, and too large for it, though the product is neither.
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    multiplied(path, (tiny.WIDE, 1e4), (tiny.NARROW, 1e-7))
    with pytest.raises(SuiteError, match="are not those of the float model"):
        ready(path, "fp16")


def test_a_refusal_names_the_users_file_and_not_a_copy_of_it(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "mine.onnx", wide=True, length=384)
    multiplied(path, (tiny.WIDE, 1e4), (tiny.NARROW, 1e-7))
    with pytest.raises(SuiteError, match=r"^mine\.onnx can't run in fp16"):
        ready(path, "fp16")


def test_logits_that_are_no_numbers_are_refused_as_half_precision(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", nan_when_short=True)
    with pytest.raises(SuiteError, match="largest difference nan"):
        ready(path, "fp16")


def test_an_operator_that_has_no_half_precision_is_said(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", slow=True)  # by random numbers, which are float32 only
    with pytest.raises(SuiteError, match=r"a\.onnx can't run in fp16") as caught:
        ready(path, "fp16")
    assert is_a_sentence(caught.value)
    assert "None" not in str(caught.value)


def test_logits_that_are_always_zero_are_compared_too(tmp_path: Path) -> None:
    path = multiplied(tiny.model(tmp_path / "a.onnx"), (tiny.PRODUCT, 0.0))
    assert "logits compared" in ready(path, "fp16").note


def test_every_step_is_told(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", length=384, wide=True)
    told: list[Step] = []
    ready(path, "int8", show=told.append)
    ready(path, "fp16", show=told.append)
    assert told == [
        Step("opening the sequence axis"),
        *(Step("calibrating", done, 3, "windows") for done in range(3)),
        Step("quantising", 0, 1, "tensors"),
        Step("converting to half precision"),
    ]
