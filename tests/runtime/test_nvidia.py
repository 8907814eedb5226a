"""What GPUs are told and what is said where they don't work, without any GPU."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nvidia_smi
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.assets import cache
from bertsquad.devices import DEVICES
from bertsquad.models.reads import Reads
from bertsquad.models.signature import Signature
from bertsquad.runtime import nvidia
from bertsquad.squad.features import MAX_TOKENS

CUDA, TENSORRT = DEVICES["cuda"], DEVICES["tensorrt"]
GIB = 2**30
HINT = "can't be loaded: pip install -e '.[cuda]' brings it"
SITE = "/home/me/venv/lib/python3.11/site-packages/nvidia/cu13/lib"
FOLLOW = "Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.\n"
ABSENT = "cannot open shared object file: No such file or directory"


posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    nvidia_smi.without(monkeypatch)
    nvidia.load_libraries.cache_clear()
    yield
    nvidia.load_libraries.cache_clear()


def signature(inputs: int = 3, batch: int | None = None, length: int | None = None) -> Signature:
    segments = "segment_ids" if inputs == 3 else None
    names = ("input_ids", "input_mask", segments)
    types = {name: "int64" for name in names if name}
    return Signature(*names, "s", "e", types, batch, length)


def ranges(options: dict[str, str]) -> dict[str, list[tuple[int, int]]]:
    """The smallest, usual and largest (samples, tokens) of each input, as TensorRT reads them."""
    found: dict[str, list[tuple[int, int]]] = {}
    for kind in ("min", "opt", "max"):
        for shape in options[f"trt_profile_{kind}_shapes"].split(","):
            name, rows, columns = re.fullmatch(r"(\w+):(\d+)x(\d+)", shape).groups()  # type: ignore[union-attr]
            found.setdefault(name, []).append((int(rows), int(columns)))
    return found


@pytest.mark.parametrize(
    ("free", "tokens"),
    [
        (None, MAX_TOKENS),
        (0, MAX_TOKENS),
        (GIB // 20, MAX_TOKENS),
        (1 * GIB, GIB // 2 // nvidia.BYTES_PER_TOKEN),
        (4 * GIB, 2 * GIB // nvidia.BYTES_PER_TOKEN),
        (80 * GIB, nvidia.MOST_TOKENS),
        (10**15, nvidia.MOST_TOKENS),
    ],
)
def test_a_batch_has_as_many_tokens_as_half_the_memory_holds(free: int | None, tokens: int) -> None:
    assert nvidia.batch_tokens(free) == tokens


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_more_memory_never_means_smaller_batches(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert (
        MAX_TOKENS <= nvidia.batch_tokens(small) <= nvidia.batch_tokens(large) <= nvidia.MOST_TOKENS
    )


@pytest.mark.parametrize("given_signature", [None, signature()], ids=["unknown", "known"])
def test_cuda_calculates_fp32_as_fp32_whatever_the_model(given_signature: Signature | None) -> None:
    for gpu in (0, 3):
        options = nvidia.provider_options(CUDA, given_signature, 24_576, gpu)
        assert options == {"device_id": str(gpu), "use_tf32": "0"}


def test_tensorrt_keeps_what_it_builds_in_the_cache() -> None:
    options = nvidia.provider_options(TENSORRT, None, 0)
    folder = str(cache.cache_folder() / "tensorrt")
    assert options == {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }
    known = nvidia.provider_options(TENSORRT, signature(), 24_576)
    assert options.items() <= known.items()
    assert all(isinstance(value, str) for value in known.values())


@posix
def test_unlike_gpus_have_folders_of_their_own_for_tensorrts_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    folder = cache.cache_folder() / "tensorrt"
    h100, t4 = folder / "gpu-nvidia-h100-80gb-hbm3", folder / "gpu-tesla-t4"
    for wanted, folders in ((None, [h100, t4, t4]), ("1,0", [t4, h100])):
        if wanted:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
        for gpu, expected in enumerate(folders):
            options = nvidia.provider_options(TENSORRT, None, 0, gpu)
            assert options["device_id"] == str(gpu)
            for kind in ("engine", "timing"):
                assert options[f"trt_{kind}_cache_path"] == str(expected)


@posix
def test_messages_name_the_gpu_of_a_gpu_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nvidia.where(CUDA, 0) == "cuda"  # where no GPU is known
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert nvidia.where(CUDA, 0) == "cuda on GPU 2 (Tesla T4)"
    assert nvidia.where(TENSORRT, 1) == "tensorrt on GPU 0 (NVIDIA H100 80GB HBM3)"
    assert nvidia.where(DEVICES["cpu"], 1) == "cpu"


def test_cuda_is_told_to_number_gpus_as_they_are_listed_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    nvidia.load_libraries()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    nvidia.load_libraries.cache_clear()
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    nvidia.load_libraries()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize("inputs", [2, 3])
@pytest.mark.parametrize(
    ("batch", "length", "tokens", "expected"),
    [
        (None, None, 24_576, [(1, 1), (128, 192), (128, 384)]),
        (None, None, 3_072, [(1, 1), (16, 192), (128, 384)]),
        (None, None, 384, [(1, 1), (2, 192), (128, 384)]),
        (None, 384, 3_072, [(1, 384), (16, 384), (128, 384)]),
        (None, 512, 3_072, [(1, 512), (16, 512), (128, 512)]),
        (1, None, 3_072, [(1, 1), (1, 192), (1, 384)]),
        (8, 384, 3_072, [(8, 384), (8, 384), (8, 384)]),
    ],
)
def test_tensorrt_builds_for_the_shapes_that_batches_have(
    inputs: int, batch: int | None, length: int | None, tokens: int, expected: list[tuple[int, int]]
) -> None:
    options = nvidia.provider_options(TENSORRT, signature(inputs, batch, length), tokens)
    names = ["input_ids", "input_mask", "segment_ids"][:inputs]
    assert ranges(options) == dict.fromkeys(names, expected)


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(512, [(1, 1), (16, 192), (128, 512)]), (128, [(1, 1), (24, 128), (128, 128)])],
)
@pytest.mark.parametrize("shared", [False, True])
def test_tensorrt_builds_for_the_longest_window_and_for_positions(
    longest: int, expected: list[tuple[int, int]], shared: bool
) -> None:
    given = replace(
        signature(),
        positions="position_ids",
        shared_positions=shared,
        reads=Reads(longest=longest),
    )
    found = ranges(nvidia.provider_options(TENSORRT, given, 3_072))
    one_row = [(1, columns) for _, columns in expected]
    assert found["position_ids"] == (one_row if shared else expected)
    assert found["input_ids"] == found["segment_ids"] == expected


@given(
    tokens=st.integers(MAX_TOKENS, 2 * nvidia.MOST_TOKENS),
    rows=st.integers(1, TENSORRT.most_samples),
    columns=st.integers(1, MAX_TOKENS),
)
def test_no_batch_that_may_be_made_is_outside_of_tensorrts_shapes(
    tokens: int, rows: int, columns: int
) -> None:
    rows = max(1, min(rows, tokens // columns))
    found = ranges(nvidia.provider_options(TENSORRT, signature(), tokens))
    smallest, usual, largest = found["input_ids"]
    for axis, size in enumerate((rows, columns)):
        assert smallest[axis] <= size <= largest[axis]
        assert smallest[axis] <= usual[axis] <= largest[axis]


@pytest.mark.parametrize(
    ("built", "offered"),
    [("13.0", "13.0"), ("13.0", "13.2"), ("12.8", "13.0"), ("13.0", None), ("", "12.4")],
)
def test_a_driver_that_is_new_enough_or_unknown_is_no_reason(
    built: str, offered: str | None
) -> None:
    assert nvidia.why_mismatch(built, offered) is None


def test_a_driver_that_is_too_old_is_named_with_both_versions() -> None:
    assert nvidia.why_mismatch("13.0", "12.8") == (
        "onnxruntime-gpu is built for CUDA 13.0, but the driver offers CUDA 12.8: update the "
        "NVIDIA driver"
    )
    assert nvidia.why_mismatch("12.8", "9.2") is not None


# What `onnxruntime.preload_dlls` of ONNX Runtime 1.31 prints, on Linux and on Windows.
@pytest.mark.parametrize(
    ("printed", "library"),
    [
        (
            f"Failed to load libcublasLt.so.13: libcublasLt.so.13: {ABSENT}\n"
            f"Failed to load libcublas.so.13: libcublas.so.13: {ABSENT}\n"
            f"Failed to load libcurand.so.10: libcurand.so.10: {ABSENT}\n{FOLLOW}",
            "libcublasLt.so.13",
        ),
        (
            f"Failed to load {SITE}/libcublasLt.so.13: {SITE}/libcublasLt.so.13: file too short\n"
            f"Failed to load libcublasLt.so.13: libcublasLt.so.13: {ABSENT}\n{FOLLOW}",
            "libcublasLt.so.13",
        ),
        (
            f"Failed to load {SITE.replace('/me/', '/my.software/')}/libcudart.so.13: "
            f"libcudart.so.13: invalid ELF header\n"
            f"Failed to load libcudart.so.13: libcudart.so.13: {ABSENT}\n{FOLLOW}",
            "libcudart.so.13",
        ),
        (
            "Failed to load cublasLt64_13.dll: Could not find module 'cublasLt64_13.dll' (or one "
            f"of its dependencies). Try using the full path with constructor syntax.\n{FOLLOW}",
            "cublasLt64_13.dll",
        ),
        (
            "Failed to load C:\\Users\\me\\venv\\Lib\\site-packages\\nvidia\\cu13\\bin\\x86_64\\"
            "cudart64_13.dll: [WinError 193] %1 is not a valid Win32 application\n"
            f"Failed to load cudart64_13.dll: Could not find module 'cudart64_13.dll'\n{FOLLOW}",
            "cudart64_13.dll",
        ),
        (
            "Microsoft Visual C++ Redistributable is not installed, this may lead to the DLL load "
            "failure.\nIt can be downloaded at https://aka.ms/vs/17/release/vc_redist.x64.exe.\n"
            f"Failed to load cublasLt64_13.dll: Could not find module\n{FOLLOW}",
            "cublasLt64_13.dll",
        ),
    ],
    ids=["absent", "broken", "folder", "windows", "broken on windows", "redistributable"],
)
def test_the_first_library_that_cannot_be_loaded_is_named(printed: str, library: str) -> None:
    assert nvidia.missing_library(printed) == f"{library} {HINT}"


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Skip loading CUDA and cuDNN DLLs since torch is imported.\n",
        "\033[33mWARNING: Unable to parse CUDA version 'x'. Skipping DLL preloading. Call "
        "preload_dlls with cuda=False and cudnn=False.\033[0m\n",
        "Microsoft Visual C++ Redistributable is not installed, this may lead to the DLL load "
        "failure.\nIt can be downloaded at https://aka.ms/vs/17/release/vc_redist.x64.exe.\n",
    ],
    ids=["nothing", "torch", "version", "redistributable"],
)
def test_what_names_no_library_is_no_missing_library(printed: str) -> None:
    assert nvidia.missing_library(printed) is None


def test_loading_the_libraries_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    found = nvidia.load_libraries()
    assert capfd.readouterr() == ("", "")
    assert found is None or re.fullmatch(rf"[\w.-]+ {re.escape(HINT)}", found)
    onnxruntime.preload_dlls()
    printed, _ = capfd.readouterr()
    assert (found is None) == ("Failed to load" not in printed)


def test_libraries_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = iter([f"Failed to load libcublas.so.13: {ABSENT}"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write(next(printed)))
    first = nvidia.load_libraries()
    assert first == f"libcublas.so.13 {HINT}"
    assert nvidia.load_libraries() == first


@posix
def test_an_old_driver_is_the_likeliest_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, cuda="12.8")
    built = "onnxruntime.capi.build_and_package_info.cuda_version"
    monkeypatch.setattr(built, "13.0", raising=False)
    assert nvidia.likely_cause() == nvidia.why_mismatch("13.0", "12.8")


@posix
def test_then_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    failed = f"Failed to load libcublas.so.13: {ABSENT}"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write(failed))
    assert nvidia.likely_cause() == f"libcublas.so.13 {HINT}"


def test_and_otherwise_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    built = "onnxruntime.capi.build_and_package_info.cuda_version"
    monkeypatch.setattr(built, "13.0", raising=False)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    expected = "are CUDA 13.0 and cuDNN installed? pip install -e '.[cuda]' brings them"
    assert nvidia.likely_cause() == expected
