from dataclasses import replace
from typing import Any

from made import performance

from bertsquad.results.machines import machine_of
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
