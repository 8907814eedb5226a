from typing import Any

from made import performance, provenance

from bertsquad.results.archive import Archive, Lost
from bertsquad.results.document import time_of
from bertsquad.results.machines import machine_of
from bertsquad.results.newest import lines, newest_of
from bertsquad.results.result import FAILED, Result


def night_on(machine: str, day: int, qps: float, **changes: Any) -> Result:
    facts = provenance(day, machine=machine, machine_id=f"{machine} id")
    return performance(day=day, qps=qps, provenance=facts, **changes)


def test_the_table_has_a_part_for_each_machine() -> None:
    read = Archive([night_on("a", 1, 30.0), night_on("b", 2, 50.0)])
    told = [line for line, _ in lines(read)]
    at = [told.index(f"On {name}:") for name in "ab"]
    assert ["30.00" in line for line in told[at[0] : at[1]]].count(True) == 1
    assert not any("30.00" in line for line in told[at[1] :])


def test_the_table_of_one_machine_does_not_name_it() -> None:
    told = [line for line, _ in lines(Archive([night_on("a", 1, 30.0), night_on("a", 2, 31.0)]))]
    assert not [line for line in told if "On a" in line]


def test_a_failed_run_takes_the_place_of_its_machines_result_alone() -> None:
    a, b = night_on("a", 1, 30.0), night_on("b", 1, 50.0)
    lost = Lost(a.case, a.mode, FAILED, "gone", "x", time_of("2026-11-02"), machine_of(a))
    assert newest_of(Archive([a, b], [lost])) == [b, lost]
    anywhere = Lost(a.case, a.mode, FAILED, "gone", "x", time_of("2026-11-02"))
    assert newest_of(Archive([a, b], [anywhere])) == [anywhere]
