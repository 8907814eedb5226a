"""The execution devices, and what can be said of them without importing a runtime."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """An execution device: its ONNX Runtime provider, its marker and its precisions."""

    name: str
    provider: str
    marker: str
    precisions: tuple[str, ...]


DEVICES = {
    device.name: device
    for device in (
        Device("cpu", "CPUExecutionProvider", "cpu", ("fp32", "int8")),
        Device("openvino", "OpenVINOExecutionProvider", "cpu", ("fp32", "bf16", "int8")),
        Device("cuda", "CUDAExecutionProvider", "gpu", ("fp32", "fp16")),
        Device("tensorrt", "TensorrtExecutionProvider", "gpu", ("fp32", "fp16")),
    )
}

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def installed(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def runtime_conflict() -> str | None:
    """Why ONNX Runtime as installed can't be trusted, if so."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed(name)]
    if len(both) == 2:
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install the one you want"
        )
    return None


def why_not(device: Device) -> str | None:
    """Why this machine can't have `device`, as far as that shows without loading a runtime.

    None doesn't promise that it works: that is proven when its session is made.
    """
    conflict = runtime_conflict()
    if conflict is not None:
        return conflict
    if device.name == "openvino" and find_spec("onnxruntime_ep_openvino") is None:
        return "the OpenVINO plugin is not installed: pip install -e '.[openvino]'"
    if device.marker == "gpu":
        if not installed("onnxruntime-gpu"):
            return "onnxruntime-gpu is not installed"
        if not _nvidia_driver():
            return "no NVIDIA GPU with a driver was found on this machine"
    return None


def _nvidia_driver() -> bool:
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
