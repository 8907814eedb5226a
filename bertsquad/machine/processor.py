"""What of the processor, and of who shares it, decides how fast and how steadily a run goes.

It is read from the system's own files, as in `hardware.py`: nothing is started.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bertsquad.machine.hardware import of_logical_cpus, text_of

#: The instruction sets that matter for matrix products, each with the flags of `/proc/cpuinfo` that
#: it takes: those of one group are enough. x86 has them as `flags`, Arm as `Features`.
_X86: Mapping[str, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        "AVX2": (frozenset({"avx2"}),),
        "AVX-512": (frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),),
        "VNNI": (frozenset({"avx512_vnni"}), frozenset({"avx_vnni"})),
        "BF16": (frozenset({"avx512_bf16"}), frozenset({"amx_bf16"})),
        "AMX": (frozenset({"amx_int8"}),),
    }
)
_ARM: Mapping[str, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        "NEON": (frozenset({"asimd"}), frozenset({"neon"})),
        "DotProd": (frozenset({"asimddp"}),),
        "I8MM": (frozenset({"i8mm"}),),
        "BF16": (frozenset({"bf16"}),),
        "SVE": (frozenset({"sve"}),),
        "SVE2": (frozenset({"sve2"}),),
    }
)
#: Those that add products of bytes in one instruction.
_OF_BYTES = frozenset({"VNNI", "AMX", "DotProd", "I8MM"})

#: What firmware says of a machine.
_FIRMWARE = (
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/dmi/id/board_vendor",
    "sys/class/dmi/id/bios_vendor",
    "proc/device-tree/model",
)
#: Where else a virtual machine shows itself.
_KERNEL = (
    "sys/hypervisor/type",
    "proc/device-tree/hypervisor/compatible",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "proc/sys/kernel/osrelease",
)
#: Words there, in lower case, and whose they are; most are those of `systemd-detect-virt`.
_HYPERVISORS = (
    ("amazon ec2", "Amazon EC2"),
    ("google compute engine", "Google Compute Engine"),
    ("vmware", "VMware"),
    ("virtualbox", "VirtualBox"),
    ("parallels", "Parallels"),
    ("bhyve", "bhyve"),
    ("apple virtualization", "Apple Virtualization"),
    ("virtual machine", "Hyper-V"),
    ("hyperv", "Hyper-V"),
    ("wsl", "Hyper-V"),
    ("xen", "Xen"),
    ("kvm", "KVM"),
    ("alibaba cloud ecs", "KVM"),
    ("openstack", "KVM"),
    ("qemu", "QEMU"),
    ("dummy-virt", "QEMU"),
)
#: What a container's manager leaves in it.
_LEFT_IN_CONTAINERS = (
    ("run/secrets/kubernetes.io", "kubernetes"),
    ("var/run/secrets/kubernetes.io", "kubernetes"),
    ("run/.containerenv", "podman"),
    (".dockerenv", "docker"),
    (".singularity.d", "apptainer"),
)
#: Words in the names of a container's control groups.
_GROUPS_OF_CONTAINERS = (
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("docker", "docker"),
    ("lxc", "lxc"),
    ("containerd", "containerd"),
)

#: A name that is short and plain enough to be shown.
_WORD = r"[\w-]{1,40}"


@dataclass(frozen=True)
class Processor:
    """What decides how fast and how steadily a processor calculates; None where nothing says.

    Attributes
    ----------
    instruction_sets
        Those that matter for matrix products.
    lacking
        Those of its kind that it has not got.
    threads_per_core
        The most threads that a core has now: 2 or more where SMT is on.
    numa_nodes
        The NUMA nodes that have processors.
    own_nodes
        Which of them have the processors that this process may use.
    governor
        What decides on the clock; several names where it isn't the same for all processors.
    turbo
        Whether the clock may rise above the nominal one.
    turbo_switch
        The file that says so, empty where nothing does.
    hypervisor
        What runs this machine, `unknown` where that doesn't say its name; empty where none does.
    container
        What made the container that this process is in; empty where there is none to be seen.
    """

    instruction_sets: tuple[str, ...] | None = None
    lacking: tuple[str, ...] = ()
    threads_per_core: int | None = None
    numa_nodes: int | None = None
    own_nodes: tuple[int, ...] = ()
    governor: str | None = None
    turbo: bool | None = None
    turbo_switch: str = ""
    hypervisor: str | None = None
    container: str = ""

    @property
    def multiplies_bytes(self) -> bool:
        """Whether it adds products of bytes in one instruction, or doesn't say that it can't."""
        return self.instruction_sets is None or not _OF_BYTES.isdisjoint(self.instruction_sets)

    def facts(self) -> dict[str, Any]:
        """What a result says of it; docs/results.md explains the keys."""
        sets = self.instruction_sets
        return {
            "instruction_sets": None if sets is None else list(sets),
            "threads_per_core": self.threads_per_core,
            "numa_nodes": self.numa_nodes,
            "governor": self.governor,
            "turbo": self.turbo,
            "hypervisor": self.hypervisor,
            "container": self.container,
        }


def read(root: Path = Path("/")) -> Processor:
    """The processor as it is now; `root` holds /proc and /sys."""
    kind, flags = _flags(root)
    nodes = _cpus_of_nodes(root)
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    turbo_switch = _turbo_switch(root)
    return Processor(
        None if flags is None else tuple(name for name in kind if _has(flags, kind[name])),
        () if flags is None else tuple(name for name in kind if not _has(flags, kind[name])),
        _threads_per_core(root),
        len(nodes) or None,
        tuple(node for node, cpus in nodes.items() if not own.isdisjoint(cpus)),
        ", ".join(sorted(_governors(root))) or None,
        None if turbo_switch is None else turbo_switch[1],
        "" if turbo_switch is None else f"/{turbo_switch[0]}",
        _hypervisor(root, flags if kind is _X86 else None),
        _container(root),
    )


def has_vnni(root: Path = Path("/")) -> bool:
    """Whether the processor adds products of bytes without overflow.

    On x86 that takes VNNI or AMX; any other processor is taken to do so.
    """
    kind, flags = _flags(root)
    if flags is None or kind is not _X86:
        return True
    return any(_has(flags, kind[name]) for name in _OF_BYTES & kind.keys())


def _flags(root: Path) -> tuple[Mapping[str, tuple[frozenset[str], ...]], set[str] | None]:
    """The instruction sets of this kind of processor, and the flags that all its CPUs have.

    None where nothing is said of flags.
    """
    for field, kind in (("flags", _X86), ("Features", _ARM)):
        if said := of_logical_cpus(field, root):
            return kind, set.intersection(*(set(flags.split()) for flags in said))
    return {}, None


def _has(flags: set[str], groups: Iterable[frozenset[str]]) -> bool:
    return any(group <= flags for group in groups)


def _cpus(text: str | None) -> set[int]:
    """The CPUs of a list as `0-3,8`; none where it can't be read."""
    number = r"\d{1,5}"
    if not text or not re.fullmatch(rf"{number}(-{number})?(,{number}(-{number})?)*", text):
        return set()
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _threads_per_core(root: Path) -> int | None:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
    return max((len(_cpus(text_of(file))) for file in files), default=0) or None


def _cpus_of_nodes(root: Path) -> dict[int, set[int]]:
    """The CPUs of each NUMA node that has any."""
    found = {
        int(file.parent.name.removeprefix("node")): _cpus(text_of(file))
        for file in root.glob("sys/devices/system/node/node[0-9]*/cpulist")
    }
    return {node: found[node] for node in sorted(found) if found[node]}


def _governors(root: Path) -> set[str]:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    said = (text_of(file) or "" for file in files)
    return {name for name in said if re.fullmatch(_WORD, name)}


def _turbo_switch(root: Path) -> tuple[str, bool] | None:
    """The file that switches turbo, and whether it is on."""
    for file, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        name = f"sys/devices/system/cpu/{file}"
        if (said := text_of(root / name)) in ("0", "1"):
            return name, said == on
    return None


def _hypervisor(root: Path, flags: set[str] | None) -> str | None:
    """What runs this machine, by what is to be read in it; `flags` are those of an x86 processor.

    There a flag says whether it is a virtual machine, for firmware also has a cloud's name where a
    whole machine was lent. On others firmware must do.
    """
    if flags is not None and "hypervisor" not in flags:
        return ""
    firmware = " ".join(text_of(root / name) or "" for name in _FIRMWARE).strip()
    kernel = " ".join(text_of(root / name) or "" for name in _KERNEL)
    name = _named(f"{firmware} {kernel}", _HYPERVISORS)
    if flags is not None:
        return name or "unknown"
    if re.search(r"[.-]metal\b", firmware):  # as clouds name whole machines
        return ""
    return name or ("" if firmware else None)


def _container(root: Path) -> str:
    """What made the container that this process is in."""
    for name, maker in _LEFT_IN_CONTAINERS:
        if _is_there(root / name):
            return maker
    for name, form in (
        ("run/systemd/container", rf"({_WORD})"),
        ("proc/1/environ", rf"(?:^|\0)container=({_WORD})(?:\0|$)"),
    ):
        if found := re.search(form, text_of(root / name) or ""):
            return found[1]
    return _named(text_of(root / "proc/self/cgroup") or "", _GROUPS_OF_CONTAINERS)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _named(text: str, words: Iterable[tuple[str, str]]) -> str:
    """Whose word comes first among `words` that stand in a text; nothing where none does."""
    return next((owner for word, owner in words if word in text.lower()), "")
