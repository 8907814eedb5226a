"""Runs by which nodes are compared with the suite without them, each in a worker of its own."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scaling_processes as processes

from bertsquad import typed
from bertsquad.cluster import guardian
from bertsquad.cluster.address import Address
from bertsquad.cluster.local import LocalCluster
from bertsquad.cluster.membership import Membership
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs, timeline
from bertsquad.loadgen.request import Request
from bertsquad.machine import environment, hardware
from bertsquad.machine.noise import Disturbance
from bertsquad.progress import Step
from bertsquad.runtime.parallelism import plan
from bertsquad.worker import protocol
from bertsquad.worker.handle import Worker
from bertsquad.worker.protocol import Measured, Setup

#: Seconds after a run's start at which a node is lost, and those that Ray needs to settle before
#: its memory is read.
STRIKE_S, SETTLING_S = 1.0, 2.0
#: LoadGen expects so much more than it is told.
_LOADGENS_SLACK = 1.1


@dataclass(frozen=True)
class Ran:
    """A run that has ended: what the worker says of it, LoadGen's logs, and where they lie."""

    measured: Measured
    logs: logs.Run

    @property
    def samples_per_s(self) -> float:
        """The rate of an Offline run."""
        return float(self.logs.values["result_samples_per_second"])


@dataclass(frozen=True)
class Lost:
    """A node that was lost in an accuracy run: after how long that was noticed, and what came."""

    noticed_s: float
    cause: str
    each_once: bool
    bit_equal: bool


class Bench:
    """One model over one data set, on one node or more with so many cores each."""

    def __init__(self, setup: Setup, samples: int, cores: int, folder: Path) -> None:
        """`setup` is that of a worker without a cluster."""
        self._setup = setup
        self._samples = samples
        self._cores = cores
        self._folder = folder
        self._cpus = hardware.siblings()
        self._names: tuple[str, ...] = ()  # of the nodes of a cluster that is there
        #: What disturbed all runs until now.
        self.disturbances: list[Disturbance] = []

    @contextlib.contextmanager
    def cluster(self, nodes: int) -> Iterator[LocalCluster]:
        """A cluster of nodes with so many cores each."""
        with_gpus = DEVICES[self._setup.device].is_gpu
        with self._confined(nodes), LocalCluster(nodes, with_gpus=with_gpus) as started:
            yield started

    @contextlib.contextmanager
    def joined(self, cluster: Address, nodes: int) -> Iterator[Membership]:
        """So many nodes of a cluster: of one of their own, or the first ones of what is there."""
        if cluster.local is None:
            yield Membership(cluster.text, only=self._names[:nodes])
        else:
            with self.cluster(nodes) as started:
                yield started.membership()

    def count(self, cluster: Address, seconds: float) -> int:
        """The nodes of a cluster that is there, seen in a run of so many seconds."""
        ran = self.offline(1, seconds, None, Membership(cluster.text))
        self._names = tuple(node.node for node in ran.measured.nodes)
        return len(self._names)

    def has_cores(self, nodes: int) -> bool:
        """Whether this machine has the cores of so many nodes."""
        return nodes * self._cores <= len(self._cpus)

    @contextlib.contextmanager
    def worker(self, nodes: int, membership: Membership | None = None) -> Iterator[Worker]:
        """A worker that has the cores of so many nodes, with them or without."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        with self._confined(nodes):
            made = Worker(folder / "worker.log")
        try:
            made.prepare(replace(self._setup, cluster=membership))
            yield made
        finally:
            made.close()

    @contextlib.contextmanager
    def _confined(self, nodes: int) -> Iterator[None]:
        """Processes that are started meanwhile have the cores of so many nodes alone."""
        before = os.sched_getaffinity(0)
        own = self._cpus[: nodes * self._cores]
        os.sched_setaffinity(0, {cpu for core in own for cpu in core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def run(
        self,
        worker: Worker,
        nodes: int,
        scenario: str = "offline",
        mode: str = "performance",
        at_start: Callable[[], object] = lambda: None,
        **others: Any,
    ) -> Ran:
        """One run; `at_start` is called, in this thread, once LoadGen has begun."""
        folder = tempfile.mkdtemp(dir=self._folder)
        with self._confined(nodes):
            device, cores = self._setup.device, hardware.cores()
            shape = plan(scenario, device, cores, None, None, hardware.owned_cpus())
        request = Request(
            scenario, mode, "quick", folder, self._samples, parallelism=shape, **others
        )
        begun = False

        def hear(message: object) -> None:
            nonlocal begun
            if isinstance(message, Step) and message.name == "running" and not begun:
                begun = True
                at_start()

        measured = worker.run(request, on_message=hear)
        self.disturbances += measured.disturbances
        self.disturbances += (one for node in measured.nodes for one in node.disturbances)
        return Ran(measured, logs.read_run(Path(folder)))

    def offline(
        self, nodes: int, seconds: float, rate: float | None, membership: Membership | None = None
    ) -> Ran:
        """A timed Offline run that lasts so long at `rate` samples/s, None for a probed one."""
        with self.worker(nodes, membership) as worker:
            return self._offline(worker, nodes, seconds, rate)

    def _offline(
        self,
        worker: Worker,
        nodes: int,
        seconds: float,
        rate: float | None,
        at_start: Callable[[], object] = lambda: None,
    ) -> Ran:
        target = rate and rate / _LOADGENS_SLACK
        return self.run(worker, nodes, at_start=at_start, target_qps=target, min_duration_s=seconds)

    def halved(self, nodes: int, seconds: float, rate: float, membership: Membership) -> float:
        """The share of ideal of nodes of which the last stands still for half of the time.

        `rate` is that of one node.
        """
        with self.worker(nodes, membership) as worker:
            last = guardian.host(nodes - 1)
            with processes.Slowed(lambda: processes.actors_of(processes.of_node(last))) as slowed:
                ran = self._offline(worker, nodes, seconds, rate * (nodes - 0.5), slowed.begin)
        return ran.samples_per_s / (rate * (nodes - 1 + slowed.share))

    def accuracy(self, nodes: int, membership: Membership) -> dict[int, Any]:
        """The logits of an unbroken accuracy run."""
        with self.worker(nodes, membership) as worker:
            return logs.read_accuracy_log(self.run(worker, nodes, mode="accuracy").logs.folder)

    def lose(self, nodes: int, kind: str, unbroken: dict[int, Any]) -> Lost:
        """Lose the last node during an accuracy run, which is compared with an `unbroken` one."""
        struck: list[float] = []
        address = guardian.host(nodes - 1)
        timer = threading.Timer(STRIKE_S, lambda: struck.append(processes.strike(address, kind)))
        with self.cluster(nodes) as started:
            membership = started.membership()
            with self.worker(nodes, membership) as worker:
                ran = self.run(worker, nodes, mode="accuracy", at_start=timer.start)
            timer.join()
        if not ran.measured.nodes_lost:
            raise SuiteError(
                f"the run ended before the loss of a node ({kind}) was noticed: give more --samples"
            )
        loss = ran.measured.nodes_lost[0]
        folder = ran.logs.folder
        began_s = int(timeline.load(folder).issued_ns.min()) / 1e9
        responses = logs.read_responses(folder)
        answers = dict(responses)
        return Lost(
            noticed_s=began_s + loss.second - struck[0],
            cause=loss.cause,
            each_once=len(responses) == len(answers) == self._samples,
            bit_equal=answers.keys() == unbroken.keys()
            and all(np.array_equal(one, unbroken[sample]) for sample, one in answers.items()),
        )

    def start(self, nodes: int) -> dict[str, float]:
        """How long a cluster takes to be up and to be gone, and the memory that it takes.

        That is with an actor on each node, but without a model.
        """
        began = time.perf_counter()
        with self.cluster(nodes) as started:
            up = time.perf_counter()
            membership = started.membership()
            with self.worker(nodes, membership):
                time.sleep(SETTLING_S)
                hosts = map(guardian.host, range(nodes))
                memory = sum(processes.memory_bytes(processes.of_node(one)) for one in hosts)
            ending = time.perf_counter()
        gone = time.perf_counter()
        return {"up_s": up - began, "down_s": gone - ending, "memory_bytes": memory}

    def costs(
        self, nodes: int, membership: Membership, sleepers: int, batches: int, latency_s: float
    ) -> dict[str, Any]:
        """What `tools/scaling_driver.py` measures."""
        setup = replace(self._setup, cluster=membership)
        numbers = map(str, (sleepers, batches, latency_s))
        with self._confined(nodes):
            done = subprocess.run(
                [sys.executable, str(Path(__file__).with_name("scaling_driver.py")), *numbers],
                input=protocol.encode(setup),
                env=environment.of_child(),
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
        if done.returncode:
            raise SuiteError((done.stderr.strip().splitlines() or ["the driver ended"])[-1])
        found: dict[str, Any] = typed.parse(done.stdout.strip().splitlines()[-1])
        return found

    def server(
        self, nodes: int, seconds: float, rate: float, membership: Membership | None = None
    ) -> dict[str, float]:
        """Server's latencies at `rate` queries a second."""
        with self.worker(nodes, membership) as worker:
            ran = self.run(worker, nodes, "server", target_qps=rate, min_duration_s=seconds)
        found = {f"p{percentile}_ms": ran.logs.latency_ms(percentile) for percentile in (50, 99)}
        return {key: value for key, value in found.items() if value is not None}
