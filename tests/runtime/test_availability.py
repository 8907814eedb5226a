"""What can be said of a device without loading a runtime."""

import nvidia_smi
import pytest

from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.machine import gpus
from bertsquad.runtime import availability
from bertsquad.runtime.availability import why_not


def test_every_device_calculates_in_fp32_and_every_precision_has_a_device() -> None:
    for device in DEVICES.values():
        assert device.precisions[0] == "fp32"
        assert device.precisions == tuple(one for one in PRECISIONS if one in device.precisions)
    assert {one for device in DEVICES.values() for one in device.precisions} == set(PRECISIONS)


def test_half_precision_is_a_gpus_and_int8_a_cpus() -> None:
    for device in DEVICES.values():
        assert ("fp16" in device.precisions) == device.is_gpu
        assert ("int8" in device.precisions) == (device.marker == "cpu")


PAIR = ("onnxruntime-gpu", "onnxruntime-openvino")
THREE = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn")


@pytest.mark.parametrize(
    ("owners", "sentence"),
    [
        (PAIR, "onnxruntime-gpu and onnxruntime-openvino are both installed and overwrite"),
        (THREE, "onnxruntime, onnxruntime-gpu and onnxruntime-qnn are all installed and overwrite"),
    ],
)
def test_runtimes_that_overwrite_each_other_are_named_for_every_device(
    monkeypatch: pytest.MonkeyPatch, owners: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setattr(availability, "owners", lambda module: owners)
    for device in DEVICES.values():
        reason = why_not(device)
        assert reason is not None
        assert sentence in reason


def test_a_gpu_device_needs_the_gpu_runtime_and_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "owner", lambda module: "onnxruntime-openvino")
    assert why_not(DEVICES["cuda"]) == "onnxruntime-gpu is not installed"
    monkeypatch.setattr(availability, "owner", lambda module: "onnxruntime-gpu")
    nvidia_smi.without(monkeypatch)
    monkeypatch.setattr(gpus, "_has_driver", lambda: False)
    assert "no NVIDIA GPU" in str(why_not(DEVICES["tensorrt"]))
    monkeypatch.setattr(gpus, "_has_driver", lambda: True)
    assert why_not(DEVICES["cuda"]) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES is '-1', which shows no GPU" in str(why_not(DEVICES["cuda"]))


def test_openvino_without_its_plugin_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "find_spec", lambda name: None)
    assert "pip install -e '.[openvino]'" in str(why_not(DEVICES["openvino"]))
