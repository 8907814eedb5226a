"""What is advised: only what can be changed, with the way to do it."""

import pytest

from bertsquad.machine import tuning
from bertsquad.machine.processor import Processor

ALL = ("AVX2", "AVX-512", "VNNI", "BF16", "AMX")
QUIET = Processor(
    instruction_sets=ALL,
    threads_per_core=1,
    numa_nodes=2,
    own_nodes=(1,),
    governor="performance",
    turbo=False,
    turbo_switch="/sys/devices/system/cpu/cpufreq/boost",
    hypervisor="",
    container="docker",
)


def of(**changed: object) -> Processor:
    return Processor(**{**vars(QUIET), **changed})


def test_a_machine_that_is_set_up_well_needs_no_advice() -> None:
    assert tuning.advice(QUIET, quota=8.0, cores=8) == []


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        (
            of(instruction_sets=("AVX2",), lacking=ALL[1:]),
            "no VNNI (with AVX2 alone 29.9 QPS were seen in int8 and in fp32)",
        ),
        (
            of(instruction_sets=("NEON",), lacking=("DotProd", "I8MM")),
            "int8 may gain nothing here",
        ),
        (of(governor="powersave"), "cpupower frequency-set -g performance"),
        (of(governor="performance, schedutil"), "the governor is performance, schedutil, "),
        (of(turbo=True), "(echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost)"),
        (
            of(turbo=True, turbo_switch="/sys/devices/system/cpu/intel_pstate/no_turbo"),
            "(echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo)",
        ),
        (of(threads_per_core=2), "SMT is on, 2 threads a core"),
        (of(own_nodes=(2, 3)), "numactl --cpunodebind=2 --membind=2 pytest benchmarks"),
        (of(hypervisor="KVM"), "this is a virtual machine (KVM)"),
    ],
)
def test_each_fault_has_a_sentence_of_its_own(processor: Processor, told: str) -> None:
    (sentence,) = tuning.advice(processor)
    assert told in sentence
    assert "\n" not in sentence


def test_without_avx2_both_are_said() -> None:
    told = tuning.advice(of(instruction_sets=(), lacking=ALL))
    assert [sentence.partition(":")[0] for sentence in told] == [
        "this processor has no AVX2, which ONNX Runtime's fast products need",
        "int8 gains nothing here",
    ]


def test_amx_wants_openvino_and_nothing_else_does() -> None:
    (sentence,) = tuning.advice(QUIET, openvino=False)
    assert "pip install -e '.[openvino]'" in sentence
    assert tuning.advice(of(instruction_sets=ALL[:4], lacking=("AMX",)), openvino=False) == []


@pytest.mark.parametrize(("quota", "cores", "told"), [(1.5, 2, True), (2.0, 2, False)])
def test_a_quota_below_the_cores_is_told(quota: float, cores: int, told: bool) -> None:
    sentences = tuning.advice(QUIET, quota, cores)
    assert [f"a quota gives this process {quota:g} of {cores}" in one for one in sentences] == (
        [True] if told else []
    )


def test_a_container_wants_a_name_for_its_history() -> None:
    (sentence,) = tuning.advice(QUIET, is_named=False)
    assert "set BERTSQUAD_MACHINE=NAME" in sentence
    assert tuning.advice(of(container=""), is_named=False) == []


def test_all_that_is_known_is_told_in_full_and_what_is_not_too() -> None:
    assert dict(tuning.in_full(of(lacking=(), threads_per_core=2, turbo=None), 1.5)) == {
        "instruction sets": "AVX2, AVX-512, VNNI, BF16, AMX",
        "SMT": "on, 2 threads a core",
        "NUMA nodes": "2",
        "governor": "performance",
        "turbo": "unknown",
        "CPU quota": "1.5 CPUs",
        "hypervisor": "none",
        "container": "docker",
    }
    old = of(instruction_sets=(), lacking=("AVX2",))
    assert dict(tuning.in_full(old))["instruction sets"] == "none of those that matter (not AVX2)"
