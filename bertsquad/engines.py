"""ONNX Runtime sessions: what was asked for, proven, or an error.

ONNX Runtime falls back to the CPU without a word and lists providers that run nothing, so neither
`get_providers()` nor a session that was made says anything. Here the graph says which provider
owns every matrix product, and a small product says in which precision it is calculated.

Only the worker process imports this module.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad.devices import DEVICES, Device, why_not
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.prepare import PRODUCTS, Feed, Prepared, Signature, prepare


class Engine:
    """One model on one device in one precision, ready to answer batches."""

    def __init__(self, path: Path, key: str, device: Device, precision: str, threads: int) -> None:
        """Prepare the model, make its session and prove provider and precision.

        Raises Unavailable if the device or precision can't be had, SuiteError if the model is
        none. `key` names the model's content.
        """
        reason = why_not(device)
        if reason is not None:
            raise Unavailable(f"{device.name}: {reason}")
        self.device = device
        self.precision = precision
        self.threads = threads
        self.prepared: Prepared = prepare(path, key, partial(_run_on_cpu, threads))
        precision_note = check_precision(self.prepared.signature, path, precision)
        self._session = make_session(self.prepared.path, device, precision, threads)
        self.proof = f"{prove_provider(self._session, device)}, {precision_note}"
        if precision != "int8":
            prove_precision(device, precision)

    @property
    def provider(self) -> str:
        """The provider that was proven to run the matrix products."""
        return self.device.provider

    @property
    def fixed_length(self) -> int | None:
        """The tokens that every sample must be padded to, if the model insists."""
        return self.prepared.signature.length

    @property
    def fixed_batch(self) -> int | None:
        """The samples that every batch must have, if the model insists."""
        return self.prepared.signature.batch

    def logits(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Start and end logits, float32 [batch, length, 2], of arrays [batch, length]."""
        signature = self.prepared.signature
        start, end = self._session.run(
            [signature.start, signature.end], signature.feed(ids, mask, segments)
        )
        return np.stack((start, end), axis=-1).astype(np.float32, copy=False)


def check_precision(signature: Signature, path: Path, precision: str) -> str:
    """SuiteError unless the model's own products are fit for `precision`; else what they are."""
    name, quantised, total = path.name, signature.quantised, signature.products
    if precision == "int8":
        if not quantised:
            raise SuiteError(
                f"{name} is not quantised, so it can't run in int8: use a quantised model or "
                "another --precision"
            )
        return f"{quantised} of {total} quantised in the model"
    if quantised:
        raise SuiteError(
            f"{name} is quantised ({quantised} of {total} matrix products), so it can't run in "
            f"{precision}: use --precision int8"
        )
    if signature.half:
        raise SuiteError(
            f"{name} holds {signature.half} of {total} matrix products in half precision, so it "
            f"can't run in {precision}"
        )
    return f"calculated in {precision}"


def make_session(
    model: Path | bytes, device: Device, precision: str, threads: int
) -> ort.InferenceSession:
    """A session that may use `device` alone (and the CPU for what no GPU provider takes)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong arrives as an exception
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    source = model if isinstance(model, bytes) else str(model)
    try:
        if device.name == "openvino":
            _add_openvino(options, precision, threads)
            session = ort.InferenceSession(source, options)
        else:
            if device.marker == "gpu":
                ort.preload_dlls()  # the CUDA libraries of the `cuda` extra
            session = ort.InferenceSession(
                source, options, providers=[(device.provider, _provider_options(device))]
            )
    except Unavailable:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        name = "the model" if isinstance(model, bytes) else model
        first_line = str(error).strip().splitlines()[0]
        raise SuiteError(f"{device.name} can't load {name}: {first_line}") from error
    session.disable_fallback()
    return session


def _provider_options(device: Device) -> dict[str, str]:
    if device.name == "cuda":
        return {"use_tf32": "0"}  # TF32 is not fp32
    return {}


def _add_openvino(options: ort.SessionOptions, precision: str, threads: int) -> None:
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
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
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
        raise Unavailable(
            f"{device.name}: {device.provider} doesn't run the model here; of {total} matrix "
            f"products, {where}{_gpu_hint(device)}"
        )
    return f"{total} of {total} matrix products on {device.provider}"


def _gpu_hint(device: Device) -> str:
    if device.marker != "gpu":
        return ""
    return (
        " (are CUDA and cuDNN installed for this onnxruntime-gpu? pip install -e '.[cuda]' brings "
        "them)"
    )


def prove_precision(device: Device, precision: str) -> None:
    """Multiply numbers that only fp32 tells apart from 1, and see whether the device does.

    1 + 2**-12 has more bits than bf16, fp16 or TF32 keep.
    """
    value = np.float32(1 + 2.0**-12)
    size = 64
    helper = onnx.helper
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "precision",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", size])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", size])],
            [onnx.numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = make_session(model.SerializeToString(), device, precision, threads=1)
    prove_provider(session, device)
    (found,) = session.run(None, {"x": np.full((size, size), value, np.float32)})
    exact = bool((np.asarray(found) == value).all())
    if exact != (precision == "fp32"):
        really = "fp32" if exact else "less than fp32"
        raise Unavailable(
            f"{device.name} was asked for {precision} but calculates in {really} on this machine"
        )


def _run_on_cpu(threads: int, path: Path, feeds: list[Feed]) -> list[list[NDArray[np.float32]]]:
    session = make_session(path, DEVICES["cpu"], "fp32", threads)
    return [session.run(None, feed) for feed in feeds]


def precisions_here(name: str) -> list[str]:
    """The precisions that the device `name` can really calculate in here (int8 is up to models)."""
    found = []
    for precision in DEVICES[name].precisions:
        try:
            if precision != "int8":
                prove_precision(DEVICES[name], precision)
            found.append(precision)
        except SuiteError:
            continue
    return found


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
