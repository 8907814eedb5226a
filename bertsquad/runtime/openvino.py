"""OpenVINO's plugin for ONNX Runtime.

Only the worker process imports this module.
"""

import json
from typing import Any

import onnxruntime as ort

from bertsquad.devices import Device
from bertsquad.errors import Unavailable
from bertsquad.runtime.parallelism import Parallelism


def add_openvino(
    device: Device, options: ort.SessionOptions, precision: str, parallelism: Parallelism
) -> None:
    """Let a session run on OpenVINO's CPU device alone; Unavailable where there is none."""
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    found = openvino_devices(device)
    if not found:
        reason = "the plugin offers no device on this machine; it wants an Intel CPU"
        raise Unavailable(reason, of=device.name)
    # Flat options are ignored; only these reach the CPU device.
    config = {
        "CPU": {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": str(parallelism.instances * parallelism.threads),
            "NUM_STREAMS": str(parallelism.instances),
        }
    }
    options.add_provider_for_devices(found[:1], {"load_config": json.dumps(config)})


def openvino_devices(device: Device) -> list[Any]:
    """The CPU as the OpenVINO plugin offers it, as ONNX Runtime's device objects."""
    import onnxruntime_ep_openvino as plugin

    def offered() -> list[Any]:
        wanted = device.provider, ort.OrtHardwareDeviceType.CPU
        return [one for one in ort.get_ep_devices() if (one.ep_name, one.device.type) == wanted]

    if not offered():
        try:
            ort.register_execution_provider_library("bertsquad-openvino", plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if "already" not in str(error):
                reason = f"the plugin can't be loaded: {error}"
                raise Unavailable(reason, of=device.name) from error
    return offered()
