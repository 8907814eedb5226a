"""How many nodes one driver can feed, from what its calls were measured to cost; and the plot.

The driver's work on a call is hidden behind the batches that nodes calculate meanwhile, as long as
all of it together takes less than the run. So a cluster answers as much as its nodes can, or as
much as one core of the driver can send and take, whichever is less. The driver's process has
several threads, so that this is rather too little than too much; the network counts for nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertsquad.cluster.ledger import CALL_S, SHORT_S

#: Numbers of nodes that are projected.
NODES = tuple(2**power for power in range(11))


@dataclass(frozen=True)
class Seen:
    """What the driver did in a run: its calls, their samples, and the seconds of CPU time."""

    calls: int
    samples: int
    cpu_s: float


@dataclass(frozen=True)
class Costs:
    """The driver's CPU time, in seconds: for each call, and for each sample in it."""

    call_s: float
    sample_s: float


@dataclass(frozen=True)
class Kind:
    """A kind of node: `instances` that each take `batch_s` for a batch of so many samples."""

    label: str
    instances: int
    batch_s: float
    batch_samples: float


@dataclass(frozen=True)
class Projected:
    """What so many nodes answer, and the share of what they could if the driver cost nothing."""

    nodes: int
    samples_per_s: float
    share: float


def fit(seen: Sequence[Seen]) -> Costs:
    """The costs by which all runs are told best, none below 0."""
    rows = np.array([[one.calls, one.samples] for one in seen], float)
    times = np.array([one.cpu_s for one in seen])
    weights = 1 / times  # so that each run counts alike, however long it was
    found, *_ = np.linalg.lstsq(rows * weights[:, None], times * weights, rcond=None)
    if found.min() < 0:  # then all is put down to what is left
        kept = int(found.argmax())
        found = np.zeros(2)
        found[kept] = float((times / rows[:, kept]).mean())
    return Costs(float(found[0]), float(found[1]))


def batches_a_call(kind: Kind) -> int:
    """How many batches a call has, by the rule of `bertsquad/cluster/ledger.py`."""
    return 1 if kind.batch_s >= SHORT_S else max(1, int(CALL_S / kind.batch_s))


def project(costs: Costs, kind: Kind, nodes: int) -> Projected:
    """What `nodes` of a kind answer with one driver."""
    ideal = nodes * kind.instances * kind.batch_samples / kind.batch_s
    samples = batches_a_call(kind) * kind.batch_samples
    most = samples / (costs.call_s + samples * costs.sample_s)
    return Projected(nodes, min(ideal, most), min(1.0, most / ideal))


def imagined(measured: Kind) -> list[Kind]:
    """The nodes that were measured, larger ones of the same cores, and GPUs of which is assumed."""
    return [
        measured,
        Kind("64 such cores", 64, measured.batch_s, measured.batch_samples),
        Kind("8 GPUs, each 64 samples in 20 ms", 8, 0.02, 64),
    ]


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Plot what was measured, and what is projected if it is; needs the extra `report`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    projected = found.get("projection", [])
    measured, *others = figure.subplots(1, 2 if projected else 1, squeeze=False)[0]
    counts = found["counts"]
    nodes = [one["nodes"] for one in counts]
    ideal = [one["nodes"] * counts[0]["samples_per_s"] for one in counts]
    measured.plot(nodes, ideal, color="0.7", label="ideal")
    suite = [(one["nodes"], one["suite_samples_per_s"]) for one in counts]
    suite = [(number, rate) for number, rate in suite if rate is not None]
    if suite:
        measured.plot(*zip(*suite, strict=True), "s", color="0.5", label="suite, as many cores")
    measured.plot(nodes, [one["samples_per_s"] for one in counts], "o-", label=found["what"])
    measured.set(xlabel=found["what"], ylabel="samples/s", xticks=nodes, ylim=(0, None))
    measured.set_title(f"measured: {found['model']}, {found['precision']}", fontsize="medium")
    measured.legend(frameon=False)
    for axes in others:
        for one in projected:
            shares = [(point["nodes"], point["share"]) for point in one["points"]]
            axes.semilogx(*zip(*shares, strict=True), base=2, label=one["label"])
        axes.set(xlabel="nodes", ylabel="share of ideal", ylim=(0, 1.05))
        axes.set_title("projected from the driver's costs", fontsize="medium")
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
