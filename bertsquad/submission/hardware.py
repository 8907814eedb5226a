"""The hardware of a node of the system that is submitted, which must be the same for all nodes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from bertsquad.devices import GPUS
from bertsquad.results.result import Result

#: Of machines that are built alike, firmware and kernel keep unlike parts of the memory.
MEMORY_TOLERANCE = 0.05


@dataclass(frozen=True)
class Hardware:
    """What one node has. `cores` are those that it may use, `gpus` those that it used."""

    cpu: str
    sockets: int
    physical_cores: int
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    operating_system: str

    def with_first_gpu(self) -> "Hardware":
        """The same as if it had used no GPU but the first."""
        return replace(self, gpus=self.gpus[:1])

    def differences(self, other: "Hardware") -> Iterator[tuple[str, object, object]]:
        """Where another node is unlike this one: what, here and there. Its system may differ."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(other, field.name)
            if field.name == "memory_bytes":
                unlike = abs(here - there) > MEMORY_TOLERANCE * max(here, there)
            else:
                unlike = field.name != "operating_system" and here != there
            if unlike:
                yield field.name, here, there


def of_nodes(result: Result) -> list[Hardware]:
    """The hardware of each node; of the one machine where there was no cluster."""
    if result.nodes:
        return [_hardware(vars(node), node.gpus) for node in result.nodes]
    facts = result.provenance
    return [_hardware(facts, facts["gpus"] if result.device in GPUS else ())]


def _hardware(facts: Mapping[str, Any], gpus: Sequence[str]) -> Hardware:
    """That of a node or a machine, which say most of it by the same names."""
    known = {field.name: facts[field.name] for field in fields(Hardware) if field.name != "gpus"}
    return Hardware(**known, gpus=tuple(gpus))


def unlike(result: Result) -> str | None:
    """Which node is unlike the first and how, in a clause; None where all are alike.

    A system description has one kind of node.
    """
    first, *others = of_nodes(result)
    for node, hardware in zip(result.nodes[1:], others, strict=True):
        for key, here, there in first.differences(hardware):
            names = f"node {node.node} has {_said(there)} as {key}"
            return f"{names}, but {_said(here)} on node {result.nodes[0].node}"
    return None


def shared(result: Result) -> str | None:
    """Which nodes are one machine, in a clause; None where each is a machine of its own."""
    for machine, count in Counter(node.machine for node in result.nodes).items():
        if count > 1:
            names = [node.node for node in result.nodes if node.machine == machine]
            return f"its nodes {' and '.join(names[:2])} are one machine"
    return None


def _said(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
