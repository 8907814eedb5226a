"""A node's engine, without Ray: on GPUs that a CPU stands in for."""

import os
import threading
from pathlib import Path
from typing import Any

import gpu_standins
import nvidia_smi
import pytest
import tiny

from bertsquad.assets.fingerprint import fingerprint
from bertsquad.cluster import shipping, wire
from bertsquad.cluster.node import EngineWanted, Node
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.models.preparation import Prepared
from bertsquad.runtime import nvidia

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node of three GPUs, which has the model of `wanted`."""
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.setitem(DEVICES, "cuda", gpu_standins.CUDA)
    gpu_standins.three(tmp_path, monkeypatch, free=["81000", "3000", "[N/A]"])
    made = Node(64)
    file = tiny.model(tmp_path / "a.onnx")
    assert not made.lacks(shipping.parcel([fingerprint(file)]))
    return made


def wanted(tmp_path: Path, gpus: int | None) -> EngineWanted:
    file = tmp_path / "a.onnx"
    prepared = Prepared(file, tiny.inspect(file))
    return EngineWanted(prepared, "cuda", "fp32", "offline", 1536, gpus=gpus)


@pytest.mark.parametrize("asked", [None, 1, 2])
def test_a_node_uses_as_many_of_its_gpus_as_are_asked_for(
    node: Node, tmp_path: Path, asked: int | None
) -> None:
    facts = node.open(wanted(tmp_path, asked), "10.0.0.1")
    assert facts.gpus == list(nvidia_smi.NAMES[: asked or 3])
    assert facts.instances == len(facts.gpus)
    assert facts.proof.endswith(" GPUs") == (facts.instances > 1)


def test_more_gpus_than_a_node_has_are_refused(node: Node, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="--gpus 4 wants that many GPUs, but 3 can be used here"):
        node.open(wanted(tmp_path, 4), "10.0.0.1")


def test_a_nodes_batches_are_those_of_the_gpus_that_it_uses(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = 3000 * 2**20 // 2 // nvidia.BYTES_PER_TOKEN
    for most, tokens in ((None, 384), (2, least), (1, nvidia.MOST_TOKENS)):
        assert node.survey("cuda", 384, most).batch_tokens == tokens


def on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, **model: Any) -> Node:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    made = Node(cores)
    file = tiny.model(tmp_path / "a.onnx", **model)
    assert not made.lacks(shipping.parcel([fingerprint(file)]))
    return made


def for_cpu(tmp_path: Path, scenario: str = "offline") -> EngineWanted:
    file = tmp_path / "a.onnx"
    return EngineWanted(Prepared(file, tiny.inspect(file)), "cpu", "fp32", scenario, 1536)


def test_a_node_divides_the_cores_that_ray_has_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsquad.machine.hardware.cores", lambda: 16)
    monkeypatch.setattr("bertsquad.machine.hardware.owned_cpus", lambda: ())
    facts = on_a_cpu(tmp_path, monkeypatch, 3).open(for_cpu(tmp_path), "10.0.0.1")
    assert (facts.cores, facts.instances, facts.threads) == (3, 3, 1)


def test_an_engine_is_made_anew_though_calls_of_the_run_before_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = on_a_cpu(tmp_path, monkeypatch, 1, slow=True)
    node.open(for_cpu(tmp_path), "10.0.0.1")
    windows = tiny.build_features(tmp_path / "data").take(range(8))
    came: list[object] = []

    def call() -> None:
        try:
            came.append(node.answer(wire.call(windows, [8], range(8))))
        except SuiteError as error:
            came.append(error)

    calls = [threading.Thread(target=call) for _ in range(6)]
    for one in calls:
        one.start()
    node.open(for_cpu(tmp_path, "server"), "10.0.0.1")
    for one in calls:
        one.join(20)
        assert not one.is_alive()
    assert len(came) == 6
    logits, seconds = wire.read_answer(node.answer(wire.call(windows, [5, 3], range(8))), 2)
    assert len(logits) == len(windows.tokens) and len(seconds) == 2


def test_a_model_that_needs_more_memory_than_is_free_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = on_a_cpu(tmp_path, monkeypatch, 1)
    monkeypatch.setattr("bertsquad.machine.hardware.available_memory_bytes", lambda: 100)
    with pytest.raises(SuiteError, match=r"the model needs .* of memory at least, but"):
        node.lacks(shipping.parcel([fingerprint(tmp_path / "a.onnx")]))


def test_a_sample_that_the_model_answers_with_nan_has_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = on_a_cpu(tmp_path, monkeypatch, 1, nan_when_short=True)
    node.open(for_cpu(tmp_path), "10.0.0.1")
    windows = tiny.build_features(tmp_path / "data").take([5, 6])
    with pytest.raises(SuiteError, match="answered sample 105 with logits that are NaN"):
        node.answer(wire.call(windows, [2], [105, 106]))


def test_a_node_that_has_its_device_does_not_wait_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = on_a_cpu(tmp_path, monkeypatch, 1)
    try:
        assert node.hold_device("cpu") and node.hold_device("cpu")
    finally:
        node.release_device()
    other = on_a_cpu(tmp_path, monkeypatch, 1)
    assert other.hold_device("cpu")
    other.release_device()
