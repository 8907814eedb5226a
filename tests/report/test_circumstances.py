"""On what runs were made is told in words, and what nobody said is not called none."""

from dataclasses import replace

from made import performance

from bertsquad.report.circumstances import environments


def test_the_processor_of_a_run_is_told_and_what_the_system_did_not_say_is_unknown() -> None:
    made = performance()
    facts = {
        "instruction_sets": ["AVX2", "VNNI"],
        "threads_per_core": 2,
        "numa_nodes": None,
        "governor": None,
        "turbo": True,
        "hypervisor": "",
        "container": "docker",
    }
    table = environments([replace(made, provenance={**made.provenance, **facts})])
    told = {row[0]: row[1] for row in table.rows}
    assert told["instruction sets"] == "AVX2; VNNI"
    assert told["threads per core"] == "2"
    assert told["turbo"] == "yes"
    assert told["governor"] == told["numa nodes"] == "unknown"
    assert told["hypervisor"] == told["cpu quota"] == "none"
    assert told["container"] == "docker"
    old = {row[0]: row[1] for row in environments([made]).rows}
    assert old["turbo"] == "unknown"
