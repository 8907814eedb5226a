"""ONNX Runtime sessions on a device.

ONNX Runtime falls back to the CPU without a word and lists providers that run nothing, so neither
`get_providers()` nor a session that was made proves anything: `proofs.py` does.

Only the worker process imports this module.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad.devices import DEVICES, Device
from bertsquad.errors import SuiteError, Unavailable, describe
from bertsquad.machine import processor
from bertsquad.models.signature import Feed, Signature
from bertsquad.runtime import nvidia
from bertsquad.runtime.openvino import add_openvino
from bertsquad.runtime.parallelism import Parallelism


def make_session(
    model: Path | bytes,
    device: Device,
    precision: str,
    parallelism: Parallelism,
    profile: Path | None = None,
    signature: Signature | None = None,
    tokens: int = 0,
) -> ort.InferenceSession:
    """A session that may use `device` alone (and the CPU for what no GPU provider takes).

    On OpenVINO it has a stream for each instance; elsewhere it has the threads of one, and the GPU
    of the first. It writes what it runs to the folder `profile`, until `end_profiling()`. The
    model's `signature` and the most `tokens` of a batch are for a provider that builds for a range
    of shapes.
    """
    gpu = parallelism.gpu(0)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = parallelism.threads
    settings.log_severity_level = 4  # what goes wrong arrives as an exception
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not processor.has_vnni():
        # Sums of products of unsigned and signed bytes may overflow then; this avoids it, but is
        # slower.
        settings.add_session_config_entry("session.x64quantprecision", "1")
    others = parallelism.cpus(0)[1:]  # the first is the caller's
    if others:
        places = ";".join(str(cpu + 1) for cpu in others)  # ONNX Runtime counts from 1
        settings.add_session_config_entry("session.intra_op_thread_affinities", places)
    if profile is not None:
        settings.enable_profiling = True
        # ONNX Runtime tells files apart by the second, and sessions are made faster.
        settings.profile_file_prefix = str(Path(tempfile.mkdtemp(dir=profile)) / "profile")
    source = model if isinstance(model, bytes) else str(model)
    try:
        providers: list[Any] | None = None
        if device.plugin is not None:
            add_openvino(device, settings, precision, parallelism)
        elif device.is_gpu:
            nvidia.load_libraries()
            if device.plans_shapes:  # ONNX Runtime would make the last folder of its path alone
                nvidia.engine_folder(gpu).mkdir(parents=True, exist_ok=True)
            options = nvidia.provider_options(device, signature, tokens, gpu)
            providers = [(device.provider, options)]
        else:
            providers = [device.provider]
        session = ort.InferenceSession(
            source, settings, providers=providers, disabled_optimizers=_harmful(device, signature)
        )
    except Unavailable:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        name = "the model" if isinstance(model, bytes) else model
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SuiteError(f"{nvidia.where(device, gpu)} can't load {name}: {first_line}") from error
    session.disable_fallback()
    return session


def run(
    session: ort.InferenceSession,
    wanted: list[str] | None,
    feed: Feed,
    device: Device,
    gpu: int = 0,
) -> list[NDArray[Any]]:
    """What a session answers; a GPU that fails is named, since others may go on."""
    try:
        found: list[NDArray[Any]] = session.run(wanted, feed)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if not device.is_gpu:
            raise
        raise SuiteError(f"{nvidia.where(device, gpu)} failed: {describe(error)}") from error
    return found


def _harmful(device: Device, signature: Signature | None) -> list[str] | None:
    """The optimisers of ONNX Runtime that would keep a quantised model from its integer products.

    Where all sizes are fixed, it makes a Gemm of MatMul and Add before it looks for quantised
    products, and then finds no MatMul to make one of.
    """
    quantised = signature is not None and signature.quantised > 0
    return ["MatMulAddFusion"] if quantised and device.plugin is None else None


def open_on_cpu(path: Path, threads: int) -> Callable[[Feed], list[NDArray[np.float32]]]:
    """A float model on the CPU provider, to compare and calibrate; it gives all its outputs."""
    session = make_session(path, DEVICES["cpu"], "fp32", Parallelism(1, threads))
    return lambda feed: session.run(None, feed)
