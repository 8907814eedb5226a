"""The actors of Ray that live on the nodes, and what they answer: only here Ray's errors are known.

Only the worker process imports this module, and only for a cluster.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertsquad.cluster.connection import Listed
from bertsquad.cluster.node import Node
from bertsquad.cluster.watchdog import SILENT_S, Watchdog
from bertsquad.errors import SuiteError, Unavailable

#: Seconds that an actor may take until it answers for the first time.
START_S = 60.0
#: Seconds between two looks who has answered.
LOOK_S = 0.5
#: Calls that an actor answers beside batches: pings and questions, which must not wait for those.
CONTROL = 4

#: Why a silent node counts as lost, in a clause.
SILENCE = f"it answered nothing for {SILENT_S:g} s"

#: What Ray says of an actor whose class can't be imported.
_NO_SUITE = re.compile("failed to import on the worker|No module named 'bertsquad")


class NodeLost(SuiteError):
    """The node called `name` was lost for a `cause` while it was asked something.

    A `silent` one may still be listed by Ray, but an actor on it would be waited for in vain.
    """

    def __init__(self, name: str, cause: str, silent: bool = False) -> None:
        super().__init__(f"node {name} was lost outside of a run: {cause}; run the case again")
        self.name, self.cause, self.silent = name, cause, silent


@dataclass(frozen=True)
class NodeActor:
    """A node, by Ray's id and by the `name` that people know, and the actor on it."""

    id: str
    name: str
    actor: Any

    def call(self, method: str) -> Callable[..., Any]:
        """How to ask a question of the actor, which gets an answer while batches run."""
        asked = getattr(self.actor, method).options(concurrency_group="control").remote
        return asked  # type: ignore[no-any-return]


def begin(ray: Any, listed: Listed, name: str, instances: int | None) -> NodeActor:
    """An actor on a node, which has all of the node's CPUs and GPUs.

    It has threads for two calls of each of so many `instances`, None for as many as there can be.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    calls = 2 * max(1, instances or int(max(listed.cpus, listed.gpus)))
    there = ray.remote(
        num_cpus=listed.cpus,
        num_gpus=listed.gpus,
        max_restarts=0,
        max_task_retries=0,
        concurrency_groups={"control": CONTROL, "batches": calls},
    )(Node)
    place = NodeAffinitySchedulingStrategy(listed.id, soft=False)
    actor = there.options(scheduling_strategy=place).remote(max(1, int(listed.cpus)))
    return NodeActor(listed.id, name, actor)


def begun(ray: Any, asked: Mapping[NodeActor, Any]) -> dict[str, Any]:
    """What new actors answer to their first question, by their names.

    Raises what a node raises, with its name before it, NodeLost, or SuiteError for a node that
    didn't answer in time.
    """
    references = list(asked.values())
    ready, _ = ray.wait(references, num_returns=len(references), timeout=START_S)
    for node, reference in asked.items():
        if reference not in ready:
            raise SuiteError(
                f"node {node.name} didn't start within {START_S:g} s: is it busy with other work "
                "of the cluster, or cut off? free it, or leave it out"
            )
    return {node.name: _answer(ray, node, reference) for node, reference in asked.items()}


def answers(ray: Any, asked: Mapping[NodeActor, Any]) -> dict[str, Any]:
    """What the nodes answer, by their names; `asked` holds what was asked of each.

    They are pinged meanwhile, which they answer while they load a model, too. Raises what a node
    raises, with its name before it, or NodeLost for one that was lost or is silent.
    """
    nodes = list(asked)
    dog = Watchdog(range(len(nodes)), time.monotonic())
    pending = {reference: place for place, reference in enumerate(asked.values())}
    pinged: dict[Any, int] = {}
    while pending:
        ready, _ = ray.wait([*pending, *pinged], num_returns=1, timeout=LOOK_S)
        now = time.monotonic()
        for reference in ready:
            if (place := pending.pop(reference, None)) is not None:
                dog.gone(place)  # nothing more is expected of it here
            else:
                dog.heard(pinged.pop(reference), now)
        for place in dog.silent(now):
            raise NodeLost(nodes[place].name, SILENCE, silent=True)
        for place in dog.to_ping(now):
            pinged[nodes[place].call("ping")()] = place
    return {node.name: _answer(ray, node, reference) for node, reference in asked.items()}


def _answer(ray: Any, node: NodeActor, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except Exception as error:
        raise named(ray, error, node.name) from None


def named(ray: Any, error: BaseException, name: str) -> SuiteError:
    """The error of a node's answer as one for people, with the node's name."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        if isinstance(cause, Unavailable):
            return Unavailable(f"node {name}: {cause}", cause.subject)
        return SuiteError(f"node {name}: {cause}")
    if _NO_SUITE.search(str(error)):
        return Unavailable(
            f"node {name} can't load this suite: pip install the same version of it there, for the "
            "Python that runs `ray start`",
            "cluster",
        )
    return NodeLost(name, cause_of(ray, error))


def is_own(ray: Any, error: BaseException) -> bool:
    """Whether an answer is an error of the model, and not of the node."""
    return isinstance(error, ray.exceptions.RayTaskError)


def cause_of(ray: Any, error: BaseException) -> str:
    """Why a node was lost, by the error that Ray gives, in a clause."""
    kinds = ray.exceptions
    if isinstance(error, kinds.OutOfMemoryError):
        return "its memory ran out"
    if isinstance(error, kinds.NodeDiedError):
        return "Ray's process on it ended"
    if isinstance(error, kinds.ActorUnavailableError):
        return "the connection to it broke"
    if isinstance(error, kinds.RayActorError):
        return "its process ended"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"Ray says {first}"


def end(ray: Any, nodes: Sequence[NodeActor]) -> None:
    """End actors, whether their nodes are there or not."""
    for node in nodes:
        ray.kill(node.actor)
