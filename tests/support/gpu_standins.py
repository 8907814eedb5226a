"""Several GPUs without any: real sessions on the CPU under a GPU's name, and what each was told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nvidia_smi
import onnxruntime as ort
import pytest

from bertsquad.devices import DEVICES
from bertsquad.runtime import availability

#: As `cuda`, but ONNX Runtime's CPU provider calculates, which passes over what a GPU is told.
CUDA = replace(DEVICES["cuda"], provider="CPUExecutionProvider")
TENSORRT = replace(DEVICES["tensorrt"], provider="CPUExecutionProvider")


@dataclass(frozen=True)
class Told:
    """A session that was made: of the model, or of a small product; with which options."""

    of_model: bool
    threads: int
    options: Mapping[str, str]

    @property
    def gpu(self) -> int:
        return int(self.options["device_id"])


Source = str | bytes
#: Given a GPU and what a session is to be made of: what it is made of instead.
Instead = Callable[[int, Source], Source]


def three(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    instead: Instead | None = None,
    free: Sequence[str] = ("81000", "15000", "14000"),
) -> list[Told]:
    """Put three GPUs into this machine; the list grows with each session that is made."""
    nvidia_smi.put(folder, monkeypatch, free=free)
    monkeypatch.setattr(availability, "owner", lambda module: "onnxruntime-gpu")
    real, told = ort.InferenceSession, []

    def make(source: Source, settings: Any, providers: list[Any], **others: Any) -> Any:
        if isinstance(providers[0], tuple):
            options = providers[0][1]
            found = Told(isinstance(source, str), settings.intra_op_num_threads, options)
            told.append(found)
            source = instead(found.gpu, source) if instead else source
        return real(source, settings, providers=providers, **others)

    monkeypatch.setattr(ort, "InferenceSession", make)
    return told
