"""ONNX Runtime sessions: what was asked for, proven, or an error.

ONNX Runtime falls back to the CPU without a word and lists providers that run nothing, so neither
`get_providers()` nor a session that was made says anything. Here the graph says which provider
owns every matrix product, and a small product says in which precision it is calculated.

Only the worker process imports this module.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad import gpu, machine
from bertsquad.devices import DEVICES, Device, why_not
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.parallelism import Parallelism
from bertsquad.signature import PRODUCTS, Feed


def make_session(
    model: Path | bytes,
    device: Device,
    precision: str,
    parallelism: Parallelism,
    profile: Path | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
) -> ort.InferenceSession:
    """A session that may use `device` alone (and the CPU for what no GPU provider takes).

    On OpenVINO it has a stream for each instance; otherwise only the threads of one count. In the
    folder `profile` it records what it runs, until `end_profiling()`. `options` are the provider's.
    """
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = parallelism.threads
    settings.log_severity_level = 4  # what goes wrong arrives as an exception
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not machine.has_vnni():
        # Sums of products of unsigned and signed bytes may overflow then; this avoids it, slower.
        settings.add_session_config_entry("session.x64quantprecision", "1")
    others = parallelism.cpus(0)[1:]  # the first is the caller's
    if others:
        places = ";".join(str(cpu + 1) for cpu in others)  # ONNX Runtime counts from 1
        settings.add_session_config_entry("session.intra_op_thread_affinities", places)
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile / "profile")
    source = model if isinstance(model, bytes) else str(model)
    try:
        if device.name == "openvino":
            _add_openvino(settings, precision, parallelism)
            session = ort.InferenceSession(source, settings)
        else:
            if device.marker == "gpu":
                gpu.load_libraries()
                options = options or gpu.provider_options(device.name, None, 0)
            session = ort.InferenceSession(
                source, settings, providers=[(device.provider, dict(options))]
            )
    except Unavailable:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        name = "the model" if isinstance(model, bytes) else model
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SuiteError(f"{device.name} can't load {name}: {first_line}") from error
    session.disable_fallback()
    return session


def _add_openvino(options: ort.SessionOptions, precision: str, parallelism: Parallelism) -> None:
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    found = openvino_devices()
    if not found:
        raise Unavailable(
            "openvino: the plugin offers no device on this machine; it wants an Intel CPU"
        )
    # Flat options are ignored; only these say what the CPU plugin shall really do.
    config = {
        "CPU": {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": str(parallelism.instances * parallelism.threads),
            "NUM_STREAMS": str(parallelism.instances),
        }
    }
    options.add_provider_for_devices(found[:1], {"load_config": json.dumps(config)})


def openvino_devices() -> list[Any]:
    """The CPU as the OpenVINO plugin offers it, as ONNX Runtime's device objects."""
    import onnxruntime_ep_openvino as plugin

    def offered() -> list[Any]:
        return [
            device
            for device in ort.get_ep_devices()
            if device.ep_name == "OpenVINOExecutionProvider"
            and device.device.type == ort.OrtHardwareDeviceType.CPU
        ]

    if not offered():
        try:
            ort.register_execution_provider_library("bertsquad-openvino", plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if "already" not in str(error):
                raise Unavailable(f"openvino: the plugin can't be loaded: {error}") from error
    return offered()


def prove_provider(session: ort.InferenceSession, device: Device) -> str:
    """Say how many matrix products run on the device; Unavailable if any runs elsewhere."""
    owners: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        count = sum(node.op_type in PRODUCTS for node in part.get_nodes())
        owners[part.ep_name] = owners.get(part.ep_name, 0) + count
    owners = {name: count for name, count in owners.items() if count}
    total = sum(owners.values())
    if total == 0:
        raise SuiteError("the model holds no matrix product, so it is no BERT")
    elsewhere = {name: count for name, count in owners.items() if name != device.provider}
    if elsewhere:
        where = ", ".join(f"{count} on {name}" for name, count in elsewhere.items())
        why = f" ({gpu.why_not()})" if device.marker == "gpu" else ""
        raise Unavailable(
            f"{device.name}: {device.provider} doesn't run the model here; of {total} matrix "
            f"products, {where}{why}"
        )
    return f"{total} of {total} matrix products on {device.provider}"


def prove_precision(device: Device, precision: str) -> None:
    """Multiply numbers that only fp32 tells apart from 1, and see whether the device does.

    1 + 2**-12 has more bits than bf16, fp16 or TF32 keep.
    """
    value = np.float32(1 + 2.0**-12)
    size = 64
    session = make_session(_product(size, precision), device, precision, Parallelism(1, 1))
    prove_provider(session, device)
    (found,) = session.run(None, {"x": np.full((size, size), value, np.float32)})
    exact = bool((np.asarray(found) == value).all())
    if exact != (precision == "fp32"):
        really = "fp32" if exact else "less than fp32"
        raise Unavailable(
            f"{device.name} was asked for {precision} but calculates in {really} on this machine"
        )


def _product(size: int, precision: str) -> bytes:
    """A model that multiplies x, float32 [rows, size], by 1; in half precision for fp16."""
    helper = onnx.helper
    kind = onnx.TensorProto.FLOAT
    dtype = np.float16 if precision == "fp16" else np.float32
    inside = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["x"], ["x_inside"], to=inside),
        helper.make_node("MatMul", ["x_inside", "w"], ["y_inside"]),
        helper.make_node("Cast", ["y_inside"], ["y"], to=kind),
    ]
    graph = helper.make_graph(
        nodes,
        "precision",
        [helper.make_tensor_value_info("x", kind, ["rows", size])],
        [helper.make_tensor_value_info("y", kind, ["rows", size])],
        [onnx.numpy_helper.from_array(np.eye(size, dtype=dtype), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def can_calculate(device: Device, precision: str) -> bool:
    """Whether the device really calculates in `precision` here, found out by trying."""
    try:
        prove_precision(device, precision)
    except SuiteError:
        return False
    return True


def open_on_cpu(path: Path, threads: int) -> Callable[[Feed], list[NDArray[np.float32]]]:
    """A float model on the CPU provider, for proofs and calibration: gives all its outputs."""
    session = make_session(path, DEVICES["cpu"], "fp32", Parallelism(1, threads))
    return lambda feed: session.run(None, feed)


def precisions_here(name: str) -> list[str]:
    """The precisions that the device `name` can really calculate in here (int8 is up to models)."""
    device = DEVICES[name]
    return [one for one in device.precisions if one == "int8" or can_calculate(device, one)]


def why_not_really(name: str) -> str | None:
    """Why `name` can't run a small model on this machine, by trying; None if it can."""
    device = DEVICES[name]
    try:
        reason = why_not(device)
        if reason is not None:
            return reason
        prove_precision(device, "fp32")
    except SuiteError as error:
        return str(error).removeprefix(f"{name}: ")
    return None
