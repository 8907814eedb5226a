"""The execution devices, and what can be said of them without importing a runtime."""

from dataclasses import dataclass


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
