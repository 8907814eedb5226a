"""The execution devices, and what can be said of them without importing a runtime."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """An execution device: its ONNX Runtime provider, its precisions, and how it is treated.

    `marker` says what it calculates on, "cpu" or "gpu"; pytest's marker of its cases is the same.
    `gflops` is its nominal speed in GFLOP/s, of a core or of a whole GPU, for estimates only.

    - `plugin`: the Python module that brings the provider, where ONNX Runtime doesn't.
    - `schedules_itself`: the provider divides its work among threads or streams of its own, so
      one session serves all instances, and no thread is pinned.
    - `profiles_products`: ONNX Runtime's profile shows how every matrix product was calculated;
      other providers take the graph as one.
    - `symmetric_int8`: only activations without zero points are calculated in int8.
    - `plans_shapes`: the provider builds an engine for a range of shapes, and plans its memory for
      the largest; `most_samples` is how many samples a batch may have then.
    """

    name: str
    provider: str
    marker: str
    precisions: tuple[str, ...]
    gflops: float
    plugin: str | None = None
    schedules_itself: bool = True
    profiles_products: bool = False
    symmetric_int8: bool = False
    plans_shapes: bool = False
    most_samples: int | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether it calculates on a GPU."""
        return self.marker == "gpu"


DEVICES = {
    device.name: device
    for device in (
        Device(
            *("cpu", "CPUExecutionProvider", "cpu", ("fp32", "int8"), 80.0),
            schedules_itself=False,
            profiles_products=True,
        ),
        Device(
            *("openvino", "OpenVINOExecutionProvider", "cpu", ("fp32", "bf16", "int8"), 120.0),
            plugin="onnxruntime_ep_openvino",
            symmetric_int8=True,
        ),
        Device(
            *("cuda", "CUDAExecutionProvider", "gpu", ("fp32", "fp16"), 10_000.0),
            profiles_products=True,
        ),
        Device(
            *("tensorrt", "TensorrtExecutionProvider", "gpu", ("fp32", "fp16"), 10_000.0),
            plans_shapes=True,
            most_samples=128,
        ),
    )
}

#: The names of those that calculate on a GPU.
GPUS = tuple(name for name, device in DEVICES.items() if device.is_gpu)

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
