"""Which results are of one machine: only those make one history."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bertsquad.machine import hardware, identity
from bertsquad.results.result import Result


@dataclass(frozen=True)
class Machine:
    """A machine that ran cases: its name, what it calculates with, and what tells it from others.

    Two that are equal are one.
    """

    name: str
    hardware: str
    identity: str

    def __str__(self) -> str:
        """As `node7 (AMD EPYC 9654 96-Core Processor, 8 cores)`."""
        return f"{self.name} ({self.hardware})" if self.name else self.hardware


def machine_of(result: Result) -> Machine:
    """The machine of a result, or on a cluster the one that drove it.

    With other cores it is another one. Results of before have no identity of a machine: there, what
    the hardware is has to do.
    """
    return _of_facts(result.provenance)


def this_machine() -> Machine:
    """The machine that results have which are made now."""
    facts = {"machine": identity.name(), "machine_id": identity.identity()}
    return _of_facts(facts | {"cpu": hardware.cpu_name(), "cores": hardware.cores()})


def _of_facts(facts: Mapping[str, Any]) -> Machine:
    cpu, cores = str(facts.get("cpu") or "unknown processor"), facts.get("cores") or 1
    made_of = f"{cpu}, {cores} core{'' if cores == 1 else 's'}"
    return Machine(str(facts.get("machine") or ""), made_of, str(facts.get("machine_id") or ""))


def labels(machines: Collection[Machine]) -> dict[Machine, str]:
    """What to call each of some machines: by its name alone where no other has it too."""
    names, wholes = Counter(one.name for one in machines), Counter(map(str, machines))
    found = {}
    for one in machines:
        found[one] = str(one) if wholes[str(one)] == 1 else f"{one}, {one.identity or 'unnamed'}"
        if one.name and names[one.name] == 1:
            found[one] = one.name
    return found
