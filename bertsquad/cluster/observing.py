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
from bertsquad.cluster.facts import NodeFacts, Observation
from bertsquad.cluster.node import Counted
from bertsquad.machine import hardware, noise
from bertsquad.machine.noise import Disturbance, Reading

#: Seconds after which a wait for a device is told.
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
) -> Iterator[Observation]:
    """Observe the machines for as long as the context lasts.

    Where a `device` is given, every machine has it to itself meanwhile; `tell` gets a sentence if
    that takes a wait. That of the driver's own machine is held by the pytest process.
    """
    result = Observation()
    own = hardware.machine_id()
    first: dict[str, NodeActor] = {}
    for node, facts in nodes:
        first.setdefault(facts.machine, node)
    first.pop(own, None)
    holders = list(first.values()) if device is not None else []
    try:
        unlocked = _hold(ray, holders, device, tell) if device is not None else []
        before, here = _counted(ray, nodes), noise.read()
        yield result
        after, seen = _counted(ray, nodes), {}
        for node, facts in nodes:
            if (then := before.get(node.name)) and (now := after.get(node.name)):
                seen[node.name] = Seen(facts.machine, now.processors, then.reading, now.reading)
                result.peak_memory_bytes[node.name] = now.peak_memory_bytes
        seen[DRIVER] = Seen(own, os.cpu_count() or 1, here, noise.read())
        result.disturbances |= disturbances(seen)
        for name in unlocked:
            result.disturbances.setdefault(name, []).append(UNLOCKED)
    finally:
        for node in holders:
            node.call("release_device")()


#: What is said of a node whose device can't be locked.
UNLOCKED = Disturbance(
    "its device can't be locked, so another run may have used it too",
    "see there that no other run measures",
)


def _hold(
    ray: Any, nodes: Sequence[NodeActor], device: str, tell: Callable[[str], object]
) -> list[str]:
    """Have every node wait until it has its device for itself; those that can't lock it."""
    asked = {node: node.call("hold_device")(device) for node in nodes}
    if asked:
        _, busy = ray.wait(list(asked.values()), num_returns=len(asked), timeout=POLL_S)
        for node, reference in asked.items():
            if reference in busy:
                tell(f"another run measures on node {node.name}: waiting for its end")
    return [name for name, locked in actors.answers(ray, asked).items() if not locked]


#: Seconds that a node may take to say what it has counted.
_COUNTING_S = 5.0


def _counted(ray: Any, nodes: Sequence[tuple[NodeActor, NodeFacts]]) -> dict[str, Counted]:
    """What each node has counted, by its name; those that are lost are missing."""
    asked = {node.name: node.call("counted")() for node, _ in nodes}
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_COUNTING_S)
    found = {}
    for name, reference in asked.items():
        if reference in ready:
            with contextlib.suppress(ray.exceptions.RayError):
                found[name] = ray.get(reference)
    return found
