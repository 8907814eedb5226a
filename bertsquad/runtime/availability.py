"""Why this machine can't have a device, as far as that shows without loading a runtime."""

import sys
from importlib.util import find_spec
from pathlib import Path

from bertsquad.devices import Device
from bertsquad.machine.distributions import RUNTIME, owner, owners


def conflict() -> str | None:
    """Why no device can be had where several distributions bring ONNX Runtime; None elsewhere."""
    *others, last = owners(RUNTIME) or (RUNTIME,)
    if not others:
        return None
    all_of_them = "both" if len(others) == 1 else "all"
    return (
        f"{', '.join(others)} and {last} are {all_of_them} installed and overwrite each other: "
        f"uninstall {all_of_them}, then install the one you want"
    )


def why_not(device: Device) -> str | None:
    """Why this machine can't have `device`, as far as that shows without loading a runtime.

    None doesn't promise that it works: that is proven when its session is made.
    """
    if (reason := conflict()) is not None:
        return reason
    if device.plugin is not None and find_spec(device.plugin) is None:
        return f"the plugin {device.plugin} is not installed: pip install -e '.[{device.name}]'"
    if device.is_gpu:
        if "gpu" not in owner(RUNTIME):
            return "onnxruntime-gpu is not installed"
        if not _nvidia_driver():
            return "no NVIDIA GPU with a driver was found on this machine"
    return None


def _nvidia_driver() -> bool:
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
