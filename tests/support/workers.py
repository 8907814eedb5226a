"""Workers on tiny models, each with what it works on."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from numpy.typing import NDArray

from bertsquad.loadgen import logs
from bertsquad.loadgen.request import Request
from bertsquad.models.zoo import files_of
from bertsquad.runtime.parallelism import ONE
from bertsquad.squad.features import Features, save
from bertsquad.worker.handle import Worker
from bertsquad.worker.protocol import Ready, Setup


@dataclass(frozen=True)
class Begun:
    """A worker that was begun, with what it works on."""

    worker: Worker
    ready: Ready
    features: Features
    folder: Path
    log: Path

    def request(self, scenario: str, mode: str, name: str | None = None, **others: Any) -> Request:
        folder = self.folder / (name or f"{mode}-{scenario}")
        folder.mkdir(exist_ok=True)
        given: dict[str, Any] = {"rules": "quick", "samples": len(self.features)}
        if mode != "accuracy":
            given["min_duration_s"] = 0.05
        divided = {
            key: others.pop(key) for key in ("instances", "threads", "pins") if key in others
        }
        parallelism = replace(ONE, **divided)
        return Request(
            scenario, mode, folder=str(folder), parallelism=parallelism, **given | others
        )

    def accuracy(self, scenario: str, **others: Any) -> dict[int, NDArray[np.float32]]:
        request = self.request(scenario, "accuracy", **others)
        self.worker.run(request, timeout_s=60)
        return logs.read_accuracy_log(Path(request.folder))


def start(folder: Path, file: Path | None = None, questions: int = 29, **others: Any) -> Begun:
    built = tiny.build_features(folder, questions, others.pop("poisoned", None))
    path = folder / "tiny.npz"
    save(built, path)
    file = file or tiny.model(folder / "tiny.onnx")
    setup: dict[str, Any] = {
        "model": files_of(file),
        "features": str(path),
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "calibration": "no calibration data was given",
    }
    log = folder / "worker.log"
    worker = Worker(log)
    ready = worker.prepare(Setup(**(setup | others)))
    return Begun(worker, ready, built, folder, log)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:  # an orphan stays a zombie where nobody collects it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def pid_of(made: Worker) -> int:
    return made._process.pid
