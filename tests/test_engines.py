"""A session is what was asked for, proven, or an error of one sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from numpy.typing import NDArray

from bertsquad import engines
from bertsquad.devices import DEVICES, Device
from bertsquad.engines import Engine, why_not_really
from bertsquad.errors import SuiteError, Unavailable

CPU, OPENVINO, CUDA = DEVICES["cpu"], DEVICES["openvino"], DEVICES["cuda"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


def engine(path: Path, device: Device = CPU, precision: str = "fp32") -> Engine:
    return Engine(path, path.stem, device, precision, threads=1)


Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


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
    made = engine(tiny.model(tmp_path / "a.onnx", dtype=dtype))
    given = arrays(3, 40)
    found = made.logits(*given)
    assert found.dtype == np.float32
    assert found.shape == (3, 40, 2)
    assert found == pytest.approx(tiny.logits(*given), abs=1e-4)


def test_start_and_end_keep_their_places_whatever_the_order_of_outputs(tmp_path: Path) -> None:
    given = arrays(1, 20)
    usual = engine(tiny.model(tmp_path / "a.onnx"))
    swapped = engine(tiny.model(tmp_path / "b.onnx", outputs=("end_logits", "start_logits")))
    assert (swapped.logits(*given) == usual.logits(*given)[..., ::-1]).all()


def test_a_model_without_segments_is_fed_two_inputs(tmp_path: Path) -> None:
    made = engine(tiny.model(tmp_path / "a.onnx", inputs=("input_ids", "attention_mask")))
    ids, mask, segments = arrays(2, 30)
    assert made.logits(ids, mask, segments) == pytest.approx(tiny.logits(ids, mask, None), abs=1e-4)


def test_fixed_sizes_are_told(tmp_path: Path) -> None:
    opened = engine(tiny.model(tmp_path / "a.onnx", length=384))
    assert (opened.fixed_batch, opened.fixed_length) == (None, None)
    assert opened.logits(*arrays(2, 33)) == pytest.approx(tiny.logits(*arrays(2, 33)), abs=1e-4)
    padded = engine(tiny.model(tmp_path / "b.onnx", batch=1, length=384, hardwired=True))
    assert (padded.fixed_batch, padded.fixed_length) == (1, 384)


def test_the_cpu_provider_is_proven_by_the_graph(tmp_path: Path) -> None:
    made = engine(tiny.model(tmp_path / "a.onnx"))
    assert made.provider == "CPUExecutionProvider"
    assert made.proof == "1 of 1 matrix products on CPUExecutionProvider, calculated in fp32"


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_session_that_silently_became_a_cpu_session_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if why_not_really(name) is None:
        pytest.skip(f"{name} really works on this machine")
    monkeypatch.setattr(engines, "why_not", lambda device: None)
    with pytest.raises(Unavailable) as caught:
        engine(tiny.model(tmp_path / "a.onnx"), DEVICES[name])
    message = str(caught.value)
    assert f"{name}: {DEVICES[name].provider} doesn't run the model here" in message
    assert "1 on CPUExecutionProvider" in message
    assert "CUDA" in message
    assert caught.value.subject == "device"


def test_a_device_that_is_not_here_is_refused_before_the_model_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "why_not", lambda device: "it was taken away")
    with pytest.raises(Unavailable, match="cuda: it was taken away"):
        engine(tmp_path / "nowhere.onnx", CUDA)


def test_two_runtimes_in_one_environment_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsquad.devices.installed", lambda name: "1.0")
    with pytest.raises(Unavailable, match="onnxruntime and onnxruntime-gpu are both installed"):
        engine(tiny.model(tmp_path / "a.onnx"))


def test_fp32_on_the_cpu_is_proven_exact() -> None:
    engines.prove_precision(CPU, "fp32")


def test_bf16_on_the_cpu_is_refused_since_it_would_calculate_in_fp32(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cpu was asked for bf16 but calculates in fp32"):
        engine(tiny.model(tmp_path / "a.onnx"), CPU, "bf16")


@pytest.mark.parametrize("precision", OPENVINO.precisions)
def test_openvino_is_proven_or_refused_in_a_sentence(tmp_path: Path, precision: str) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=precision == "int8")
    reason = why_not_really("openvino")
    if reason is not None:
        assert is_a_sentence(reason)
        with pytest.raises(Unavailable) as caught:
            engine(path, OPENVINO, precision)
        assert str(caught.value) == f"openvino: {reason}"
        return
    try:
        made = engine(path, OPENVINO, precision)
    except Unavailable as error:
        assert precision == "bf16", f"fp32 is always to be had, but: {error}"
        assert "openvino was asked for bf16 but calculates in fp32" in str(error)
        return
    assert made.provider == "OpenVINOExecutionProvider"
    assert made.proof == "1 of 1 matrix products on OpenVINOExecutionProvider"
    tolerance = 1e-4 if precision == "fp32" else 0.4
    given = arrays(2, 40)
    assert made.logits(*given) == pytest.approx(tiny.logits(*given), abs=tolerance)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_works_or_says_why_not_without_repeating_its_name(name: str) -> None:
    reason = why_not_really(name)
    if name == "cpu":
        assert reason is None
    assert reason is None or (is_a_sentence(reason) and not reason.startswith(f"{name}:"))


def test_int8_of_a_model_that_is_not_quantised_is_refused(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    with pytest.raises(SuiteError, match=r"a\.onnx is not quantised.*int8: use a quantised model"):
        engine(path, CPU, "int8")


def test_a_quantised_model_runs_in_int8_alone(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=True)
    with pytest.raises(SuiteError, match=r"a\.onnx is quantised.*fp32: use --precision int8"):
        engine(path, CPU, "fp32")
    made = engine(path, CPU, "int8")
    proof = "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 quantised in the model"
    assert made.proof == proof
    given = arrays(2, 40)
    found, exact = made.logits(*given), tiny.logits(*given)
    # Half a step of 1/16 in each of 8 activations, times weights of at most 100/64.
    assert found == pytest.approx(exact, abs=0.4)
    assert not np.array_equal(found, exact)


def test_the_fake_quantised_stand_in_runs_in_int8() -> None:
    if not tiny.STANDINS.is_dir():
        pytest.skip("the stand-in models are in ../shared/standins, which isn't here")
    made = engine(tiny.STANDINS / "bert_tiny_fakequant384.onnx", CPU, "int8")
    assert made.fixed_length is None
    assert made.logits(*arrays(2, 50)).shape == (2, 50, 2)


def test_a_model_without_matrix_products_is_no_bert(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="holds no matrix product"):
        engine(tiny.model(tmp_path / "a.onnx", product=False))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 this is some other file", "is not an ONNX model"),
        (None, "can't be read: No such file"),
    ],
)
def test_a_file_that_is_no_model_is_named(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=complaint) as caught:
        engine(path)
    assert str(path) in str(caught.value)


def test_a_model_that_the_runtime_cannot_load_is_named(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    proto = onnx.load(str(path))
    next(node for node in proto.graph.node if node.op_type == "Div").op_type = "Divide"
    onnx.save(proto, str(path))
    with pytest.raises(SuiteError, match=r"cpu can't load .*a\.onnx.*Divide") as caught:
        engine(path)
    assert is_a_sentence(str(caught.value))


def test_a_model_that_fails_at_run_time_raises_instead_of_answering(tmp_path: Path) -> None:
    made = engine(tiny.model(tmp_path / "a.onnx", raises_on=tiny.POISON))
    ids, mask, segments = arrays(1, 30)
    assert not (ids == tiny.POISON).any()
    assert made.logits(ids, mask, segments).shape == (1, 30, 2)
    ids[0, 3] = tiny.POISON
    with pytest.raises(Exception, match="out of data bounds"):
        made.logits(ids, mask, segments)


def test_the_proof_counts_only_the_device_that_was_asked_for(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    session: Any = engines.make_session(path, CPU, "fp32", threads=1)
    elsewhere = replace(CPU, name="other", provider="OtherExecutionProvider")
    with pytest.raises(Unavailable, match="of 1 matrix products, 1 on CPUExecutionProvider"):
        engines.prove_provider(session, elsewhere)
