"""What a processor is in words, and what to change on a machine so that its figures mean more."""

from collections.abc import Iterator

from bertsquad.machine.identity import VARIABLE
from bertsquad.machine.processor import Processor

_UNKNOWN = "unknown"


def in_short(processor: Processor, quota: float | None = None) -> str:
    """A processor in part of a line: what it has, and what of its surroundings is unusual.

    `quota` is the control group's share of CPU time, in CPUs.
    """
    return ", ".join(_in_short(processor, quota))


def _in_short(processor: Processor, quota: float | None) -> Iterator[str]:
    if processor.instruction_sets is not None:
        yield " ".join(processor.instruction_sets) or f"no {' '.join(processor.lacking)}"
    if (processor.threads_per_core or 1) > 1:
        yield f"{processor.threads_per_core} threads a core"
    if (processor.numa_nodes or 1) > 1:
        yield f"{processor.numa_nodes} NUMA nodes"
    if processor.governor is not None:
        yield f"governor {processor.governor}"
    if processor.turbo is not None:
        yield f"turbo {_on(processor.turbo)}"
    if quota is not None:
        yield f"quota {quota:g} CPUs"
    if processor.hypervisor:
        yield f"hypervisor {processor.hypervisor}"
    if processor.container:
        yield f"container {processor.container}"


def in_full(processor: Processor, quota: float | None = None) -> list[tuple[str, str]]:
    """All that is known of a processor, and what isn't: each by its name, with what to show."""
    sets, threads = processor.instruction_sets, processor.threads_per_core
    has = _UNKNOWN if sets is None else ", ".join(sets) or "none of those that matter"
    lacks = f" (not {', '.join(processor.lacking)})" if processor.lacking else ""
    smt = "off, 1 thread a core" if threads == 1 else f"on, {threads} threads a core"
    return [
        ("instruction sets", has + lacks),
        ("SMT", _UNKNOWN if threads is None else smt),
        ("NUMA nodes", str(processor.numa_nodes or _UNKNOWN)),
        ("governor", processor.governor or _UNKNOWN),
        ("turbo", _UNKNOWN if processor.turbo is None else _on(processor.turbo)),
        ("CPU quota", "none" if quota is None else f"{quota:g} CPUs"),
        (
            "hypervisor",
            _UNKNOWN if processor.hypervisor is None else processor.hypervisor or "none",
        ),
        ("container", processor.container or "none"),
    ]


def advice(
    processor: Processor,
    quota: float | None = None,
    cores: int = 1,
    openvino: bool = True,
    is_named: bool = True,
) -> list[str]:
    """What to change, or what to expect where nothing can be changed: a sentence each.

    `cores` are those that this process may use by its affinity, whatever its quota; `openvino` says
    whether the device `openvino` can be had, `is_named` whether the user gave this machine a name.
    """
    found = [*_of_what_it_can(processor, openvino), *_of_how_steady_it_is(processor, quota, cores)]
    if processor.container and not is_named:
        found.append(
            f"this is a container ({processor.container}), whose name and machine-id may be new, "
            f"or the same elsewhere: set {VARIABLE}=NAME, so that this machine's runs have one "
            "history"
        )
    return found


def _of_what_it_can(processor: Processor, openvino: bool) -> Iterator[str]:
    sets = processor.instruction_sets
    if "AVX2" in processor.lacking or "NEON" in processor.lacking:
        lacks = "AVX2" if "AVX2" in processor.lacking else "NEON"
        yield (
            f"this processor has no {lacks}, which ONNX Runtime's fast products need: expect a "
            "fraction of the usual speed, and take another machine for figures that count"
        )
    if "VNNI" in processor.lacking and not processor.multiplies_bytes:
        yield (
            "int8 gains nothing here: no VNNI (with AVX2 alone 29.9 QPS were seen in int8 and in "
            "fp32): run fp32, or int8 on a processor that has VNNI"
        )
    elif not processor.multiplies_bytes:
        yield (
            "int8 may gain nothing here: no instruction adds products of bytes (DotProd or I8MM): "
            "compare it with fp32 before you use it"
        )
    if sets is not None and "AMX" in sets and not openvino:
        yield (
            "this processor has AMX, whose bf16 only the device openvino uses, which can't be had "
            "(see above): pip install -e '.[openvino]', then --device openvino --precision bf16"
        )


def _of_how_steady_it_is(processor: Processor, quota: float | None, cores: int) -> Iterator[str]:
    if processor.governor not in (None, "performance"):
        yield (
            f"the governor is {processor.governor}, by which the clock follows the load, so that "
            "short runs are slow and figures wander: sudo cpupower frequency-set -g performance"
        )
    if processor.turbo:
        value = 1 if processor.turbo_switch.endswith("no_turbo") else 0
        yield (
            "turbo is on, so that the clock depends on heat and on what else runs, and figures "
            f"wander: to compare, switch it off (echo {value} | sudo tee {processor.turbo_switch})"
        )
    if (threads := processor.threads_per_core or 1) > 1:
        switch = "echo off | sudo tee /sys/devices/system/cpu/smt/control"
        yield (
            f"SMT is on, {threads} threads a core: the suite computes on one of them, and whatever "
            f"runs on the others slows it: keep them idle, or switch SMT off ({switch})"
        )
    if quota is not None and quota < cores:
        yield (
            f"a quota gives this process {quota:g} of {cores} cores' time: nothing is pinned, and "
            "what is used up early stops a query until the next period, which lengthens p99: give "
            "it whole cores instead (a cpuset, docker's --cpuset-cpus)"
        )
    if len(processor.own_nodes) > 1:
        node = processor.own_nodes[0]
        yield (
            f"this process may use {len(processor.own_nodes)} NUMA nodes, and memory of another "
            f"node is slow: to compare, keep to one (numactl --cpunodebind={node} "
            f"--membind={node} pytest benchmarks ...)"
        )
    if processor.hypervisor:
        yield (
            f"this is a virtual machine ({processor.hypervisor}), whose processor others may use "
            "too: repeat a run before you believe a difference of a few per cent"
        )


def _on(turbo: bool) -> str:
    return "on" if turbo else "off"
