"""Why this machine can't have a device, as far as that shows without loading a runtime."""

from importlib.util import find_spec

from bertsquad.devices import Device
from bertsquad.machine import gpus
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
        return gpus.why_none()
    return None
