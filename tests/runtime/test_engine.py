"""A session is what was asked for, proven, or an error of one sentence."""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import exported
import gpu_standins
import misshapen
import numpy as np
import nvidia_smi
import onnx
import onnxruntime as ort
import pytest
import tiny
from engines import CPU, CUDA, ONE, OPENVINO, arrays, is_a_sentence, make_engine
from numpy.typing import NDArray
from shared_data import STANDINS, needs_standins

from bertsquad.devices import Device
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import processor
from bertsquad.models.preparation import Prepared
from bertsquad.models.reads import MLPERF, Layout, Reads
from bertsquad.runtime import engine, nvidia, proofs, sessions
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.parallelism import BATCH_TOKENS, Parallelism
from bertsquad.runtime.proofs import why_not_really
from bertsquad.squad.features import MAX_TOKENS

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")
NO_VNNI = "this processor has no VNNI, so that sums of products of bytes may overflow"


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


@pytest.mark.parametrize("outputs", [("start_logits", "end_logits"), ("logits",)], ids=len)
@pytest.mark.parametrize("floats", ["float32", "float16"])
@pytest.mark.parametrize(
    ("types", "layout", "shared"),
    [
        ({}, MLPERF, False),
        ({"input_ids": "int32", "attention_mask": "float16"}, MLPERF, True),
        ({"position_ids": "int32", "attention_mask": "bool"}, Layout(1, 2), False),
    ],
)
def test_logits_are_those_that_onnx_runtime_alone_gives(
    tmp_path: Path,
    outputs: tuple[str, ...],
    floats: str,
    types: dict[str, str],
    layout: Layout,
    shared: bool,
) -> None:
    inputs = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    path = exported.model(
        tmp_path / "a.onnx",
        inputs=inputs,
        outputs=outputs,
        floats=floats,
        types=types,
        shared_row=shared,
        extras=("hidden", "attention", "pooled"),
    )
    reads = Reads(layout)
    made = make_engine(path, reads=reads)
    ids, mask, segments = arrays(3, 30)
    ids %= exported.ROWS
    found = made.logits(ids, mask, segments)
    given = {
        "input_ids": np.where(mask, ids, layout.padding_id),
        "attention_mask": mask,
        "token_type_ids": segments,
        "position_ids": np.arange(30) + layout.first_position + np.zeros((3, 1), int),
    }
    if layout.first_position:
        given["position_ids"][mask == 0] = layout.padding_id
    elif shared:
        given["position_ids"] = given["position_ids"][:1]
    given = {name: array.astype(types.get(name, "int64")) for name, array in given.items()}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    alone = session.run(list(outputs), given)
    expected = alone[0] if len(outputs) == 1 else np.stack(alone, axis=-1)
    assert found.dtype == np.float32
    assert found.shape == (3, 30, 2)
    assert (found == expected).all()


def test_a_model_without_segments_is_fed_two_inputs(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", inputs=("input_ids", "attention_mask")))
    ids, mask, segments = arrays(2, 30)
    assert made.logits(ids, mask, segments) == pytest.approx(tiny.logits(ids, mask, None), abs=1e-4)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", misshapen.HOWS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_logits_of_another_shape_than_the_batch_are_refused_before_anything_runs(
    tmp_path: Path, temporary: Path, how: str, which: int, precision: str
) -> None:
    path = misshapen.model(tmp_path / "a.onnx", how, which=which, wide=True)
    shape = {
        **{"none": [2, 0], "one short": [2, 127], "one more": [2, 129], "transposed": [128, 2]},
        **{"twice": [2, 256], "rank 1": [256], "rank 3": [2, 128, 1], "one sample": [1, 128]},
    }[how]
    with pytest.raises(SuiteError) as caught:
        make_engine(path, CPU, precision)
    assert str(caught.value) == (
        f"the model answered a batch of 2 x 128 tokens with {tiny.OUTPUTS[which]} of float32 "
        f"{shape}, where float logits of shape [2, 128] were expected, so nothing is scored or "
        "timed: give a model with one start and one end logit for each token"
    )


@pytest.mark.parametrize(
    ("how", "batch"),
    [(how, None) for how in misshapen.HOWS] + [(how, 1) for how in misshapen.HOWS[:-1]],
)
def test_logits_of_another_shape_are_refused_at_fixed_sizes_too(
    tmp_path: Path, how: str, batch: int | None
) -> None:
    path = misshapen.model(tmp_path / "a.onnx", how, batch=batch, length=384, hardwired=True)
    with pytest.raises(SuiteError, match=rf"float logits of shape \[{batch or 2}, 384\] were exp"):
        make_engine(path)


@pytest.mark.parametrize("how", ["none", "one short", "one more", "one sample"])
def test_every_batch_is_looked_at(tmp_path: Path, how: str) -> None:
    made = make_engine(misshapen.model(tmp_path / "a.onnx", how, only_poisoned=True))
    ids, mask, segments = arrays(3, 30)
    assert made.logits(ids, mask, segments).shape == (3, 30, 2)
    ids[1, 7] = tiny.POISON
    with pytest.raises(
        SuiteError, match=r"answered a batch of 3 x 30 tokens with .*\[3, 30\] were"
    ):
        made.logits(ids, mask, segments)


def test_logits_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    usual = tiny.inspect(path)  # which refuses what declares other logits than floats
    proto = onnx.load(str(path))
    for value in proto.graph.output:
        value.type.tensor_type.elem_type = onnx.TensorProto.INT64
        (last,) = (node for node in proto.graph.node if value.name in node.output)
        last.op_type = "Cast"
        last.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.INT64))
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match=r"of int64 \[2, 128\], where float logits of shape"):
        Engine(Prepared(path, usual), CPU, "fp32", ONE)


def test_fixed_sizes_are_told(tmp_path: Path) -> None:
    opened = make_engine(tiny.model(tmp_path / "a.onnx", length=384))
    assert (opened.fixed_batch, opened.fixed_length) == (None, None)
    assert opened.logits(*arrays(2, 33)) == pytest.approx(tiny.logits(*arrays(2, 33)), abs=1e-4)
    padded = make_engine(tiny.model(tmp_path / "b.onnx", batch=1, length=384, hardwired=True))
    assert (padded.fixed_batch, padded.fixed_length) == (1, 384)


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
    assert answered == list(range(len(made)))  # each has answered once, for its proof
    answered.clear()
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
    both = ("onnxruntime", "onnxruntime-gpu")
    monkeypatch.setattr("bertsquad.runtime.availability.owners", lambda module: both)
    with pytest.raises(Unavailable, match="onnxruntime and onnxruntime-gpu are both installed"):
        make_engine(tiny.model(tmp_path / "a.onnx"))


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
    tolerance = 1e-4 if precision == "fp32" else 0.6
    given = arrays(2, 40)
    expected = tiny.logits(*given)
    answers = [made.logits(*given, instance=instance) for instance in range(2)]
    assert all(found.shape == expected.shape and np.isfinite(found).all() for found in answers)
    if precision == "int8" and not processor.has_vnni():
        pytest.skip(f"OpenVINO's int8 is not exact here: {NO_VNNI}")
    assert all(found == pytest.approx(expected, abs=tolerance) for found in answers)


@pytest.mark.parametrize(
    "vnni",
    [pytest.param(True, marks=pytest.mark.skipif(not processor.has_vnni(), reason=NO_VNNI)), False],
)
def test_int8_answers_the_same_with_and_without_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    given = arrays(2, 40)
    usual = make_engine(path, CPU, "int8").logits(*given)
    monkeypatch.setattr(processor, "has_vnni", lambda: vnni)
    made = make_engine(path, CPU, "int8")
    assert made.proof.endswith("1 of 2 calculated in int8, the rest in fp32")
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


def test_a_model_that_fails_at_run_time_raises_instead_of_answering(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", raises_on=tiny.POISON))
    ids, mask, segments = arrays(1, 30)
    assert not (ids == tiny.POISON).any()
    assert made.logits(ids, mask, segments).shape == (1, 30, 2)
    ids[0, 3] = tiny.POISON
    with pytest.raises(Exception, match="out of data bounds"):
        made.logits(ids, mask, segments)


@posix
@pytest.mark.parametrize(
    ("free", "tokens"), [("81000", nvidia.MOST_TOKENS), ("", MAX_TOKENS), ("[N/A]", MAX_TOKENS)]
)
def test_a_gpus_batches_follow_from_the_memory_that_its_driver_says_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: str, tokens: int
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, nvidia_smi.LISTED[:1], [free])
    assert batch_tokens(CUDA) == tokens
    assert batch_tokens(CPU) == batch_tokens(OPENVINO) == BATCH_TOKENS


# Several GPUs of one machine.

EACH = Parallelism(3, 2, gpus=(0, 1, 2))
GPU_0, GPU_1, GPU_2 = (
    f"cuda on GPU {number} ({name})" for number, name in enumerate(nvidia_smi.NAMES)
)


@posix
@pytest.mark.parametrize(
    ("shape", "used"),
    [
        (EACH, [0, 1, 2]),
        (Parallelism(5, 1, gpus=(0, 1, 2, 0, 1)), [0, 1, 2]),
        (Parallelism(2, 4, gpus=(0, 1)), [0, 1]),
        (Parallelism(1, 8, gpus=(0,)), [0]),
    ],
)
@pytest.mark.parametrize("device", [gpu_standins.CUDA, gpu_standins.TENSORRT], ids=lambda d: d.name)
def test_each_gpu_has_a_session_which_its_instances_share(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: Parallelism,
    used: list[int],
    device: Device,
) -> None:
    told = gpu_standins.three(tmp_path, monkeypatch)
    made = make_engine(tiny.model(tmp_path / "a.onnx"), device, "fp32", shape)
    of_model = [one for one in told if one.of_model]
    assert [one.gpu for one in of_model] == used
    assert {one.threads for one in of_model} == {shape.threads}
    signature = made.prepared.signature
    for one in of_model:
        assert one.options == nvidia.provider_options(device, signature, BATCH_TOKENS, one.gpu)
    # The kernels' own arithmetic is tried on each.
    assert [one.gpu for one in told if not one.of_model] == used
    proof = made.proof.removesuffix(f", on each of {len(used)} GPUs")
    assert (proof == made.proof) == (len(used) == 1)
    assert proof.startswith("1 of 1 matrix products on CPUExecutionProvider, ")
    given = arrays(2, 40)
    for instance in range(made.instances):
        assert made.logits(*given, instance=instance) == pytest.approx(
            tiny.logits(*given), abs=1e-4
        )


@posix
def test_a_gpu_that_can_make_no_session_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        if gpu == 1 and isinstance(source, str):
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=1\nmore")
        return source

    gpu_standins.three(tmp_path, monkeypatch, instead)
    with pytest.raises(SuiteError) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), gpu_standins.CUDA, "fp32", EACH)
    assert str(caught.value).startswith(f"{GPU_1} can't load ")
    assert str(caught.value).endswith("a.onnx: CUDA failure 2: out of memory ; GPU=1")


@posix
def test_the_provider_is_proven_on_each_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why_not_really("cuda") is None:
        pytest.skip("cuda really works on this machine")
    path = tiny.model(tmp_path / "a.onnx")
    gpu_standins.three(tmp_path, monkeypatch)
    for number, name in ((0, "NVIDIA H100 80GB HBM3"), (2, "Tesla T4")):
        with pytest.raises(Unavailable) as caught:  # ONNX Runtime takes the CPU without a word
            make_engine(path, CUDA, "fp32", Parallelism(1, 1, gpus=(number,)))
        assert str(caught.value).startswith(
            f"cuda: CUDAExecutionProvider doesn't run the model on GPU {number} ({name}); of 1 "
            "matrix products, 1 on CPUExecutionProvider ("
        )
    asked: list[int] = []

    def noting(session: Any, device: Device, gpu: int) -> str:
        asked.append(gpu)
        return proofs.prove_provider(session, device, gpu)

    monkeypatch.setattr(engine, "prove_provider", noting)
    make_engine(path, gpu_standins.CUDA, "fp32", EACH)
    assert asked == [0, 1, 2]


@posix
def test_a_gpu_whose_kernels_calculate_otherwise_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounding = proofs.one_product(np.eye(64, dtype=np.float32) * np.float32(0.9999), "fp32")

    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        return rounding if gpu == 2 and isinstance(source, bytes) else source

    gpu_standins.three(tmp_path, monkeypatch, instead)
    path = tiny.model(tmp_path / "a.onnx")
    with pytest.raises(Unavailable) as caught:
        make_engine(path, gpu_standins.CUDA, "fp32", EACH)
    assert str(caught.value) == (
        f"{GPU_2} was asked for fp32 but calculates in less than fp32 on this machine"
    )
    assert make_engine(path, gpu_standins.CUDA, "fp32", Parallelism(2, 1, gpus=(0, 1))).proof


@posix
def test_a_gpu_that_runs_the_model_in_another_precision_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True)
    quantised = str(make_engine(path, CPU, "int8").prepared.path)

    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        return quantised if gpu == 1 and isinstance(source, str) else source

    gpu_standins.three(tmp_path, monkeypatch, instead)
    with pytest.raises(SuiteError) as caught:
        make_engine(path, gpu_standins.CUDA, "fp32", EACH)
    assert str(caught.value).startswith(
        f"the model can't run in fp32: of 2 matrix products, {GPU_1} calculates 1 in int8"
    )


@posix
def test_gpus_that_run_the_model_in_unlike_ways_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wide = tiny.model(tmp_path / "a.onnx"), tiny.model(tmp_path / "b.onnx", wide=True)

    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        return str(wide) if gpu == 1 and isinstance(source, str) else source

    gpu_standins.three(tmp_path, monkeypatch, instead)
    made = make_engine(path, gpu_standins.CUDA, "fp32", EACH)
    one = "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 calculated in fp32"
    two = "2 of 2 matrix products on CPUExecutionProvider, 2 of 2 calculated in fp32"
    assert made.proof == f"{GPU_0}, {GPU_2}: {one}; {GPU_1}: {two}"


@posix
def test_a_gpu_that_fails_at_a_batch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    failing = tiny.model(tmp_path / "b.onnx", raises_on=tiny.POISON)

    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        return str(failing) if gpu == 1 and isinstance(source, str) else source

    gpu_standins.three(tmp_path, monkeypatch, instead)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{nvidia_smi.UUIDS[2]},GPU-8932")
    made = make_engine(path, gpu_standins.CUDA, "fp32", Parallelism(3, 1, gpus=(0, 1, 0)))
    ids, mask, segments = arrays(1, 30)
    ids[0, 3] = tiny.POISON
    expected = tiny.logits(ids, mask, segments)
    for instance in (0, 2):
        found = made.logits(ids, mask, segments, instance)
        assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(SuiteError) as caught:
        made.logits(ids, mask, segments, 1)
    message = str(caught.value)
    assert message.startswith("cuda on GPU-8932 (NVIDIA H100 80GB HBM3) failed: ")
    assert "out of data bounds" in message
    assert is_a_sentence(message)


@posix
def test_the_gpu_with_the_least_free_memory_sets_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, free=["81000", "3000", "[N/A]"])
    small = 3000 * 2**20 // 2 // nvidia.BYTES_PER_TOKEN
    for wanted, tokens in (
        ("0", nvidia.MOST_TOKENS),
        ("0,1", small),
        ("1,0", small),
        ("0,2", MAX_TOKENS),  # unknown may be little
        ("0,1,2", MAX_TOKENS),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
        assert batch_tokens(CUDA) == tokens
    assert batch_tokens(CUDA, free_bytes=[81000 * 2**20]) == nvidia.MOST_TOKENS
    assert batch_tokens(CUDA, longest=MAX_TOKENS + 128, free_bytes=[]) == MAX_TOKENS + 128
