"""A node's engine, without Ray: on GPUs that a CPU stands in for."""

import os
from pathlib import Path

import gpu_standins
import nvidia_smi
import pytest
import tiny

from bertsquad.assets.fingerprint import fingerprint
from bertsquad.cluster import shipping
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
    made = Node()
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
