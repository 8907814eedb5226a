from dataclasses import replace
from typing import Any

from made import performance

from bertsquad.results.machines import labels, machine_of
from bertsquad.results.result import Result


def on(**facts: Any) -> Result:
    made = performance("offline")
    return replace(made, provenance=made.provenance | facts)


def test_machines_of_one_name_and_make_are_told_apart() -> None:
    one, other = (on(machine="node", machine_id=digits) for digits in ("0a", "0b"))
    assert machine_of(one) == machine_of(on(machine="node", machine_id="0a"))
    assert machine_of(one) != machine_of(other)


def test_a_machine_with_other_cores_is_another_one() -> None:
    few, many = (on(machine="node", machine_id="0a", cores=cores) for cores in (1, 2))
    assert machine_of(few) != machine_of(many)
    assert str(machine_of(few)).endswith("1 core)")


def test_a_result_of_before_has_a_machine_too() -> None:
    made = on(cpu="Xeon", cores=2)
    facts = {key: made.provenance[key] for key in made.provenance if "machine" not in key}
    assert str(machine_of(replace(made, provenance=facts))) == "Xeon, 2 cores"


def test_a_machine_is_called_by_what_tells_it_from_the_others() -> None:
    facts = (
        ("a", "0a", 2),
        ("b", "0b", 2),
        ("c", "0c", 2),
        ("c", "0d", 2),
        ("d", "1", 2),
        ("d", "1", 4),
    )
    machines = [
        machine_of(on(machine=name, machine_id=digits, cpu="Xeon", cores=cores))
        for name, digits, cores in facts
    ]
    assert list(labels(machines).values()) == [
        *("a", "b", "c (Xeon, 2 cores), 0c", "c (Xeon, 2 cores), 0d"),
        *("d (Xeon, 2 cores)", "d (Xeon, 4 cores)"),
    ]
    old = machine_of(on(cpu="Xeon", cores=2))
    assert labels([old, machines[0]])[old] == "Xeon, 2 cores"
