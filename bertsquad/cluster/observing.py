"""What disturbs the machines of a cluster during a run, and the right to their devices.

Only the worker process imports this module, and only for a cluster.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertsquad.cluster import actors
from bertsquad.cluster.actors import NodeActor
from bertsquad.cluster.facts import NodeFacts
from bertsquad.machine import hardware, noise
from bertsquad.machine.noise import Disturbance, Reading

#: Seconds between two looks whether a node's device has become free.
POLL_S = 1.0

#: A reading of the driver's own process goes by this name.
DRIVER = ""


@dataclass(frozen=True)
class Seen:
    """What one process counted on its machine before and after a run."""

    machine: str
    processors: int
    before: Reading | None
    after: Reading | None


def disturbances(seen: Mapping[str, Seen]) -> dict[str, list[Disturbance]]:
    """What disturbed each machine, under the name of the first of its nodes.

    The processes of the run on one machine are no strangers to each other. That of the driver goes
    by DRIVER where no node shares its machine.
    """
    machines: dict[str, list[str]] = {}
    for name in sorted(seen, key=lambda one: one == DRIVER):  # the driver last
        machines.setdefault(seen[name].machine, []).append(name)
    found = {}
    for names in machines.values():
        here = [seen[name] for name in names]
        before = noise.together([one.before for one in here])
        after = noise.together([one.after for one in here])
        found[names[0]] = noise.disturbances(before, after, here[0].processors)
    return found


@contextlib.contextmanager
def observed(
    ray: Any,
    nodes: Sequence[tuple[NodeActor, NodeFacts]],
    device: str | None,
    tell: Callable[[str], object],
) -> Iterator[dict[str, list[Disturbance]]]:
    """Observe the machines for as long as the context lasts; what is given is filled at its end.

    Where a `device` is given, every machine has it to itself meanwhile; `tell` gets a sentence if
    that takes a wait. That of the driver's own machine is held by the pytest process.
    """
    result: dict[str, list[Disturbance]] = {}
    own = hardware.machine_id()
    first: dict[str, NodeActor] = {}
    for node, facts in nodes:
        first.setdefault(facts.machine, node)
    first.pop(own, None)
    if device is not None:
        _hold(ray, list(first.values()), device, tell)
    try:
        before = _read(ray, nodes)
        before_here = noise.read()
        yield result
        after, after_here = _read(ray, nodes), noise.read()
        seen = {
            node.name: Seen(facts.machine, processors, before[node.name][0], after[node.name][0])
            for node, facts in nodes
            if node.name in before and node.name in after
            for processors in (after[node.name][1],)
        }
        seen[DRIVER] = Seen(own, os.cpu_count() or 1, before_here, after_here)
        result |= disturbances(seen)
    finally:
        for node in first.values() if device is not None else ():
            node.call("release_device")()


def _hold(ray: Any, nodes: Sequence[NodeActor], device: str, tell: Callable[[str], object]) -> None:
    """Have every node wait until it has its device for itself."""
    waiting = {one.name: one.call("hold_device")(device) for one in nodes}
    told: set[str] = set()
    while waiting:
        ready, _ = ray.wait(list(waiting.values()), num_returns=len(waiting), timeout=POLL_S)
        for name, reference in list(waiting.items()):
            if reference in ready:
                for said in actors.answers(ray, {name: waiting.pop(name)})[name]:
                    tell(f"node {name}: {said}")
            elif name not in told:
                told.add(name)
                tell(f"another run measures on node {name}: waiting for its end")


#: Seconds that a node may take to say what it has counted.
_READING_S = 5.0


def _read(
    ray: Any, nodes: Sequence[tuple[NodeActor, NodeFacts]]
) -> dict[str, tuple[Reading | None, int]]:
    """What each node has counted, by its name; those that are lost are missing."""
    asked = {node.name: node.call("reading")() for node, _ in nodes}
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_READING_S)
    found = {}
    for name, reference in asked.items():
        if reference in ready:
            with contextlib.suppress(ray.exceptions.RayError):
                found[name] = ray.get(reference)
    return found
