"""What NVIDIA GPUs need: CUDA's libraries, the providers' options, and room for a batch.

No GPU has run this yet: the decisions are pure and tested, what a GPU does with them is not.
"""

import contextlib
import io
import os
import re
from functools import cache
from pathlib import Path

from bertsquad.assets.cache import GPU, TENSORRT, cache_folder
from bertsquad.devices import Device
from bertsquad.machine import gpus
from bertsquad.models.signature import Signature
from bertsquad.squad.features import MAX_TOKENS

#: Memory for a token of a batch: BERT-large's hidden and intermediate values of one layer and its
#: attention scores are about 0.1 MB in float32; the provider may hold as much again.
BYTES_PER_TOKEN = 200_000
#: Beyond this many tokens in a batch a GPU gains nothing: 64 samples of full length.
MOST_TOKENS = 64 * MAX_TOKENS


def batch_tokens(free_bytes: int | None) -> int:
    """The padded tokens that a batch may have with so much GPU memory free (None: unknown)."""
    if free_bytes is None:
        return MAX_TOKENS
    # Half of it, since the model needs room too.
    return max(MAX_TOKENS, min(MOST_TOKENS, free_bytes // 2 // BYTES_PER_TOKEN))


def where(device: Device, gpu: int) -> str:
    """The device as messages name it, with which of the visible GPUs it is on, if on any."""
    called = gpus.called(gpu) if device.is_gpu else ""
    return f"{device.name} on {called}" if called else device.name


def engine_folder(gpu: int) -> Path:
    """Where TensorRT's engines for a GPU are kept: apart from those for GPUs of another name.

    ONNX Runtime names the files by the GPU's compute capability alone, which unlike GPUs may share,
    and an engine that was built for one of them may be slow on the other, or fail.
    """
    found = gpus.visible()
    name = found[gpu].name if gpu < len(found) else ""
    folder = cache_folder() / TENSORRT
    return folder / (GPU + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")) if name else folder


def provider_options(
    device: Device, signature: Signature | None, tokens: int, gpu: int = 0
) -> dict[str, str]:
    """The options of a GPU's provider, with which ONNX Runtime makes a session on that GPU.

    TensorRT builds an engine for a range of shapes, given by the `signature` of the model and the
    `tokens` of a batch, and keeps it in the cache. A shape outside of the range would make it build
    again in the middle of a run.
    """
    options = {"device_id": str(gpu)}
    if not device.plans_shapes:
        return options | {"use_tf32": "0"}  # TF32 is not fp32
    options |= {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engine_folder(gpu)),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engine_folder(gpu)),
    }
    if signature is None:
        return options
    length, batch = signature.length, signature.batch
    most = min(device.most_samples or tokens, max(1, tokens))
    longest = signature.reads.longest
    typical = min(192, longest)
    usual = max(1, min(most, tokens // typical))
    for name, (rows, columns) in {
        "min": (batch or 1, length or 1),
        "opt": (batch or usual, length or typical),
        "max": (batch or most, length or longest),
    }.items():
        shared = signature.positions if signature.shared_positions else None
        shapes = [f"{one}:{1 if one == shared else rows}x{columns}" for one in signature.inputs]
        options[f"trt_profile_{name}_shapes"] = ",".join(shapes)
    return options


def why_mismatch(built: str, driver: str | None) -> str | None:
    """Why a driver of CUDA version `driver` can't run what is built for `built`; None if it can."""
    if driver is None or not built:
        return None
    if int(driver.partition(".")[0]) >= int(built.partition(".")[0]):
        return None
    return (
        f"onnxruntime-gpu is built for CUDA {built}, but the driver offers CUDA {driver}: update "
        "the NVIDIA driver"
    )


def missing_library(printed: str) -> str | None:
    """Which library couldn't be loaded, as `preload_dlls` printed; None if it names none."""
    found = re.search(r"([\w.-]+\.(?:so(?:\.\d+)*|dll))\b", printed)
    if "fail" not in printed.lower() or found is None:
        return None
    return f"{found[1]} can't be loaded: pip install -e '.[cuda]' brings it"


@cache
def load_libraries() -> str | None:
    """Load the CUDA and cuDNN libraries of the `cuda` extra, once; say which can't be loaded.

    It is also made sure that CUDA, which starts later, numbers the GPUs as nvidia-smi does.
    """
    import onnxruntime

    os.environ.setdefault(gpus.ORDER, gpus.BY_BUS)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        onnxruntime.preload_dlls()  # prints where others raise
    return missing_library(printed.getvalue())


def likely_cause() -> str:
    """The likeliest reason why a GPU's provider doesn't run here, in a sentence."""
    from onnxruntime.capi import build_and_package_info as build

    built = getattr(build, "cuda_version", "")
    return (
        why_mismatch(built, gpus.driver_cuda_version())
        or load_libraries()
        or f"are CUDA {built} and cuDNN installed? pip install -e '.[cuda]' brings them"
    )
