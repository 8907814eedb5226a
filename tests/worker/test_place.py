"""Where batches are calculated, with GPUs that a CPU stands in for."""

import os
from pathlib import Path

import gpu_standins
import pytest
import tiny

from bertsquad.models.preparation import Prepared
from bertsquad.runtime import nvidia
from bertsquad.runtime.inference import BackendWanted
from bertsquad.runtime.parallelism import plan
from bertsquad.worker.place import ThisMachine

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


def test_a_batch_is_as_large_as_the_fullest_gpu_that_is_used_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    told = gpu_standins.three(tmp_path, monkeypatch, free=["81000", "3000", "2000"])
    file = tiny.model(tmp_path / "a.onnx")
    place = ThisMachine(gpu_standins.CUDA, "fp32", 384)

    def tokens(scenario: str, gpus: int, given: int | None = None) -> int:
        division = plan(scenario, "cuda", 4, gpus=gpus)
        prepared = Prepared(file, tiny.inspect(file))
        made = place.backend(
            BackendWanted(scenario, division, given), lambda: prepared, lambda step: None
        )
        assert made.instances == division.instances
        return made.batch_tokens

    least = [mib * 2**20 // 2 // nvidia.BYTES_PER_TOKEN for mib in (3000, 2000)]
    assert tokens("offline", 3) == least[1]
    assert tokens("server", 2) == least[0]
    assert tokens("singlestream", 3) == tokens("offline", 1) == nvidia.MOST_TOKENS
    assert tokens("offline", 3, given=1000) == 1000
    # SingleStream's engine serves Offline on one GPU too; any other division has its own.
    assert [one.gpu for one in told if one.of_model] == [0, 1, 2, 0, 1, 0, 0, 1, 2]
