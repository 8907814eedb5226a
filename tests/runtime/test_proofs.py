"""Provider and precision are proven by what a session does, or refused in a sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
import tiny
from engines import CPU, ONE, arrays, is_a_sentence, make_engine

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.runtime import engine, nvidia, proofs, sessions
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.runtime.proofs import why_not_really


def test_the_cpu_provider_is_proven_by_the_graph(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx"))
    assert made.device.provider == "CPUExecutionProvider"
    assert made.proof == "1 of 1 matrix products on CPUExecutionProvider, calculated in fp32"


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


def test_fp32_on_the_cpu_is_proven_exact() -> None:
    proofs.prove_precision(CPU, "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_what_the_cpu_would_calculate_in_fp32_is_refused(tmp_path: Path, precision: str) -> None:
    expected = f"cpu was asked for {precision} but calculates in fp32"
    with pytest.raises(Unavailable, match=expected) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), CPU, precision)
    assert is_a_sentence(str(caught.value))
    assert not proofs.can_calculate(CPU, precision)


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


def test_a_model_without_matrix_products_is_no_bert(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="holds no matrix product"):
        make_engine(tiny.model(tmp_path / "a.onnx", product=False))


def test_the_proof_counts_only_the_device_that_was_asked_for(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    session = sessions.make_session(path, CPU, "fp32", ONE)
    elsewhere = replace(CPU, name="other", provider="OtherExecutionProvider")
    with pytest.raises(Unavailable, match="of 1 matrix products, 1 on CPUExecutionProvider"):
        proofs.prove_provider(session, elsewhere)
