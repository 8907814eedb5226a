"""A session is what was asked for, proven, or an error of one sentence."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnxruntime as ort
import pytest
import tiny
from numpy.typing import NDArray
from shared_data import STANDINS, needs_standins

from bertsquad.devices import DEVICES, Device
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import hardware
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.runtime import engine, nvidia, proofs, sessions
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.parallelism import BATCH_TOKENS, Parallelism
from bertsquad.runtime.proofs import why_not_really
from bertsquad.squad.features import MAX_TOKENS

CPU, OPENVINO, CUDA = DEVICES["cpu"], DEVICES["openvino"], DEVICES["cuda"]
ONE = Parallelism(1, 1)

Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")
NO_VNNI = "this processor has no VNNI, so that sums of products of bytes may overflow"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, which nothing may be left in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def make_engine(
    path: Path, device: Device = CPU, precision: str = "fp32", parallelism: Parallelism = ONE
) -> Engine:
    open_model = partial(sessions.open_on_cpu, threads=1)
    prepared = prepare(path, path.stem, device.name, precision, open_model, tiny.calibration)
    return Engine(prepared, device, precision, parallelism)


def arrays(batch: int, length: int) -> Arrays:
    ids = np.arange(batch * length).reshape(batch, length) * 7 + 5
    mask, segments = np.ones_like(ids), np.zeros_like(ids)
    mask[0, length - 3 :] = 0
    segments[:, length // 2 :] = 1
    return ids, mask, segments


def is_a_sentence(text: str) -> bool:
    return "\n" not in text and len(text) > 20 and "Traceback" not in text


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_logits_are_start_and_end_of_every_position(tmp_path: Path, dtype: str) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", dtype=dtype))
    given = arrays(3, 40)
    found = made.logits(*given)
    assert found.dtype == np.float32
    assert found.shape == (3, 40, 2)
    assert found == pytest.approx(tiny.logits(*given), abs=1e-4)


def test_start_and_end_keep_their_places_whatever_the_order_of_outputs(tmp_path: Path) -> None:
    given = arrays(1, 20)
    usual = make_engine(tiny.model(tmp_path / "a.onnx"))
    swapped = make_engine(tiny.model(tmp_path / "b.onnx", outputs=("end_logits", "start_logits")))
    assert (swapped.logits(*given) == usual.logits(*given)[..., ::-1]).all()


def test_a_model_without_segments_is_fed_two_inputs(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", inputs=("input_ids", "attention_mask")))
    ids, mask, segments = arrays(2, 30)
    assert made.logits(ids, mask, segments) == pytest.approx(tiny.logits(ids, mask, None), abs=1e-4)


def test_fixed_sizes_are_told(tmp_path: Path) -> None:
    opened = make_engine(tiny.model(tmp_path / "a.onnx", length=384))
    assert (opened.fixed_batch, opened.fixed_length) == (None, None)
    assert opened.logits(*arrays(2, 33)) == pytest.approx(tiny.logits(*arrays(2, 33)), abs=1e-4)
    padded = make_engine(tiny.model(tmp_path / "b.onnx", batch=1, length=384, hardwired=True))
    assert (padded.fixed_batch, padded.fixed_length) == (1, 384)


def test_the_cpu_provider_is_proven_by_the_graph(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx"))
    assert made.device.provider == "CPUExecutionProvider"
    assert made.proof == "1 of 1 matrix products on CPUExecutionProvider, calculated in fp32"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("instances", [1, 3])
def test_instances_of_one_thread_share_a_session_and_others_have_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: int, threads: int
) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    made: list[ort.InferenceSession] = []
    answered: list[int] = []
    make_session = sessions.make_session

    def counted(model: Path | bytes, *others: Any, **options: Any) -> ort.InferenceSession:
        session = make_session(model, *others, **options)
        if model == path:
            run, index = session.run, len(made)

            def noted(*arguments: Any) -> Any:
                answered.append(index)
                return run(*arguments)

            session.run = noted
            made.append(session)
        return session

    monkeypatch.setattr(engine, "make_session", counted)
    several = make_engine(path, parallelism=Parallelism(instances, threads))
    assert several.instances == instances
    assert len(made) == (1 if threads == 1 else instances)
    assert {one.get_session_options().intra_op_num_threads for one in made} == {threads}
    for instance in range(instances):
        several.logits(*arrays(1, 20), instance=instance)
    assert answered == ([0] * instances if threads == 1 else list(range(instances)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_instances_that_answer_at_once_answer_what_one_alone_does(
    tmp_path: Path, precision: str, threads: int
) -> None:
    made = make_engine(
        tiny.model(tmp_path / "a.onnx", wide=True), CPU, precision, Parallelism(2, threads)
    )
    batches = [arrays(size, 30 + 10 * size) for size in (1, 2, 3)]
    alone = [made.logits(*batch) for batch in batches]
    together = Barrier(made.instances)

    def work(instance: int) -> list[NDArray[np.float32]]:
        together.wait()
        return [made.logits(*batch, instance=instance) for _ in range(20) for batch in batches]

    with ThreadPoolExecutor(made.instances) as pool:
        for found in pool.map(work, range(made.instances)):
            for index, one in enumerate(found):
                assert np.array_equal(one, alone[index % len(batches)])


def threads_of_this_process() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def places_since(before: set[int], expected: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The CPUs of each thread that wasn't there before, once they are as expected or time is up.

    A thread pins itself when it first runs, and one of an earlier test may only now come to an end.
    """
    places: list[tuple[int, ...]] = []
    for _ in range(200):
        places = []
        for task in threads_of_this_process() - before:
            with contextlib.suppress(ProcessLookupError):
                places.append(tuple(sorted(os.sched_getaffinity(task))))
        if sorted(places) == list(expected):
            break
        time.sleep(0.01)
    return sorted(places)


@linux
def test_the_other_threads_of_an_instance_are_pinned_to_its_cpus(tmp_path: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    first, second = cpus[:2]
    path = tiny.model(tmp_path / "a.onnx")
    make_engine(path)  # what is done once a process may start threads too
    before = threads_of_this_process()
    made = make_engine(path, CPU, "fp32", Parallelism(2, 2, ((first, second), (second, first))))
    # Of an instance's CPUs the first is its caller's own, which it goes to by itself.
    expected = [(first,), (second,)]
    assert places_since(before, expected) == expected
    assert os.sched_getaffinity(0) == set(cpus)
    for instance in range(2):
        given = arrays(2, 40)
        found = made.logits(*given, instance=instance)
        assert found == pytest.approx(tiny.logits(*given), abs=1e-4)


@linux
def test_pinned_instances_of_one_thread_need_no_thread_of_their_own(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    path = tiny.model(tmp_path / "a.onnx")
    make_engine(path)
    before = threads_of_this_process()
    made = make_engine(path, CPU, "fp32", Parallelism(2, 1, ((cpu,), (cpu,))))
    assert places_since(before, []) == []
    given = arrays(2, 40)
    assert made.logits(*given, instance=1) == pytest.approx(tiny.logits(*given), abs=1e-4)


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_session_that_silently_became_a_cpu_session_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if why_not_really(name) is None:
        pytest.skip(f"{name} really works on this machine")
    monkeypatch.setattr(engine, "why_not", lambda device: None)
    with pytest.raises(Unavailable) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), DEVICES[name])
    message = str(caught.value)
    assert is_a_sentence(message)
    assert f"{name}: {DEVICES[name].provider} doesn't run the model here" in message
    assert "1 on CPUExecutionProvider" in message
    assert nvidia.likely_cause() in message
    assert caught.value.subject == "device"


def test_a_device_that_is_not_here_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "why_not", lambda device: "it was taken away")
    signature = tiny.inspect(tiny.model(tmp_path / "a.onnx"))
    prepared = Prepared(tmp_path / "nowhere.onnx", signature)
    with pytest.raises(Unavailable, match="cuda: it was taken away"):
        Engine(prepared, CUDA, "fp32", ONE)


def test_two_runtimes_in_one_environment_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsquad.runtime.availability.installed", lambda name: "1.0")
    with pytest.raises(Unavailable, match="onnxruntime and onnxruntime-gpu are both installed"):
        make_engine(tiny.model(tmp_path / "a.onnx"))


def test_fp32_on_the_cpu_is_proven_exact() -> None:
    proofs.prove_precision(CPU, "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_what_the_cpu_would_calculate_in_fp32_is_refused(tmp_path: Path, precision: str) -> None:
    expected = f"cpu was asked for {precision} but calculates in fp32"
    with pytest.raises(Unavailable, match=expected) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), CPU, precision)
    assert is_a_sentence(str(caught.value))
    assert not proofs.can_calculate(CPU, precision)


@pytest.mark.parametrize("precision", OPENVINO.precisions)
def test_openvino_is_proven_or_refused_in_a_sentence(tmp_path: Path, precision: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    reason = why_not_really("openvino")
    if reason is not None:
        assert is_a_sentence(reason)
        with pytest.raises(Unavailable) as caught:
            make_engine(path, OPENVINO, precision)
        assert str(caught.value) == f"openvino: {reason}"
        return
    try:
        made = make_engine(path, OPENVINO, precision, Parallelism(2, 1))
    except Unavailable as error:
        assert precision == "bf16", f"fp32 is always to be had, but: {error}"
        assert "openvino was asked for bf16 but calculates in fp32" in str(error)
        return
    assert made.device.provider == "OpenVINOExecutionProvider"
    proof = "2 of 2 matrix products on OpenVINOExecutionProvider, "
    assert made.proof.startswith(proof)
    if precision == "int8":
        assert f"1 of 2 quantised in the model, the rest in {made.float_precision}" in made.proof
    if precision == "int8" and not hardware.has_vnni():
        pytest.skip(f"OpenVINO's int8 is not exact here: {NO_VNNI}")
    tolerance = 1e-4 if precision == "fp32" else 0.6
    given = arrays(2, 40)
    for instance in range(2):
        found = made.logits(*given, instance=instance)
        assert found == pytest.approx(tiny.logits(*given), abs=tolerance)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_works_or_says_why_not_without_repeating_its_name(name: str) -> None:
    reason = why_not_really(name)
    if name == "cpu":
        assert reason is None
    assert reason is None or (is_a_sentence(reason) and not reason.startswith(f"{name}:"))


def test_the_precisions_of_the_cpu_are_all_to_be_had() -> None:
    assert proofs.precisions_here("cpu") == ["fp32", "int8"]


def test_a_float_model_is_really_calculated_in_int8(tmp_path: Path, temporary: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), CPU, "int8")
    proof = "2 of 2 matrix products on CPUExecutionProvider, 1 of 2 calculated in int8"
    assert made.proof == proof
    given = arrays(2, 40)
    found, exact = made.logits(*given), tiny.logits(*given)
    assert found == pytest.approx(exact, abs=0.6)
    assert not np.array_equal(found, exact)


@pytest.mark.parametrize("parallelism", [Parallelism(2, 1), Parallelism(2, 2)], ids=str)
def test_int8_is_proven_for_every_session(
    tmp_path: Path, temporary: Path, parallelism: Parallelism
) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), CPU, "int8", parallelism)
    assert made.proof.endswith(", 1 of 2 calculated in int8")
    for instance in range(2):  # none records what it runs any more
        made.logits(*arrays(2, 40), instance=instance)


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [({"length": 384, "hardwired": True}, (2, 384)), ({"batch": 3}, (3, 20)), ({}, (2, 20))],
    ids=["length", "batch", "open"],
)
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_int8_is_proven_at_the_sizes_that_the_model_has(
    tmp_path: Path, variant: dict[str, Any], sizes: tuple[int, int], dtype: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True, dtype=dtype, **variant)
    made = make_engine(path, CPU, "int8")
    assert made.proof.endswith("1 of 2 calculated in int8")
    expected = tiny.logits(*arrays(*sizes), hardwired="hardwired" in variant)
    assert made.logits(*arrays(*sizes)) == pytest.approx(expected, abs=0.6)


def test_a_quantised_model_runs_in_int8(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", quantised=True), CPU, "int8")
    proof = "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 calculated in int8"
    assert made.proof == proof
    given = arrays(2, 40)
    found, exact = made.logits(*given), tiny.logits(*given)
    # Half a step of 1/16 in each of 8 activations, times weights of at most 100/64.
    assert found == pytest.approx(exact, abs=0.4)
    assert not np.array_equal(found, exact)


def test_a_quantised_model_that_is_calculated_in_float_all_the_same_is_refused(
    tmp_path: Path, temporary: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=True)
    model = onnx.load(str(path))
    # ONNX Runtime makes no integer product of its own operator, and says nothing.
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.domain = "FusedMatMul", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))
    assert tiny.inspect(path).quantised == 1
    with pytest.raises(Unavailable, match="cpu was asked for int8 but calculates every") as caught:
        make_engine(path, CPU, "int8")
    assert is_a_sentence(str(caught.value))


@pytest.mark.parametrize(
    "vnni",
    [pytest.param(True, marks=pytest.mark.skipif(not hardware.has_vnni(), reason=NO_VNNI)), False],
)
def test_int8_answers_the_same_with_and_without_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    given = arrays(2, 40)
    usual = make_engine(path, CPU, "int8").logits(*given)
    monkeypatch.setattr(hardware, "has_vnni", lambda: vnni)
    made = make_engine(path, CPU, "int8")
    assert made.proof.endswith("1 of 2 calculated in int8")
    assert made.logits(*given) == pytest.approx(usual, abs=1e-3)


@needs_standins
def test_the_fake_quantised_stand_in_runs_in_int8() -> None:
    made = make_engine(STANDINS / "bert_tiny_fakequant384.onnx", CPU, "int8")
    assert made.fixed_length is None
    assert made.logits(*arrays(2, 50)).shape == (2, 50, 2)
    # All 17 are quantised in the model; ONNX Runtime fuses only some, and the proof says how many.
    assert made.prepared.signature.quantised == 17
    assert "17 of 17 matrix products on CPUExecutionProvider" in made.proof
    integer = int(made.proof.split(", ")[1].split(" ")[0])
    assert 0 < integer < 17


def test_a_model_without_matrix_products_is_no_bert(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="holds no matrix product"):
        make_engine(tiny.model(tmp_path / "a.onnx", product=False))


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


def test_a_model_that_fails_at_run_time_raises_instead_of_answering(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", raises_on=tiny.POISON))
    ids, mask, segments = arrays(1, 30)
    assert not (ids == tiny.POISON).any()
    assert made.logits(ids, mask, segments).shape == (1, 30, 2)
    ids[0, 3] = tiny.POISON
    with pytest.raises(Exception, match="out of data bounds"):
        made.logits(ids, mask, segments)


def test_the_proof_counts_only_the_device_that_was_asked_for(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    session = sessions.make_session(path, CPU, "fp32", ONE)
    elsewhere = replace(CPU, name="other", provider="OtherExecutionProvider")
    with pytest.raises(Unavailable, match="of 1 matrix products, 1 on CPUExecutionProvider"):
        proofs.prove_provider(session, elsewhere)


def test_a_model_opened_for_proofs_gives_its_outputs_in_order(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    given = arrays(2, 40)
    start, end = sessions.open_on_cpu(path, 1)(tiny.inspect(path).feed(*given))
    assert np.stack((start, end), -1) == pytest.approx(tiny.logits(*given), abs=1e-4)


@posix
@pytest.mark.parametrize(
    ("free", "tokens"), [("81000", nvidia.MOST_TOKENS), ("", MAX_TOKENS), ("[N/A]", MAX_TOKENS)]
)
def test_a_gpus_batches_follow_from_the_memory_that_its_driver_says_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: str, tokens: int
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{free}'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert batch_tokens(CUDA) == tokens
    assert batch_tokens(CPU) == batch_tokens(OPENVINO) == BATCH_TOKENS
