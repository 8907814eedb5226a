"""The NVIDIA driver's own tool, as a small program that answers the questions of the suite."""

import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bertsquad.machine import gpus

NAMES = ("NVIDIA H100 80GB HBM3", "Tesla T4", "Tesla T4")
UUIDS = (
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-893a0000-1111-2222-3333-444444444444",
    "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77",
)
LISTED = tuple(
    f"GPU {number}: {name} (UUID: {uuid})"
    for number, (name, uuid) in enumerate(zip(NAMES, UUIDS, strict=True))
)


def write(
    folder: Path,
    listed: Sequence[str] = LISTED,
    free: Sequence[str] = ("81000", "15000", "14000"),
    cuda: str = "99.0",
    status: int = 0,
) -> None:
    """Write it to a folder: `free` is the GPUs' memory in MiB, `cuda` a version."""
    lines = [f"{uuid}, {mib}" for uuid, mib in zip(UUIDS, free, strict=False)]
    texts = {
        "-L": "\n".join(listed),
        "--query-gpu=uuid,memory.free": "\n".join(lines),
        "": f"| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: {cuda}     |",
    }
    cases = "\n".join(f"'{asked}') echo '{text}' ;;" for asked, text in texts.items())
    file = folder / "nvidia-smi"
    script = f'#!/bin/sh\ncase "$1" in\n{cases}\n*) exit 2 ;;\nesac\nexit {status}\n'
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, *args: Any, **settings: Any) -> None:
    """Write it, and let it be the only program on the path."""
    write(folder, *args, **settings)
    monkeypatch.setenv("PATH", str(folder))
    _ask_anew(monkeypatch)


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no program on the path."""
    monkeypatch.setenv("PATH", "")
    _ask_anew(monkeypatch)


def _ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was listed, now and at the end; and let nothing of the real environment count."""
    monkeypatch.setattr(gpus, "listed", cache(inspect.unwrap(gpus.listed)))
    for name in (gpus.VISIBLE, gpus.ORDER):
        monkeypatch.delenv(name, raising=False)
