"""What disturbs the machines of a cluster is told of the right ones."""

from dataclasses import replace

from bertsquad.cluster.observing import DRIVER, Seen, disturbances
from bertsquad.machine.noise import Reading

START = Reading(at_s=0.0, busy_s=0.0, stolen_s=0.0, own_s=0.0, heat=0, held_back_s=0.0)


def seen(machine: str, own_s: float, busy_s: float) -> Seen:
    """Ten seconds of a machine of two processors."""
    return Seen(machine, 2, START, replace(START, at_s=10.0, own_s=own_s, busy_s=busy_s))


def test_nodes_on_one_machine_do_not_disturb_each_other() -> None:
    found = disturbances(
        {
            "127.0.0.2": seen("m", 9.0, 19.0),
            "127.0.0.3": seen("m", 9.0, 19.0),
            DRIVER: seen("m", 0.5, 19.0),
        }
    )

    assert found == {"127.0.0.2": []}


def test_a_stranger_on_one_machine_is_told_of_that_one() -> None:
    found = disturbances(
        {
            "10.0.0.1": seen("a", 19.0, 19.5),
            "10.0.0.2": seen("b", 12.0, 19.0),
            DRIVER: seen("c", 1.0, 1.2),
        }
    )

    assert [len(found[name]) for name in ("10.0.0.1", "10.0.0.2", DRIVER)] == [0, 1, 0]
    assert "35%" in found["10.0.0.2"][0].matter


def test_a_machine_that_counts_nothing_is_not_told_of() -> None:
    assert disturbances({"a": replace(seen("m", 0, 9), after=None)}) == {"a": []}
