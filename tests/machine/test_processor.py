"""What is told of processors of many kinds, by the files that their systems have."""

import os
from pathlib import Path

import pytest

from bertsquad.machine import hardware, processor, tuning
from bertsquad.machine.processor import Processor

CPUS = "sys/devices/system/cpu"
DMI = "sys/class/dmi/id"
GOOGLE = "Google Compute Engine"

#: Flags as the kernel writes them, of what is looked for and some others.
HASWELL = "fpu sse2 ht avx f16c fma avx2"
SKYLAKE = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
SAPPHIRE = f"{SKYLAKE} avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8"
ZEN_4 = f"{SKYLAKE} avx512_bf16 avx512_vnni"


def machine(root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int) -> Path:
    """Files of a system below `root`, of which this process may use all `cpus`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    return root


def x86(flags: str, cpus: int = 2) -> dict[str, str]:
    block = f"processor\t: 0\nvendor_id\t: Any\nmodel name\t: A processor\nflags\t\t: {flags}\n"
    return {"proc/cpuinfo": "\n".join([block] * cpus)}


def topology(*cores: str) -> dict[str, str]:
    """Which CPUs each core has, as the kernel lists them."""
    return {
        f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": core
        for core in cores
        for cpu in core.split(",")
    }


def clock(governor: str, cpus: int) -> dict[str, str]:
    return {f"{CPUS}/cpu{n}/cpufreq/scaling_governor": governor for n in range(cpus)}


def nodes(*cpus: str) -> dict[str, str]:
    return {f"sys/devices/system/node/node{n}/cpulist": one for n, one in enumerate(cpus)}


INTEL_WITH_AMX = {
    **x86(SAPPHIRE, 4),
    **topology("0,2", "1,3"),
    **clock("powersave", 4),
    **nodes("0,2", "1,3", ""),  # the last has memory alone
    f"{CPUS}/intel_pstate/no_turbo": "0",
    f"{DMI}/sys_vendor": "Dell Inc.",
    f"{DMI}/product_name": "PowerEdge R760",
    "proc/self/cgroup": "0::/user.slice/session-1.scope",
}


def test_bare_metal_of_intel_with_amx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = processor.read(machine(tmp_path, monkeypatch, INTEL_WITH_AMX, 4))
    assert found == Processor(
        instruction_sets=("AVX2", "AVX-512", "VNNI", "BF16", "AMX"),
        threads_per_core=2,
        numa_nodes=2,
        own_nodes=(0, 1),
        governor="powersave",
        turbo=True,
        turbo_switch=f"/{CPUS}/intel_pstate/no_turbo",
        hypervisor="",
    )
    assert tuning.in_short(found) == (
        "AVX2 AVX-512 VNNI BF16 AMX, 2 threads a core, 2 NUMA nodes, governor powersave, turbo on"
    )


ZEN_4_SERVER = {
    **x86(ZEN_4),
    **topology("0", "1"),
    **clock("performance", 2),
    **nodes("0-1"),
    f"{CPUS}/cpufreq/boost": "0",
    f"{DMI}/sys_vendor": "Supermicro",
}
ZEN_2_AT_HOME = {
    **x86(HASWELL, 4),
    **topology("0,2", "1,3"),
    **clock("schedutil", 4),
    f"{CPUS}/cpufreq/boost": "1",
}
KVM_GUEST = {
    **x86(f"{SKYLAKE} avx512_vnni hypervisor"),
    **topology("0", "1"),
    **nodes("0-1"),
    f"{DMI}/sys_vendor": "QEMU",
    f"{DMI}/product_name": "Standard PC (Q35 + ICH9, 2009)",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc acpi_pm",
    "proc/self/cgroup": "0::/kubepods.slice/cri-containerd-1.scope",
}
GRAVITON = {
    "proc/cpuinfo": (
        "processor\t: 0\nBogoMIPS\t: 2100.00\n"
        "Features\t: fp asimd asimdhp cpuid asimdrdm asimddp sve i8mm bf16 dgh rng\n"
    ),
    **topology("0"),
    f"{DMI}/sys_vendor": "Amazon EC2",
    f"{DMI}/product_name": "c7g.medium",
}


def test_other_kinds_of_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = processor.read(machine(tmp_path / "zen4", monkeypatch, ZEN_4_SERVER, 2))
    assert tuning.in_short(found) == "AVX2 AVX-512 VNNI BF16, governor performance, turbo off"
    assert found.lacking == ("AMX",)
    found = processor.read(machine(tmp_path / "zen2", monkeypatch, ZEN_2_AT_HOME, 4))
    assert tuning.in_short(found) == "AVX2, 2 threads a core, governor schedutil, turbo on"
    found = processor.read(machine(tmp_path / "kvm", monkeypatch, KVM_GUEST, 2))
    assert tuning.in_short(found, 1.5) == (
        "AVX2 AVX-512 VNNI, quota 1.5 CPUs, hypervisor KVM, container kubernetes"
    )
    found = processor.read(machine(tmp_path / "arm", monkeypatch, GRAVITON, 1))
    assert tuning.in_short(found) == "NEON DotProd I8MM BF16 SVE, hypervisor Amazon EC2"
    assert found.lacking == ("SVE2",)


def test_where_nothing_can_be_read_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = processor.read(tmp_path)
    assert found == Processor()
    assert tuning.in_short(found) == ""
    assert {what for _, what in tuning.in_full(found)} == {"unknown", "none"}
    assert tuning.advice(found) == []
    assert set(found.facts().values()) == {None, ""}


@pytest.mark.parametrize(
    ("flags", "adds"),
    [
        ("fpu avx2 avx512_vnni", True),
        ("fpu avx_vnni", True),
        ("amx_int8 fpu", True),
        ("fpu avx2 avx_vnni_int8", False),
        ("", False),
    ],
)
def test_vnni_is_told_by_the_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, adds: bool
) -> None:
    root = machine(tmp_path, monkeypatch, x86(flags), 2)
    assert processor.has_vnni(root) is adds
    assert processor.read(root).multiplies_bytes is adds


def test_what_only_some_cores_can_do_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, little = "Features\t: fp asimd asimddp i8mm\n", "Features\t: fp asimd asimddp\n"
    files = {"proc/cpuinfo": f"processor\t: 0\n{big}\nprocessor\t: 1\n{little}"}
    found = processor.read(machine(tmp_path, monkeypatch, files, 2))
    assert found.instruction_sets == ("NEON", "DotProd")


@pytest.mark.parametrize(
    ("files", "hypervisor"),
    [
        # Firmware also has the cloud's name where a whole machine was lent.
        ({**x86(ZEN_4), f"{DMI}/sys_vendor": "Amazon EC2"}, ""),
        ({**x86(f"{ZEN_4} hypervisor"), f"{DMI}/sys_vendor": "Amazon EC2"}, "Amazon EC2"),
        ({**x86(f"{ZEN_4} hypervisor")}, "unknown"),
        ({**x86("hypervisor"), f"{DMI}/product_name": GOOGLE}, GOOGLE),
        ({**x86("hypervisor"), "proc/sys/kernel/osrelease": "6.6-microsoft-WSL2"}, "Hyper-V"),
        ({**x86("hypervisor"), "sys/hypervisor/type": "xen"}, "Xen"),
        (
            {
                **x86("hypervisor"),
                f"{DMI}/sys_vendor": "Microsoft Corporation",
                f"{DMI}/product_name": "Virtual Machine",
            },
            "Hyper-V",
        ),
        ({f"{DMI}/product_name": "c7g.metal", f"{DMI}/sys_vendor": "Amazon EC2"}, ""),
        ({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0"}, ""),
        ({"proc/device-tree/model": "linux,dummy-virt"}, "QEMU"),
        ({"proc/device-tree/hypervisor/compatible": "xen,xen-4.17"}, "Xen"),
        ({"proc/sys/kernel/osrelease": "6.1.0"}, None),
    ],
)
def test_a_virtual_machine_is_told_by_what_is_to_be_read_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], hypervisor: str | None
) -> None:
    assert processor.read(machine(tmp_path, monkeypatch, files, 2)).hypervisor == hypervisor


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"run/secrets/kubernetes.io/serviceaccount/token": "", ".dockerenv": ""}, "kubernetes"),
        ({"run/systemd/container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"proc/1/environ": "TERM=linux\0container=lxc\0HOME=/"}, "lxc"),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/0123abcd"}, "docker"),
        ({"proc/self/cgroup": "0::/user.slice/user-0.slice"}, ""),
    ],
)
def test_a_container_is_told_by_what_its_maker_left_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], container: str
) -> None:
    assert processor.read(machine(tmp_path, monkeypatch, files, 2)).container == container


def test_a_governor_that_differs_among_processors_is_told_with_all_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = clock("powersave", 2) | {f"{CPUS}/cpu1/cpufreq/scaling_governor": "performance"}
    found = processor.read(machine(tmp_path, monkeypatch, files, 2))
    assert found.governor == "performance, powersave"


def test_nodes_that_this_process_may_not_use_are_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = nodes("0-1,8", "2-3,9")
    found = processor.read(machine(tmp_path, monkeypatch, files, 2))
    assert (found.numa_nodes, found.own_nodes) == (2, (0,))


def test_this_machine_can_be_read() -> None:
    found = processor.read()
    assert found.multiplies_bytes or not processor.has_vnni()
    if Path("/proc/cpuinfo").is_file() and hardware.of_logical_cpus("flags"):
        assert found.instruction_sets is not None
