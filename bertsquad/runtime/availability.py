"""Why this machine can't have a device, as far as that shows without loading a runtime."""

import sys
from importlib.util import find_spec
from pathlib import Path

from bertsquad.devices import Device
from bertsquad.machine.provenance import installed


def why_not(device: Device) -> str | None:
    """Why this machine can't have `device`, as far as that shows without loading a runtime.

    None doesn't promise that it works: that is proven when its session is made.
    """
    if installed("onnxruntime") and installed("onnxruntime-gpu"):
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install the one you want"
        )
    if device.plugin is not None and find_spec(device.plugin) is None:
        return f"the plugin {device.plugin} is not installed: pip install -e '.[{device.name}]'"
    if device.is_gpu:
        if not installed("onnxruntime-gpu"):
            return "onnxruntime-gpu is not installed"
        if not _nvidia_driver():
            return "no NVIDIA GPU with a driver was found on this machine"
    return None


def _nvidia_driver() -> bool:
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
