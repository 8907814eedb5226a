"""What the nodes of a cluster mean for a result: their losses, their noise, their hardware."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bertsquad.cluster.facts import Loss, NodeRun
from bertsquad.machine.noise import Disturbance
from bertsquad.results.result import FAILED, Result, Verdict

#: What to do about a node that was lost.
CURE = "see to that node, let it join the cluster again, and run the case again"

#: So many losses are named in a sentence.
_MOST_NAMED = 3


def told(lost: Sequence[Loss]) -> str:
    """The losses in a clause, each with its node, second and cause."""
    more = [f"{len(lost) - _MOST_NAMED:,} more were lost"] if len(lost) > _MOST_NAMED else []
    return "; ".join([*map(str, lost[:_MOST_NAMED]), *more])


def judge(verdict: Verdict, began: int, lost: Sequence[Loss], what: str) -> Verdict:
    """The verdict on a timed run that so many nodes began: one that lost any of them fails.

    LoadGen doesn't know of nodes, and may call it VALID.
    """
    if not lost:
        return verdict
    return Verdict(FAILED, f"{told(lost)}; so this is no figure of {began} nodes ({what})")


def noise(nodes: Sequence[NodeRun]) -> list[Disturbance]:
    """What disturbed a run on each of its nodes, which the matter names."""
    return [
        replace(one, matter=f"node {node.node}: {one.matter}")
        for node in nodes
        for one in node.disturbances
    ]


def redone(lost: Sequence[Loss]) -> list[Disturbance]:
    """The losses of an accuracy run, whose answers are whole in spite of them."""
    again = "what it had not answered was calculated on other nodes"
    return [Disturbance(f"{one}; {again}", CURE) for one in lost]


def fewer(began: int, started: int | None) -> list[Disturbance]:
    """That fewer nodes began a run than had been started on this machine; None: nobody did that."""
    if started is None or began >= started:
        return []
    matter = f"{began} of {started} nodes began it, since others had been lost before"
    return [Disturbance(matter, "run pytest again, which starts all of them anew")]


def machines(result: Result) -> str:
    """What a result was made on, in a few words: the processor, or those of all nodes."""
    if not result.nodes:
        return str(result.provenance.get("cpu", ""))
    counts = Counter(node.cpu for node in result.nodes)
    return ", ".join(f"{count} x {cpu}" for cpu, count in counts.items())


def physical_cores(result: Result) -> int | None:
    """The physical cores of all machines of a result; None where that isn't known."""
    if result.nodes:  # of nodes that share a machine it is the same cores
        return sum({node.machine: node.physical_cores for node in result.nodes}.values())
    cores = result.provenance.get("physical_cores")
    return cores if isinstance(cores, int) else None
