"""A short measurement before the clock starts, so that nobody has to guess LoadGen's targets.

Only the worker process imports this module.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np

from bertsquad.errors import BoundUnattainable
from bertsquad.loadgen import batching
from bertsquad.loadgen.request import Request, Targets, server_bound_ms
from bertsquad.progress import Show, Step, unseen
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.inference import effective_lengths, infer, side_by_side
from bertsquad.squad.features import Features

#: How many seconds a measurement lasts, by the rules of the run, and how many batches it runs at
#: least. Before a run of ten minutes it lasts longer, so that short noise sets no wrong target.
PROBE_S = {"quick": 0.7, "mlperf": 7.0}
PROBE_BATCHES = 3

#: Seconds that measuring the cost of batches takes at most.
COST_S = 2.0

#: LoadGen prepares as many queries as it expects, and a run that has no more is INVALID. So the
#: probe expects more: it raises rates and lowers latencies by this share.
SLACK = 0.15


class Probe:
    """Measures an engine on the first `samples` windows of a data set."""

    def __init__(self, engine: Engine, features: Features, samples: int) -> None:
        self._engine = engine
        self._features = features
        self._lengths = effective_lengths(engine, features)[:samples]
        self._cost: batching.Cost | None = None

    def warm_up(self, show: Show = unseen) -> None:
        """Run samples of all lengths, alone and in batches."""
        order = np.argsort(self._lengths)
        spread = np.linspace(0, len(order) - 1, 4).astype(int)
        batches = [([int(order[position])], 0) for position in spread]
        for batch in self._offline_batches(16):
            batches += [(batch, instance) for instance in range(self._engine.instances)]
        for done, (batch, instance) in enumerate(batches):
            show(Step("warming up", done, len(batches), "batches"))
            self._seconds(batch, instance)

    def targets(self, request: Request) -> Targets:
        """What LoadGen should expect of this engine; BoundUnattainable where no rate is honest."""
        if request.scenario == "offline":
            rate = self._rate(self._offline_batches(len(self._lengths)), PROBE_S[request.rules])
            return Targets(rate * (1 + SLACK), None, "probe")
        if request.scenario == "server":
            bound_ms = server_bound_ms(request)
            per_cent = request.conf.get("target_latency_percentile", 99)
            sustained = batching.sustainable_rate(
                self._lengths,
                bound_ms / 1e3,
                self.cost(),
                self._engine.batch_tokens,
                self._engine.instances,
                per_cent / 100,
            )
            if sustained is None:
                alone = self.cost()(1, int(np.quantile(self._lengths, per_cent / 100))) * 1e3
                raise BoundUnattainable(
                    f"a long query takes {alone:.0f} ms here even when it never waits, so "
                    f"{per_cent:g} % within {bound_ms:g} ms can't be kept at any rate "
                    "(--target-qps runs it all the same)"
                )
            return Targets(sustained, bound_ms, "probe")
        queries = self._random_batches(request.samples_per_query, 64)
        fastest = min(self._measure(queries, PROBE_S[request.rules]))
        return Targets(None, fastest * 1e3 * (1 - SLACK), "probe")

    def cost(self) -> batching.Cost:
        """How long batches of different sizes take, measured at the first call."""
        if self._cost is None:
            batches = [batch for size in (1, 1, 2, 4) for batch in self._random_batches(size, 12)]
            np.random.default_rng(1).shuffle(batches)
            seconds = self._measure(batches, COST_S)
            tokens = [len(batch) * int(self._lengths[batch].max()) for batch in batches]
            self._cost = batching.Cost.fit(list(zip(tokens, seconds, strict=False)))
        return self._cost

    def _seconds(self, batch: Sequence[int], instance: int = 0) -> float:
        start = time.perf_counter()
        infer(self._engine, self._features, batch, instance)
        return time.perf_counter() - start

    def _rate(self, batches: Sequence[Sequence[int]], budget_s: float) -> float:
        """Samples a second of all instances, over as many of `batches` as the time allows."""
        lock = threading.Lock()
        left = iter(batches)
        begun = done = 0
        start = time.perf_counter()

        def work(instance: int) -> None:
            nonlocal begun, done
            while True:
                with lock:
                    batch = next(left, None)
                    enough = begun >= PROBE_BATCHES and time.perf_counter() - start > budget_s
                    if batch is None or enough:
                        return
                    begun += 1
                self._seconds(batch, instance)
                with lock:
                    done += len(batch)

        side_by_side(self._engine, work)
        return done / (time.perf_counter() - start)

    def _measure(self, batches: Sequence[Sequence[int]], budget_s: float) -> list[float]:
        """The seconds that the first of `batches` took, as many as fit into `budget_s`."""
        seconds: list[float] = []
        for batch in batches:
            seconds.append(self._seconds(batch))
            if sum(seconds) > budget_s and len(seconds) >= PROBE_BATCHES:
                break
        return seconds

    def _random_batches(self, size: int, count: int) -> list[list[int]]:
        drawn = np.random.default_rng(0).integers(0, len(self._lengths), (count, size))
        return [batch.tolist() for batch in drawn]

    def _offline_batches(self, limit: int) -> list[list[int]]:
        """Offline's batches of up to `limit` samples spread over the lengths, in random order."""
        order = np.argsort(self._lengths, kind="stable")
        count = min(limit, len(order))
        chosen = order[np.linspace(0, len(order) - 1, count).astype(int)]
        batches = [
            chosen[positions].tolist()
            for positions in batching.by_length(
                self._lengths[chosen], self._engine.batch_tokens, self._engine.most_samples
            )
        ]
        np.random.default_rng(0).shuffle(batches)
        return batches
