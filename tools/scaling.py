"""What nodes bring, and what they cost: the suite with them and without, by turns in one run.

    python tools/scaling.py --cluster local:2 --json scaling.json --plot scaling.svg

In every round come, for 1 node, 2 nodes and so on: the suite on as many cores without a cluster,
then the nodes, each as a worker of its own that runs Offline under LoadGen. A cluster on this
machine (`local:N`) is started anew each time, with as many cores as it has nodes' worth. Figures
are medians over the rounds. Further parts, of which `--without` leaves some out:

- start: how long `local:N` takes to come and to go, and the memory that it takes
- server: latencies of Server on one core and on one node
- halved: the share of ideal where one node stands still for half of the time
- costs: added latency, and the driver's CPU time for a call (`scaling_driver.py`)
- losses: after how long the loss of a node is noticed, and whether all answers are as without

All but `costs` are for `local:N`. A projection to more nodes follows from the costs
(`scaling_projection.py`). `--instances N` compares 1 to N instances of this machine instead: cores,
or GPUs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import scaling_projection as projection
from ceilings import select, stratified
from scaling_processes import LOSSES
from scaling_runs import Bench, Ran
from scaling_table import figures, table

from bertsquad.cluster import address
from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.files import write_whole
from bertsquad.machine import hardware, provenance
from bertsquad.models import zoo
from bertsquad.squad import datasets, features
from bertsquad.squad.datasets import DATASETS
from bertsquad.worker.protocol import Setup

PARTS = ("start", "server", "halved", "costs", "losses")
#: Sleeping nodes of the part `costs`, and batches that they answer; seconds for latencies.
SLEEPERS, BATCHES, LATENCY_S = 8, 3000, 20.0


@dataclass
class Count:
    """So many nodes: the rates of the suite on as many cores, and of the nodes, round by round."""

    nodes: int
    suite: list[float] = field(default_factory=list)
    cluster: list[float] = field(default_factory=list)


class Scaling:
    """The rounds, and what was found in them."""

    def __init__(self, bench: Bench, nodes: int, given: argparse.Namespace) -> None:
        self._bench = bench
        self._given = given
        self._own = given.cluster.local is not None
        self._parts = [part for part in PARTS if part not in given.without]
        self.counts = [Count(number) for number in range(1, nodes + 1)]
        self.parts: dict[str, list[Any]] = {part: [] for part in PARTS}
        self.one: Ran | None = None  # the latest run on one node
        self._rate, self._round = 0.0, "warming up"

    def _tell(self, what: str) -> None:
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} {self._round}: {what}", file=sys.stderr)

    def measure(self) -> None:
        """All rounds, after a run that warms up and finds out how fast one core is."""
        self._rate = self._bench.offline(1, self._given.seconds / 4, None).samples_per_s
        for number in range(self._given.rounds):
            self._round = f"round {number + 1} of {self._given.rounds}"
            for count in self.counts:
                # By turns first, so that a machine that gets slower favours neither.
                for step in (self._suite, self._cluster)[:: -1 if number % 2 else 1]:
                    step(count)
            if "start" in self._parts and self._own:
                self._tell("start")
                self.parts["start"].append(self._bench.start(len(self.counts)))
            if "losses" in self._parts and self._own and len(self.counts) > 1:
                self._losses()

    def _suite(self, count: Count) -> None:
        if not self._bench.has_cores(count.nodes):
            return
        rate, seconds = self._rate * count.nodes, self._given.seconds
        self._tell(f"suite, cores of {count.nodes} nodes")
        count.suite.append(self._bench.offline(count.nodes, seconds, rate).samples_per_s)
        if count.nodes == 1 and "server" in self._parts and self._own:
            found = self._bench.server(1, seconds, self._rate / 2)
            self.parts["server"].append({"suite": found})

    def _cluster(self, count: Count) -> None:
        """The nodes; and the parts that take a whole cluster, in the same one."""
        seconds, last = self._given.seconds, count is self.counts[-1]
        with self._bench.joined(self._given.cluster, count.nodes) as membership:
            rate = self._rate * count.nodes
            self._tell(f"{count.nodes} nodes")
            ran = self._bench.offline(count.nodes, seconds, rate, membership)
            count.cluster.append(ran.samples_per_s)
            if count.nodes == 1:
                self.one = ran
                if "server" in self._parts and self._own:
                    found = self._bench.server(1, seconds, self._rate / 2, membership)
                    self.parts["server"].append({"cluster": found})
            elif last and "halved" in self._parts and self._own:
                self._tell("halved")
                one = self.counts[0].cluster[-1]
                share = self._bench.halved(count.nodes, seconds, one, membership)
                self.parts["halved"].append(share)
            if last and "costs" in self._parts:
                self._tell("costs")
                numbers = SLEEPERS, BATCHES, self._given.latency_s
                self.parts["costs"].append(self._bench.costs(count.nodes, membership, *numbers))

    def _losses(self) -> None:
        nodes, lost = len(self.counts), {}
        self._tell("losses: none")
        with self._bench.joined(self._given.cluster, nodes) as membership:
            unbroken = self._bench.accuracy(nodes, membership)
        for kind in LOSSES:
            self._tell(f"losses: {kind}")
            lost[kind] = asdict(self._bench.lose(nodes, kind, unbroken))
        self.parts["losses"].append(lost)


def instances(bench: Bench, given: argparse.Namespace) -> list[Count]:
    """From 1 to so many instances of this machine, without a cluster."""
    rate = bench.offline(1, given.seconds / 4, None).samples_per_s
    counts = [Count(number) for number in range(1, given.instances + 1)]
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        for count in counts:
            ran = bench.offline(count.nodes, given.seconds, rate * count.nodes)
            count.cluster.append(ran.samples_per_s)
    return counts


def summarise(counts: Sequence[Count]) -> list[dict[str, Any]]:
    """The medians of each count, and those of its ratios within each round."""
    found = []
    for count in counts:
        pairs = list(zip(count.cluster, count.suite, strict=False))
        shares = [
            rate / (count.nodes * one)
            for rate, one in zip(count.cluster, counts[0].cluster, strict=True)
        ]
        found.append(
            {
                "nodes": count.nodes,
                "samples_per_s": statistics.median(count.cluster),
                "suite_samples_per_s": statistics.median(count.suite) if pairs else None,
                "of_suite": statistics.median(a / b for a, b in pairs) if pairs else None,
                "of_ideal": statistics.median(shares),
                "rounds": count.cluster,
                "suite_rounds": count.suite,
            }
        )
    return found


def seen_costs(rounds: Sequence[dict[str, Any]]) -> list[projection.Seen]:
    """The runs of the part `costs`, for `projection.fit`."""
    return [
        projection.Seen(one["calls"], one["samples"], one["cpu_s"])
        for found in rounds
        for one in found["costs"]
    ]


def projected(scaling: Scaling) -> list[dict[str, Any]]:
    """What more nodes would bring, of the kind that was measured and of others."""
    ran = scaling.one
    if ran is None or not scaling.parts["costs"]:
        return []
    node, batches = ran.measured.nodes[0], ran.measured.batches
    size = node.samples / batches
    rate = statistics.median(scaling.counts[0].cluster)
    kind = projection.Kind("such nodes", node.instances, node.instances * size / rate, size)
    costs = projection.fit(seen_costs(scaling.parts["costs"]))
    return [
        {
            **asdict(one),
            "batches_a_call": projection.batches_a_call(one),
            "points": [asdict(projection.project(costs, one, n)) for n in projection.NODES],
        }
        for one in projection.imagined(kind)
    ]


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that was asked for, as JSON can hold it."""
    model = zoo.find(given.model)
    data = datasets.load(DATASETS[given.dataset])
    chosen = select(data.features, stratified(data.features.lengths, given.samples))
    file = folder / "features.npz"
    features.save(chosen, file)
    calibration: Any = "no calibration data was given"
    if given.precision == "int8":
        calibration = datasets.calibration(DATASETS[given.dataset], data)
    setup = Setup(
        model=zoo.locate(model),
        features=str(file),
        device=given.device,
        precision=given.precision,
        threads=hardware.cores(),
        calibration=calibration,
    )
    found: dict[str, Any] = {
        "what": "instances" if given.instances else "nodes",
        "model": model.name,
        "dataset": given.dataset,
        "device": given.device,
        "precision": given.precision,
        "machine": f"{hardware.cpu_name()}, {hardware.cores()} cores",
        "versions": provenance.versions(),
        "samples": len(chosen),
        "seconds": given.seconds,
        "rounds": given.rounds,
    }
    cores = hardware.cores()
    if given.instances:
        if not DEVICES[given.device].is_gpu and given.instances > cores:
            raise SuiteError(f"--instances {given.instances} wants more than the {cores} cores")
        counts = instances(Bench(setup, len(chosen), 1, folder), given)
        return found | {"counts": summarise(counts), "figures": [], "projection": [], "parts": {}}
    nodes = given.cluster.local
    if nodes is None:
        bench = Bench(setup, len(chosen), cores, folder)
        nodes = bench.count(given.cluster, given.seconds / 4)
    elif nodes > cores:
        raise SuiteError(f"{given.cluster} wants more than the {cores} cores of this machine")
    else:
        bench = Bench(setup, len(chosen), cores // nodes, folder)
    scaling = Scaling(bench, nodes, given)
    scaling.measure()
    parts = {part: seen for part, seen in scaling.parts.items() if seen}
    return found | {
        "counts": summarise(scaling.counts),
        "figures": [asdict(row) for row in figures(scaling.parts, nodes)],
        "disturbances": [asdict(one) for one in bench.disturbances],
        "costs": asdict(projection.fit(seen_costs(parts["costs"]))) if "costs" in parts else None,
        "projection": projected(scaling),
        "parts": parts,
    }


def main() -> int:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", default="local:2", metavar=address.FORMS)
    where.add_argument("--instances", type=int, metavar="N", help="of this machine, instead")
    parser.add_argument("--model", default="minilm", help=f"{', '.join(zoo.MODELS)} or a path")
    parser.add_argument("--dataset", default="squad", choices=list(DATASETS))
    parser.add_argument("--device", default="cpu", choices=list(DEVICES))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each timed run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=PARTS, help="repeatable")
    parser.add_argument("--latency-s", type=float, default=LATENCY_S, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="needs the extra report")
    given = parser.parse_args()
    try:
        given.cluster = address.parse(given.cluster)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(given, Path(folder))
    except SuiteError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    print(table(found))
    if given.json is not None:
        text = json.dumps(found, indent=1)
        write_whole(given.json, lambda file: file.write_text(text, encoding="utf-8"))
    if given.plot is not None:
        projection.draw(found, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
