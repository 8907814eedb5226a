"""Several GPUs from outside, without any: pytest sessions whose `nvidia-smi` is a small program.

Where a run is to come about, ONNX Runtime's CPU provider calculates in the place of CUDA's.
"""

import os
import shlex
from pathlib import Path

import nvidia_smi
import pytest
from pytest_sessions import PytestSession, Variables, outcomes, run

from bertsquad.machine.distributions import RUNTIME, owner

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs a shell"),
    pytest.mark.skipif("gpu" not in owner(RUNTIME), reason="needs onnxruntime-gpu"),
]

#: Run before anything else in each process.
STAND_IN = """
from dataclasses import replace
from bertsquad.devices import DEVICES
DEVICES["cuda"] = replace(DEVICES["cuda"], provider="CPUExecutionProvider")
"""

CUDA = ("--device", "cuda", "-k", "cuda and (offline or singlestream) and not compliance")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gpus")
    nvidia_smi.write(made)
    (made / "site").mkdir()
    (made / "site" / "sitecustomize.py").write_text(STAND_IN, encoding="utf-8")
    return made


def machine(folder: Path, visible: str | None, stand_in: bool = False) -> Variables:
    """The environment of a machine with three GPUs, of which some are visible."""
    package = Path(__file__).resolve().parents[2]
    places = [str(folder / "site"), str(package)] if stand_in else []
    paths = [*places, *filter(None, [os.environ.get("PYTHONPATH")])]
    support = str(Path(nvidia_smi.__file__).parent)
    return {
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
        "CUDA_VISIBLE_DEVICES": visible,
        "CUDA_DEVICE_ORDER": None,
        "PYTHONPATH": os.pathsep.join([*paths, support]),
    }


@pytest.fixture(scope="module")
def ran(folder: Path) -> PytestSession:
    """Cases on GPUs 2 and 0, which a CPU stands in for."""
    return run(folder / "ran", *CUDA, variables=machine(folder, "2,0", stand_in=True))


def test_cases_run_on_the_gpus_that_are_visible(ran: PytestSession) -> None:
    assert set(outcomes(ran).values()) == {"passed"}, ran.out
    assert "GPU: 2 (Tesla T4), 0 (NVIDIA H100 80GB HBM3)\n" in ran.out
    for mode in ("accuracy", "performance"):
        offline, stream = (
            ran.result(f"test_{mode}[tiny-pocket-{scenario}-cuda-fp32]")
            for scenario in ("offline", "singlestream")
        )
        facts = offline["provenance"]
        assert facts["gpus"] == ["Tesla T4", "NVIDIA H100 80GB HBM3"]
        assert facts["gpu_ids"] == ["2", "0"]
        assert facts["instances"] == 2
        assert facts["provider_proof"].endswith(", on each of 2 GPUs")
        # 14,000 MiB are free on the one with the least, which is more than a batch may have.
        assert facts["batch_tokens"] == 24_576
        words = shlex.split(offline["repeat"])
        assert words[words.index("--gpus") + 1] == "2"
        facts = stream["provenance"]
        assert (facts["gpus"], facts["gpu_ids"]) == (["Tesla T4"], ["2"])
        assert facts["instances"] == 1
        words = shlex.split(stream["repeat"])
        assert words[words.index("--gpus") + 1] == "1"


def test_a_gpu_that_does_not_run_the_model_is_named(folder: Path, tmp_path: Path) -> None:
    there = machine(folder, "1,2")
    pytest_session = run(
        tmp_path / "it", "--device", "cuda", "-k", "cuda and offline and accuracy", variables=there
    )
    assert pytest_session.code == 1
    for case in pytest_session.cases.values():
        assert case.outcome == "failure"
        said = "cuda: CUDAExecutionProvider doesn't run the model on GPU 1 (Tesla T4); of 1 matrix"
        assert said in case.message


def test_more_gpus_than_are_visible_are_refused_before_anything_runs(
    folder: Path, tmp_path: Path
) -> None:
    there = machine(folder, "1,2")
    pytest_session = run(tmp_path / "it", "--device", "cuda", "--gpus", "3", variables=there)
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    assert pytest_session.err.strip() == (
        "ERROR: --gpus 3 wants that many GPUs, but 2 can be used here, as CUDA_VISIBLE_DEVICES "
        "says: ask for fewer"
    )
