"""Which GPUs this process may use, with the driver's tool replaced by a real small program."""

import os
from pathlib import Path

import nvidia_smi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvidia_smi import LISTED, NAMES, UUIDS

from bertsquad.errors import SuiteError
from bertsquad.machine import gpus
from bertsquad.machine.gpus import Gpu, selected

posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")

H100, T4, OTHER_T4 = THERE = [
    Gpu(str(number), name, uuid)
    for number, (name, uuid) in enumerate(zip(NAMES, UUIDS, strict=True))
]
MIG = ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb")
#: As `nvidia-smi -L` prints a GPU that MIG divides.
DIVIDED = (
    LISTED[1].replace("GPU 1", "GPU 0"),
    LISTED[0].replace("GPU 0", "GPU 1"),
    f"  MIG 3g.40gb     Device  0: (UUID: {MIG[0]})",
    f"  MIG 1c.3g.40gb  Device  1: (UUID: {MIG[1]})",
)


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver, unless a test puts one there."""
    nvidia_smi.without(monkeypatch)
    monkeypatch.setattr(gpus, "_has_driver", lambda: False)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (None, ["0", "1", "2"]),
        ("0,1,2", ["0", "1", "2"]),
        ("2,0", ["2", "0"]),
        (" 1 , 2 ", ["1", "2"]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("none", []),
        ("0,2,-1,1", ["0", "2"]),  # as the CUDA Programming Guide has it
        ("0,9,1", ["0"]),
        ("0,,1", ["0"]),
        ("1,", ["1"]),
        ("3", []),
        ("1gpu,+2", ["1", "2"]),
        ("99999999999999999999", []),
        ("0,1,0", []),
        ("GPU-8932f937", ["GPU-8932f937"]),
        (UUIDS[2], [UUIDS[2]]),
        (f"GPU-5,{UUIDS[0]}", ["GPU-5", UUIDS[0]]),
        ("GPU-893", []),  # two begin so
        ("GPU-5,GPU-893,GPU-8932", ["GPU-5"]),
        ("GPU-5,GPU-5d5", []),
        ("GPU-0", []),
        ("0,GPU-5", ["0"]),
        ("GPU-5,0", ["GPU-5"]),
        ("MIG-c6d4f1ef", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(wanted: str | None, ids: list[str]) -> None:
    found = selected(wanted, THERE)
    assert [gpu.id for gpu in found] == ids
    for gpu in found:
        (same,) = (one for one in THERE if one.uuid == gpu.uuid)
        assert gpu.name == same.name
        assert gpu.id in (same.id, gpu.uuid[: len(gpu.id)])


@given(st.none() | st.text("019,-+ GPUMIabcdef8", max_size=30), st.integers(0, 3))
def test_whatever_the_variable_holds_no_gpu_is_shown_that_is_not_there_or_twice(
    wanted: str | None, count: int
) -> None:
    uuids = [gpu.uuid for gpu in selected(wanted, THERE[:count] or None)]
    if count:
        assert set(uuids) <= set(UUIDS[:count])
        assert len(set(uuids)) == len(uuids)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (None, ["0"]),
        ("5,3", ["5", "3"]),
        ("GPU-5,GPU-893", ["GPU-5", "GPU-893"]),
        ("MIG-GPU-5/1/0", ["MIG-GPU-5/1/0"]),
        ("1,-1,2", ["1"]),
        ("", []),
        ("1,1", []),
    ],
)
def test_without_nvidia_smi_what_is_named_is_taken_to_be_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, ids: list[str]
) -> None:
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    if wanted is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert gpus.visible() == tuple(Gpu(one) for one in ids)
    assert gpus.free_bytes() == [None] * len(ids)


@posix
def test_gpus_are_those_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, free=["81000", "[N/A]", " 14000 "])
    assert list(gpus.visible()) == THERE
    assert [str(gpu) for gpu in gpus.visible()] == [
        "GPU 0 (NVIDIA H100 80GB HBM3)",
        "GPU 1 (Tesla T4)",
        "GPU 2 (Tesla T4)",
    ]
    assert gpus.summary() == "0 (NVIDIA H100 80GB HBM3), 1 (Tesla T4), 2 (Tesla T4)"
    assert gpus.free_bytes() == [81000 * 2**20, None, 14000 * 2**20]
    assert gpus.driver_cuda_version() == "99.0"
    assert gpus.why_none() is None


@posix
def test_names_and_memory_are_those_of_the_gpus_that_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [gpus.called(place) for place in range(3)] == [
        "GPU 2 (Tesla T4)",
        "GPU 0 (NVIDIA H100 80GB HBM3)",
        "GPU 2",
    ]
    assert gpus.free_bytes() == [14000 * 2**20, 81000 * 2**20]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-893a")
    assert gpus.called(0) == gpus.summary() == "GPU-893a (Tesla T4)"
    assert gpus.free_bytes() == [15000 * 2**20]
    assert gpus.count() == gpus.count(4) == 1


@posix
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ("1", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", MIG[0])),
        ("1,0", ("1", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", MIG[0])),
        ("0", ("0", "Tesla T4", UUIDS[1])),
        (MIG[1], (MIG[1], "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", MIG[1])),
        (f"MIG-cba,{MIG[0]}", ("MIG-cba", "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", MIG[1])),
        (UUIDS[0], (UUIDS[0], "NVIDIA H100 80GB HBM3 MIG 3g.40gb", MIG[0])),
    ],
)
def test_of_a_gpu_that_mig_divides_one_part_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None, found: tuple[str, str, str]
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, DIVIDED)
    if wanted is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert gpus.visible() == (Gpu(*found),)
    if wanted != "0":
        assert gpus.free_bytes() == [None]  # what is free of the whole GPU says nothing of a part


@posix
def test_a_driver_that_fails_lists_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, status=9)
    assert gpus.visible() == ()
    assert gpus.free_bytes() == []
    assert gpus.driver_cuda_version() is None


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpus.visible() == ()
    assert gpus.called(0) == ""
    assert gpus.summary() == "none"
    assert gpus.why_none() == "no NVIDIA GPU with a driver was found on this machine"
    assert gpus.count() == gpus.count(3) == 1


@posix
@pytest.mark.parametrize("wanted", ["", "-1", "7", "0,0", "GPU-0"])
def test_a_variable_that_shows_no_gpu_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert gpus.why_none() == (
        f"CUDA_VISIBLE_DEVICES is {wanted!r}, which shows no GPU of this machine: unset it, or "
        "name GPUs that nvidia-smi -L lists, each once"
    )


@posix
def test_numbers_that_cuda_gives_otherwise_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpus.why_none() is None
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    for numbers in (None, "1,0"):
        if numbers:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", numbers)
        reason = gpus.why_none()
        assert reason is not None
        assert reason.startswith("CUDA_DEVICE_ORDER is 'FASTEST_FIRST', so that CUDA numbers the")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[1])
    assert gpus.why_none() is None


@posix
def test_as_many_gpus_may_be_asked_for_as_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SuiteError) as caught:
        gpus.check(1)
    assert str(caught.value) == (
        "--gpus 1 wants that many GPUs, but no NVIDIA GPU with a driver was found on this machine"
    )
    nvidia_smi.put(tmp_path, monkeypatch)
    for wanted in (None, 1, 3):
        gpus.check(wanted)
        assert gpus.count(wanted) == (wanted or 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    with pytest.raises(SuiteError) as caught:
        gpus.check(3)
    assert str(caught.value) == (
        "--gpus 3 wants that many GPUs, but 2 can be used here, as CUDA_VISIBLE_DEVICES says: ask "
        "for fewer"
    )
