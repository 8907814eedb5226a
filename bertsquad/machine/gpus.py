"""The NVIDIA GPUs that this process may use, numbered as CUDA numbers them.

CUDA shows a process those that CUDA_VISIBLE_DEVICES names, in its order; `nvidia-smi` lists all of
the machine whatever that says. So the list is read here, and the variable as CUDA reads it (CUDA
Programming Guide, "CUDA Environment Variables"; MIG User Guide). No GPU has run this yet: what is
decided is tested, what a driver makes of it isn't.
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.machine.hardware import output_of

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: How CUDA numbers GPUs: the fastest first, unless this is BY_BUS, as nvidia-smi does.
ORDER, BY_BUS = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"

#: nvidia-smi takes this many seconds at most: with many GPUs that sleep it needs several.
_PATIENCE_S = 60


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one that MIG divides: what `nvidia-smi -L` says of it.

    `id` is what CUDA_VISIBLE_DEVICES calls it, or its number there. Where nvidia-smi doesn't list
    it, `name` and `uuid` are empty. `parts` are those that MIG made of it.
    """

    id: str
    name: str = ""
    uuid: str = ""
    parts: tuple["Gpu", ...] = ()

    def __str__(self) -> str:
        """As messages name it: `GPU 1 (Tesla T4)`."""
        called = f"GPU {self.id}" if self.id.isdecimal() else self.id
        return f"{called} ({self.name})" if self.name else called


def visible() -> tuple[Gpu, ...]:
    """The GPUs that CUDA shows this process; the place of each is its `device_id`."""
    there = listed()
    return selected(os.environ.get(VISIBLE), there or None) if there or _has_driver() else ()


def selected(wanted: str | None, there: Sequence[Gpu] | None) -> tuple[Gpu, ...]:
    """Those of the GPUs `there` that CUDA_VISIBLE_DEVICES shows where it is `wanted`.

    None for `wanted` is a variable that isn't set; None for `there` is a driver without nvidia-smi,
    where what is named is taken to be there, and one GPU if nothing is. An entry that names no GPU,
    or isn't of the first one's kind, ends the list; one that comes twice leaves nothing. Of parts
    that MIG made CUDA shows a process one alone, and no whole GPU beside it.
    """
    found = list(there or [Gpu("0")])
    if wanted is not None:
        found = []
        entries = [entry.strip() for entry in wanted.split(",")]
        for entry in entries:
            gpu = _named(entry, there) if _kind(entry) == _kind(entries[0]) else None
            if gpu is None:
                break
            found.append(gpu)
    if len({gpu.uuid or gpu.id for gpu in found}) < len(found):
        return ()
    pieces = [piece for gpu in found for piece in _pieces(gpu)]
    parts = [piece for piece in pieces if piece.uuid.startswith("MIG-")]
    return tuple(parts[:1] or pieces)


def _pieces(gpu: Gpu) -> list[Gpu]:
    """The parts that MIG made of a GPU, or the GPU itself."""
    return [replace(part, id=gpu.id) for part in gpu.parts] or [gpu]


def _kind(entry: str) -> str:
    """What kind of name an entry is: `GPU-`, `MIG-`, or empty for a number."""
    return next((kind for kind in ("GPU-", "MIG-") if entry.startswith(kind)), "")


def _named(entry: str, there: Sequence[Gpu] | None) -> Gpu | None:
    """The GPU that an entry of CUDA_VISIBLE_DEVICES names; None if it names none."""
    if _kind(entry):  # a UUID, of which the beginning is enough
        if there is None:
            return Gpu(entry)
        known = [one for gpu in there for one in (gpu, *gpu.parts) if one.uuid.startswith(entry)]
        return replace(known[0], id=entry) if len(known) == 1 else None
    number = re.match(r"\+?(\d{1,9})", entry)  # what stands behind it is passed over, as by strtoul
    if number is None:
        return None
    place = int(number[1])
    if there is None:
        return Gpu(str(place))
    return there[place] if place < len(there) else None


@cache
def listed() -> tuple[Gpu, ...]:
    """All GPUs of this machine, in the order of their buses."""
    found: list[Gpu] = []
    for line in output_of("nvidia-smi", "-L", timeout_s=_PATIENCE_S).splitlines():
        if match := re.fullmatch(r"GPU (\d+): (.*) \(UUID: (GPU-[^)]+)\)\s*", line):
            found.append(Gpu(match[1], match[2], match[3]))
        elif found and (match := re.fullmatch(r"\s+(MIG \S+) .*\(UUID: (MIG-[^)]+)\)\s*", line)):
            whole = found[-1]
            part = Gpu(match[2], f"{whole.name} {match[1]}", match[2])
            found[-1] = replace(whole, parts=(*whole.parts, part))
    return tuple(found)


def _has_driver() -> bool:
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def why_none() -> str | None:
    """Why this process can use no GPU, as far as that shows without a runtime; None if it can."""
    found = visible()
    if found:
        return _why_unnumbered()
    if not listed() and not _has_driver():
        return "no NVIDIA GPU with a driver was found on this machine"
    return (
        f"{VISIBLE} is {os.environ.get(VISIBLE, '')!r}, which shows no GPU of this machine: unset "
        "it, or name GPUs that nvidia-smi -L lists, each once"
    )


def _why_unnumbered() -> str | None:
    """Why the numbers of GPUs don't say which they are; None if they do."""
    order = os.environ.get(ORDER, BY_BUS)
    if order == BY_BUS or len(listed()) < 2 or _kind(os.environ.get(VISIBLE, "")):
        return None
    return (
        f"{ORDER} is {order!r}, so that CUDA numbers the GPUs otherwise than nvidia-smi: unset it, "
        f"set it to {BY_BUS}, or name the GPUs in {VISIBLE} by UUID"
    )


def count(most: int | None = None) -> int:
    """How many GPUs are used where the user wants `most`, None for all; 1 where none is known."""
    there = max(1, len(visible()))
    return there if most is None else min(most, there)


def check(wanted: int | None) -> None:
    """SuiteError unless as many GPUs can be used as the user asked for."""
    if wanted is None:
        return
    reason, there = why_none(), len(visible())
    if reason is None and wanted > there:
        named = f", as {VISIBLE} says" if VISIBLE in os.environ else ""
        reason = f"{there} can be used here{named}: ask for fewer"
    if reason is not None:
        raise SuiteError(f"--gpus {wanted} wants that many GPUs, but {reason}")


def summary() -> str:
    """The visible GPUs in a line: `0 (Tesla T4), 1 (Tesla T4)`, or `none`."""
    return ", ".join(str(gpu).removeprefix("GPU ") for gpu in visible()) or "none"


def called(device_id: int) -> str:
    """The GPU at a place among the visible ones, as messages name it; empty where none is."""
    found = visible()
    if not found:
        return ""
    return str(found[device_id] if device_id < len(found) else Gpu(str(device_id)))


def free_bytes() -> list[int | None]:
    """The free memory of each visible GPU, in bytes; None where that can't be found out."""
    query = ("--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    lines = output_of("nvidia-smi", *query, timeout_s=_PATIENCE_S).splitlines()
    free = {uuid.strip(): mib.strip() for uuid, _, mib in (line.partition(",") for line in lines)}
    known = [free.get(gpu.uuid, "") for gpu in visible()]
    return [int(mib) * 2**20 if mib.isdecimal() else None for mib in known]


def driver_cuda_version() -> str | None:
    """The newest CUDA that the NVIDIA driver offers, as in `13.0`."""
    found = re.search(r"CUDA Version:\s*(\d+\.\d+)", output_of("nvidia-smi", timeout_s=_PATIENCE_S))
    return found[1] if found else None
