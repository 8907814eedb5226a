"""The system under test: LoadGen issues queries here, the engine answers them.

LoadGen aborts the process when a callback raises, so nothing escapes from one: the first error is
kept, all that is outstanding or still comes is completed with empty responses, and the worker
raises the error once the run has ended.
"""

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import mlperf_loadgen as lg
import numpy as np
from numpy.typing import NDArray

from bertsquad import batching
from bertsquad.engines import Engine
from bertsquad.features import Features

#: A pause before each empty response after an error: LoadGen can't be stopped, and would spin.
_PAUSE_S = 0.05

Failing = Callable[[BaseException], None]


def effective_lengths(engine: Engine, features: Features) -> NDArray[np.int64]:
    """The tokens that each sample costs: its own, or the model's fixed length."""
    if engine.fixed_length is None:
        return features.lengths
    return np.full(len(features), engine.fixed_length, np.int64)


def infer(engine: Engine, features: Features, samples: Sequence[int]) -> list[NDArray[np.float32]]:
    """The logits of `samples`, each float32 [its length, 2]: one batch, if the model allows."""
    size = engine.fixed_batch or len(samples)
    answers: list[NDArray[np.float32]] = []
    for start in range(0, len(samples), size):
        chunk = list(samples[start : start + size])
        filled = chunk + chunk[-1:] * (size - len(chunk))
        logits = engine.logits(*features.batch(filled, engine.fixed_length))
        answers += [
            logits[row, : features.offsets[sample + 1] - features.offsets[sample]]
            for row, sample in enumerate(chunk)
        ]
    return answers


class Sut:
    """Answers the queries of one run by calling `answer(samples)`, in the way of its scenario.

    `latencies_ns` collects what one query (in Server and Offline: one sample) took from its issue
    to its completion, by this side's clock.
    """

    def __init__(self, engine: Engine, features: Features, failing: Failing) -> None:
        """`failing` is told the first error when it comes."""
        self._engine = engine
        self._features = features
        self._failing = failing
        self._lock = threading.Lock()
        self._issued_ns: dict[int, int] = {}  # outstanding samples, by LoadGen's id
        self._lengths = effective_lengths(engine, features)
        self.error: BaseException | None = None
        self.latencies_ns = array("q")
        self.handle = lg.ConstructSUT(self._receive, self._flush)

    def close(self) -> None:
        """Give LoadGen's handle back."""
        lg.DestroySUT(self.handle)

    def answer(self, query: Sequence[Any]) -> None:
        """Answer one query of LoadGen; overridden by scenario."""
        raise NotImplementedError

    def _flush(self) -> None:
        """LoadGen has issued its last query; nothing is held back here, so nothing is due."""

    def _receive(self, query: Sequence[Any]) -> None:
        now = time.perf_counter_ns()
        with self._lock:
            self._issued_ns.update((sample.id, now) for sample in query)
        if self.error is None:
            try:
                self.answer(query)
            except BaseException as error:  # LoadGen would abort the process
                self.fail(error)
        else:
            time.sleep(_PAUSE_S)
            self._complete_empty()

    def fail(self, error: BaseException) -> None:
        """Keep the first error and leave no query without a response."""
        if self.error is None:
            self.error = error
            self._failing(error)
        self._complete_empty()

    def _complete_empty(self) -> None:
        with self._lock:
            ids = list(self._issued_ns)
            self._issued_ns.clear()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(id_, 0, 0) for id_ in ids])

    def run_batch(self, batch: Sequence[Any]) -> tuple[int, int]:
        """Infer and complete LoadGen's samples `batch`; when issued (first) and completed, ns."""
        samples = [sample.index for sample in batch]
        logits = infer(self._engine, self._features, samples)
        # `logits` owns the buffers and outlives QuerySamplesComplete, which copies what it logs.
        responses = [
            lg.QuerySampleResponse(sample.id, one.__array_interface__["data"][0], one.nbytes)
            for sample, one in zip(batch, logits, strict=True)
        ]
        with self._lock:
            issued = [self._issued_ns.pop(sample.id) for sample in batch]
        completed = time.perf_counter_ns()
        lg.QuerySamplesComplete(responses)
        return min(issued), completed


class StreamSut(Sut):
    """SingleStream and MultiStream: answer in LoadGen's own thread, one batch a query."""

    def answer(self, query: Sequence[Any]) -> None:
        """Complete the whole query at once; its latency is that of its last sample."""
        issued, completed = self.run_batch(query)
        self.latencies_ns.append(completed - issued)


class OfflineSut(Sut):
    """Offline: sort the one query by length and cut it into batches."""

    def answer(self, query: Sequence[Any]) -> None:
        """Answer the longest samples first."""
        lengths = self._lengths[[sample.index for sample in query]]
        for positions in batching.by_length(lengths, batching.BATCH_TOKENS):
            issued, completed = self.run_batch([query[position] for position in positions])
            self.latencies_ns.extend([completed - issued] * len(positions))


class ServerSut(Sut):
    """Server: a thread of its own takes from what waits, as `batching.next_batch` decides."""

    def __init__(
        self,
        engine: Engine,
        features: Features,
        failing: Failing,
        cost: batching.Cost,
        bound_s: float,
    ) -> None:
        """`cost` and the latency bound `bound_s` are what the batcher plans with."""
        super().__init__(engine, features, failing)
        self._cost = cost
        self._bound_s = bound_s
        self._waiting: deque[tuple[Any, float]] = deque()
        self._arrived = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, then give LoadGen's handle back."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
        self._thread.join()
        super().close()

    def answer(self, query: Sequence[Any]) -> None:
        """Leave the samples to the thread."""
        deadline = time.monotonic() + self._bound_s
        with self._arrived:
            self._waiting.extend((sample, deadline) for sample in query)
            self._arrived.notify()

    def _serve(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch = self._take()
            try:
                issued_before = [self._issued_ns[sample.id] for sample in batch]
                _, completed = self.run_batch(batch)
                self.latencies_ns.extend(completed - issued for issued in issued_before)
            except BaseException as error:  # the thread must live to complete the rest
                with self._arrived:
                    self._waiting.clear()
                self.fail(error)

    def _take(self) -> list[Any]:
        """Remove the next batch from what waits."""
        count = min(len(self._waiting), batching.LOOKAHEAD)
        oldest = [self._waiting[i] for i in range(count)]
        positions = batching.next_batch(
            [int(self._lengths[sample.index]) for sample, _ in oldest],
            [deadline for _, deadline in oldest],
            time.monotonic(),
            self._cost,
        )
        taken = set(positions)
        for _ in oldest:
            self._waiting.popleft()
        self._waiting.extendleft(
            reversed([entry for i, entry in enumerate(oldest) if i not in taken])
        )
        return [oldest[position][0] for position in positions]
