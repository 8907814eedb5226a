"""A short measurement before the clock starts, so that nobody has to guess LoadGen's targets.

Only the worker process imports this module.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from bertsquad.errors import BoundUnattainable
from bertsquad.loadgen import batching
from bertsquad.loadgen.request import Request, Targets, server_bound_ms
from bertsquad.progress import Show, Step, unseen
from bertsquad.runtime.inference import Answer, Backend, Work, effective_lengths
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
    """Measures a backend on the first `samples` windows of a data set."""

    def __init__(self, backend: Backend, features: Features, samples: int) -> None:
        self._backend = backend
        self._features = features
        self._lengths = effective_lengths(backend, features)[:samples]
        self._cost: batching.Cost | None = None

    def warm_up(self, show: Show = unseen) -> None:
        """Run samples of all lengths, alone and in batches."""
        order = np.argsort(self._lengths)
        spread = np.linspace(0, len(order) - 1, 4).astype(int)
        alone = [[int(order[position])] for position in spread]
        together = self._offline_batches(16)
        for done, batch in enumerate(alone + together):
            show(Step("warming up", done, len(alone + together), "batches"))
            if done < len(alone):
                self._seconds(batch)
            else:
                self._backend.warm_up(self._features, batch)

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
                self._backend.batch_tokens,
                self._backend.instances,
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
            seconds = self._measure(batches, COST_S, self._backend.instances)
            tokens = [len(batch) * int(self._lengths[batch].max()) for batch in batches]
            self._cost = batching.Cost.fit(list(zip(tokens, seconds, strict=False)))
        return self._cost

    def _seconds(self, batch: Sequence[int], instance: int = 0) -> float:
        start = time.perf_counter()
        self._backend.infer(self._features, batch, instance)
        return time.perf_counter() - start

    def _rate(self, batches: Sequence[Sequence[int]], budget_s: float) -> float:
        """Samples a second of all instances, over as many of `batches` as the time allows."""
        trial = _Trial(batches, budget_s)
        start = time.perf_counter()
        self._backend.spread(self._features, trial)
        if trial.error is not None:
            raise trial.error
        return trial.done / (time.perf_counter() - start)

    def _measure(
        self, batches: Sequence[Sequence[int]], budget_s: float, instances: int = 1
    ) -> list[float]:
        """The seconds that the first of `batches` took, as many as fit into `budget_s`.

        They are shared out among `instances`, which may be on unlike nodes.
        """
        seconds: list[float] = []
        for number, batch in enumerate(batches):
            seconds.append(self._seconds(batch, number % instances))
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
                self._lengths[chosen], self._backend.batch_tokens, self._backend.most_samples
            )
        ]
        np.random.default_rng(0).shuffle(batches)
        return batches


class _Trial:
    """As many of some batches as can be begun in a time, but PROBE_BATCHES at least.

    `done` counts the samples that were answered.
    """

    in_flight = 2  # as in Offline, whose rate it is for

    def __init__(self, batches: Sequence[Sequence[int]], budget_s: float) -> None:
        self._left = deque(map(Work, batches))
        self._until = time.perf_counter() + budget_s
        self._state = threading.Condition()
        self._begun = self._ended = self.done = 0
        self.error: BaseException | None = None

    def take(self) -> Work | None:
        """The next batch while there is time; then None, once all that was begun has ended."""
        with self._state:
            self._state.wait_for(lambda: self._open() or self.error or self._begun == self._ended)
            return self._pop() if self._open() and self.error is None else None

    def more(self, most: int) -> list[Work]:
        """The batches that follow, while there is time."""
        with self._state:
            return [self._pop() for _ in range(most) if self._open()]

    def waiting(self) -> int:
        """The batches that nobody has."""
        return len(self._left)

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """Count the samples."""
        with self._state:
            self._ended += len(answers)
            self.done += sum(len(answer.work.samples) for answer in answers)
            self._state.notify_all()

    def put_back(self, works: Sequence[Work]) -> None:
        """Have others calculate `works` next, if there is time."""
        with self._state:
            self._begun -= len(works)
            self._left.extendleft(reversed(works))
            self._state.notify_all()

    def fail(self, error: BaseException) -> None:
        """Keep the first error, and begin no more."""
        with self._state:
            self.error = self.error or error
            self._state.notify_all()

    def _open(self) -> bool:
        """Whether another batch is to be begun."""
        in_time = self._begun < PROBE_BATCHES or time.perf_counter() <= self._until
        return bool(self._left) and in_time

    def _pop(self) -> Work:
        self._begun += 1
        return self._left.popleft()
