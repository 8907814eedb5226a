"""What a driver of a cluster costs, measured in a driver of its own, which `tools/scaling.py` runs.

    python tools/scaling_driver.py SLEEPERS BATCHES LATENCY_S < SETUP

SETUP is a worker's Setup as a line of JSON; what was measured is a line of JSON, too.

- added latency: the way of a batch to a node and back, with one in flight, less the seconds for
  which it was calculated there
- driver CPU: that of this process while LoadGen runs Offline over SLEEPERS nodes that only sleep,
  in calls of a small batch, of a batch, and of several, as many as the ledger gives
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is loaded, which reports otherwise

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ceilings import run_loadgen

from bertsquad.cluster import actors, wire
from bertsquad.cluster.actors import CONTROL, NodeActor
from bertsquad.cluster.connection import connect, members
from bertsquad.cluster.facts import NodeFacts
from bertsquad.cluster.fleet import Fleet
from bertsquad.cluster.node import EngineWanted, Node
from bertsquad.cluster.shipping import Parcel
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.loadgen import batching
from bertsquad.loadgen.sut import OfflineSut
from bertsquad.models.calibration import Calibration, calibrate_with
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.progress import unseen
from bertsquad.runtime.engine import batch_tokens
from bertsquad.runtime.inference import Answer, Work
from bertsquad.runtime.sessions import open_on_cpu
from bertsquad.squad import features
from bertsquad.squad.features import Features
from bertsquad.worker import protocol
from bertsquad.worker.protocol import Setup

#: Seconds for which a sleeping node sleeps for a batch: so short that the driver is the limit.
SLEEP_S = 0.002
#: The tokens of a small batch: one sample, or two.
SMALL_TOKENS = 384
#: Batches whose latency doesn't count, since something is done for the first time, and those that
#: do at least.
WARM, LEAST = 3, 10


class SleepingNode(Node):
    """A node whose batches take a time, but nothing of the machine."""

    def __init__(self) -> None:
        super().__init__(1)
        self._turn = threading.Lock()

    def lacks(self, parcel: Parcel) -> bool:
        """It needs no model."""
        return False

    def open(self, wanted: EngineWanted, name: str) -> NodeFacts:
        """One instance."""
        texts = dict.fromkeys(
            ("host", "machine", "cpu", "operating_system", "source", "provider", "proof"), ""
        )
        numbers = dict.fromkeys(
            ("cores", "physical_cores", "sockets", "memory_bytes", "instances", "threads"), 1
        )
        facts: dict[str, Any] = {**texts, **numbers, "cpu_quota": None, "gpus": [], "versions": {}}
        return NodeFacts(node=name, batch_tokens=wanted.batch_tokens, **facts)

    def answer(self, data: bytes) -> bytes:
        """Sleep, then answer zeros."""
        inputs, sizes, _ = wire.read_call(data)
        with self._turn:
            time.sleep(SLEEP_S * len(sizes))
        return wire.answer(np.zeros((len(inputs.tokens), 2), np.float32), [SLEEP_S] * len(sizes))


class CountingSut(OfflineSut):
    """Offline that counts the calls that were answered."""

    calls = 0

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """A call's answers come together."""
        self.calls += 1
        super().complete(answers, node)


class SingleSut(CountingSut):
    """Offline with one batch in flight, and so one a call."""

    in_flight = 1


class Alone:
    """A source with one batch in flight of all nodes, for so many seconds.

    `added_s` holds what each batch took beyond the seconds for which it was calculated.
    """

    in_flight = 1

    def __init__(self, batches: Iterator[Sequence[int]], budget_s: float) -> None:
        self._batches = batches
        self._until = time.perf_counter() + budget_s
        self._state = threading.Condition()
        self._out: float | None = None
        self.added_s: list[float] = []
        self.error: BaseException | None = None

    def take(self) -> Work | None:
        """The next batch, once the one before is back."""
        with self._state:
            self._state.wait_for(lambda: self._out is None or self.error)
            batch = next(self._batches, None)
            over = len(self.added_s) >= WARM + LEAST and time.perf_counter() > self._until
            if self.error or batch is None or over:
                return None
            self._out = time.perf_counter()
            return Work(batch)

    def more(self, most: int) -> list[Work]:
        """None."""
        return []

    def waiting(self) -> int:
        """As if there were many, since which node is free doesn't matter."""
        return 1000

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """Note what it took."""
        now = time.perf_counter()
        with self._state:
            assert self._out is not None
            self.added_s.append(now - self._out - answers[0].seconds)
            self._out = None
            self._state.notify_all()

    def put_back(self, works: Sequence[Work]) -> None:
        """A node was lost, which isn't measured here."""
        self.fail(SuiteError("a node was lost while latencies were measured: run again"))

    def fail(self, error: BaseException) -> None:
        """Measure no more."""
        with self._state:
            self.error = self.error or error
            self._state.notify_all()


def added_latency(fleet: Fleet, data: Features, budget_s: float) -> list[float]:
    """What the way to a node and back adds to each of many batches, in seconds."""
    batches = list(batching.by_length(data.lengths, fleet.batch_tokens, fleet.most_samples))
    fleet.warm_up(data, batches[-1])
    source = Alone(iter(batches * 1000), budget_s)
    fleet.spread(data, source)
    if source.error is not None:
        raise source.error
    return source.added_s[WARM:]


def costs(fleet: Fleet, data: Features, batches: int) -> list[dict[str, Any]]:
    """What the driver does for calls of a small batch, of one, and of several."""
    found = []
    whole = fleet.batch_tokens
    for name, tokens, sut_of in (
        ("warm-up", whole, SingleSut),
        ("a small batch", SMALL_TOKENS, SingleSut),
        ("a batch", whole, SingleSut),
        ("several batches", whole, CountingSut),
    ):
        fleet.batch_tokens = tokens
        mean = data.lengths.mean()
        samples = int(batches * max(1, tokens // mean)) // (4 if name == "warm-up" else 1)
        sut = sut_of(fleet, data, lambda error: None)
        before = time.process_time()
        run_loadgen(sut, "offline", len(data), samples)
        cpu_s, timeline = time.process_time() - before, sut.timeline
        done = len(timeline.batch_samples)
        found.append(
            {
                "calls_of": name,
                "calls": sut.calls,
                "batches": done,
                "samples": int(timeline.batch_samples.sum()),
                "cpu_s": cpu_s,
                "batches_per_s": done / timeline.duration_s,
            }
        )
    return found[1:]


def prepared_as(setup: Setup) -> Prepared:
    """The model as the worker prepares it."""

    def calibration() -> Calibration:
        assert not isinstance(setup.calibration, str)
        return calibrate_with(setup.calibration)

    return prepare(
        setup.model,
        setup.device,
        setup.precision,
        partial(open_on_cpu, threads=setup.threads),
        calibration,
        unseen,
        setup.reads,
    )


def asleep(ray: Any, count: int) -> list[NodeActor]:
    """Nodes that sleep, and the actors that they are."""
    kind = ray.remote(num_cpus=0, concurrency_groups={"control": CONTROL, "batches": 2})
    made = [kind(SleepingNode).remote() for _ in range(count)]
    nodes = [NodeActor(str(place), f"sleeper {place}", one) for place, one in enumerate(made)]
    actors.begun(ray, {one: one.call("ping")() for one in nodes})
    return nodes


def measure(setup: Setup, sleepers: int, batches: int, latency_s: float) -> dict[str, Any]:
    """Everything, as JSON can hold it."""
    assert setup.cluster is not None
    ray = connect(setup.cluster)
    data = features.load(Path(setup.features))
    device = DEVICES[setup.device]
    wanted = EngineWanted(
        *(prepared_as(setup), setup.device, setup.precision, "offline"),
        batch_tokens(device, setup.reads.longest),
    )
    nodes = [actors.begin(ray, one, f"{one.address} {one.id[:8]}", None) for one in members(ray)]
    added_s = added_latency(Fleet(ray, nodes, wanted, unseen), data, latency_s)
    actors.end(ray, nodes)
    return {
        "added_latency_s": added_s,
        "costs": costs(Fleet(ray, asleep(ray, sleepers), wanted, unseen), data, batches),
    }


def main() -> int:
    """Read the setup, measure, and print."""
    sleepers, batches, latency_s = sys.argv[1:]
    try:
        setup = protocol.decode(sys.stdin.readline())
        found = measure(setup, int(sleepers), int(batches), float(latency_s))
    except SuiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
