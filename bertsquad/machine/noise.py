"""What disturbed a run: another run, other processes, the hypervisor, heat, a quota.

The figures of a disturbed run are kept, with a warning beside them.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

#: Any system uses up to this share of the machine's CPU time by itself.
TOLERATED_SHARE = 0.05


@dataclass(frozen=True)
class Reading:
    """What the machine had counted by the moment `at_s`; only differences mean something."""

    at_s: float
    busy_s: float  # CPU time of all processes, on all processors
    stolen_s: float  # CPU time that the hypervisor gave to other machines, of all processors
    own_s: float  # CPU time of this process
    heat: int  # how often a core was slowed down for heat
    held_back_s: float  # how long a quota held back this control group


def read(root: Path = Path("/")) -> Reading | None:
    """The counters now; None where the system has no such files."""
    try:
        line = (root / "proc/stat").read_text(encoding="utf-8").partition("\n")[0]
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, softirq, steal = (int(n) / tick for n in line.split()[1:9])
    except (OSError, ValueError, OverflowError, AttributeError):
        return None
    times = os.times()
    return Reading(
        time.monotonic(),
        user + nice + system + irq + softirq,
        steal,
        times.user + times.system,
        sum(_heat(root)),
        _held_back_s(root),
    )


def _heat(root: Path) -> Iterator[int]:
    """How often each core was slowed down for heat."""
    cpus = root / "sys/devices/system/cpu"
    for file in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            yield int(file.read_text(encoding="utf-8"))


def _held_back_s(root: Path) -> float:
    """How long a quota held back this control group, by the file of version 2 or of version 1."""
    for name, key, unit in (
        ("sys/fs/cgroup/cpu.stat", "throttled_usec", 1e-6),
        ("sys/fs/cgroup/cpu/cpu.stat", "throttled_time", 1e-9),
    ):
        with contextlib.suppress(OSError, ValueError, OverflowError):
            for line in (root / name).read_text(encoding="utf-8").splitlines():
                word, _, value = line.partition(" ")
                if word == key:
                    return int(value) * unit
    return 0.0


def together(readings: Sequence[Reading | None]) -> Reading | None:
    """One reading of a machine by several of its processes, all of which are one's own.

    None where one of them is missing.
    """
    there = [one for one in readings if one is not None]
    if len(there) < max(len(readings), 1):
        return None
    return replace(there[0], own_s=sum(one.own_s for one in there))


@dataclass(frozen=True)
class Disturbance:
    """What disturbed a run, and what to do about it.

    `share` is the one that `matter` names, from 0 to 1, if it names any: that of the CPU time.
    """

    matter: str
    cure: str
    share: float | None = None

    def __str__(self) -> str:
        return f"{self.matter}: {self.cure}"


def disturbances(
    before: Reading | None, after: Reading | None, processors: int
) -> list[Disturbance]:
    """What disturbed the time between two readings on a machine of so many processors."""
    if before is None or after is None or after.at_s <= before.at_s:
        return []
    available = (after.at_s - before.at_s) * processors
    others = (after.busy_s - before.busy_s - after.own_s + before.own_s) / available
    stolen = (after.stolen_s - before.stolen_s) / available
    found = []
    if others > TOLERATED_SHARE:
        matter = f"other processes used {others:.0%} of this machine's CPU time during the run"
        found.append(Disturbance(matter, "run it again when the machine is quiet", others))
    if stolen > TOLERATED_SHARE:
        matter = (
            f"the hypervisor gave {stolen:.0%} of this machine's CPU time to others during the run"
        )
        found.append(Disturbance(matter, "run it again, or on a machine of its own", stolen))
    if after.heat > before.heat:
        times = after.heat - before.heat
        matter = f"cores were slowed down for heat {times} times during the run"
        found.append(Disturbance(matter, "see to the cooling"))
    held_back = after.held_back_s - before.held_back_s
    if held_back > TOLERATED_SHARE * available:
        matter = f"a CPU quota held the run back for {held_back:.1f} s"
        found.append(Disturbance(matter, "use fewer --instances or --threads, or raise the quota"))
    return found
