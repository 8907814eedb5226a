"""The system under test: LoadGen issues queries here, the engine answers them.

LoadGen aborts the process when a callback raises, so a callback never does. The first error is kept
instead, every open query is completed with empty responses, and so are those that still come. The
error is raised once the run has ended.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import mlperf_loadgen as lg

from bertsquad.loadgen import batching
from bertsquad.loadgen.timeline import Recording, Timeline
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.inference import effective_lengths, infer, pin, side_by_side
from bertsquad.squad.features import Features

#: A pause before each empty response after an error: LoadGen can't be stopped, and would spin.
_PAUSE_S = 0.05

Failing = Callable[[BaseException], None]


class Sut:
    """Answers the queries of one run; each scenario has its own `answer`.

    `timeline` says when each query was answered. `answered` counts the samples until now, and
    `expected` all of the run where one query holds them (Offline).
    """

    def __init__(self, engine: Engine, features: Features, failing: Failing) -> None:
        """`failing` is told the first error when it comes."""
        self._engine = engine
        self._features = features
        self._failing = failing
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._issued_ns: dict[int, int] = {}  # outstanding samples, by LoadGen's id
        self._lengths = effective_lengths(engine, features)
        self.error: BaseException | None = None
        #: Called where LoadGen reads its clock: at each query and each completion.
        self.look: Callable[[], object] = lambda: None
        self.answered = 0
        self.expected: int | None = None
        self._recording = Recording()
        self.handle = lg.ConstructSUT(self._receive, self._flush)

    def close(self) -> None:
        """Give LoadGen's handle back."""
        self._over.set()
        lg.DestroySUT(self.handle)

    @property
    def timeline(self) -> Timeline:
        """What was answered until now."""
        with self._lock:
            return self._recording.timeline()

    def answer(self, query: Sequence[Any]) -> None:
        """Answer one query of LoadGen; overridden by scenario."""
        raise NotImplementedError

    def _flush(self) -> None:
        """LoadGen has issued its last query. No query is held back here, so nothing is to do."""

    def _receive(self, query: Sequence[Any]) -> None:
        now = time.perf_counter_ns()
        self.look()
        with self._lock:
            self._issued_ns.update((sample.id, now) for sample in query)
        if self.error is None:
            try:
                self.answer(query)
            except BaseException as error:  # LoadGen would abort the process
                self.fail(error)
        else:
            self._over.wait(_PAUSE_S)
            self._complete_empty()

    def fail(self, error: BaseException) -> None:
        """Keep the first error and leave no query without a response."""
        with self._lock:
            first, self.error = self.error is None, self.error or error
        if first:
            self._failing(error)
        self._complete_empty()

    def _complete_empty(self) -> None:
        with self._lock:
            ids = list(self._issued_ns)
            self._issued_ns.clear()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(id_, 0, 0) for id_ in ids])

    def run_batch(self, batch: Sequence[Any], instance: int = 0) -> None:
        """Calculate and complete the samples of a batch, and record when."""
        samples = [sample.index for sample in batch]
        started = time.perf_counter_ns()
        logits = infer(self._engine, self._features, samples, instance)
        # `logits` owns the buffers and outlives QuerySamplesComplete, which copies what it logs.
        responses = [
            lg.QuerySampleResponse(sample.id, one.__array_interface__["data"][0], one.nbytes)
            for sample, one in zip(batch, logits, strict=True)
        ]
        with self._lock:
            issued = [self._issued_ns.pop(sample.id, None) for sample in batch]
        if None in issued:
            return  # another instance failed, and all that was outstanding is completed
        before = time.perf_counter_ns()
        lg.QuerySamplesComplete(responses)
        # LoadGen reads its clock somewhere within the call, which takes some 20 us.
        completed = (before + time.perf_counter_ns()) // 2
        self.look()
        tokens = sum(len(one) for one in logits)
        padded = len(samples) * int(self._lengths[samples].max())
        with self._lock:
            recording = self._recording
            recording.issued_ns.extend(one for one in issued if one is not None)
            recording.completed_ns.extend([completed] * len(batch))
            recording.batch_started_ns.append(started)
            recording.batch_completed_ns.append(completed)
            recording.batch_samples.append(len(batch))
            recording.batch_tokens.append(tokens)
            recording.batch_padded_tokens.append(padded)
            self.answered += len(batch)


class StreamSut(Sut):
    """SingleStream and MultiStream: answer in LoadGen's own thread."""

    def __init__(
        self, engine: Engine, features: Features, failing: Failing, cost: batching.Cost | None
    ) -> None:
        """`cost` decides how a query of several samples is cut into batches."""
        super().__init__(engine, features, failing)
        self._cost = cost
        self._unpin: Callable[[], None] | None = None

    def close(self) -> None:
        """Give LoadGen's thread back as it was, and its handle."""
        if self._unpin is not None:
            self._unpin()
        super().close()

    def answer(self, query: Sequence[Any]) -> None:
        """Complete the query, in one batch or several."""
        if self._unpin is None:
            self._unpin = pin(self._engine.parallelism.cpus(0))
        batches = [list(query)]
        if len(query) > 1 and self._cost is not None:
            lengths = [int(self._lengths[sample.index]) for sample in query]
            batches = [
                [query[position] for position in positions]
                for positions in batching.soonest(lengths, self._cost, self._engine.batch_tokens)
            ]
        for batch in batches:
            self.run_batch(batch)
        with self._lock:  # LoadGen times the query as a whole: its last sample stands for it
            for column in (self._recording.issued_ns, self._recording.completed_ns):
                del column[-len(query) : -1]


class OfflineSut(Sut):
    """Offline: sort the one query by length, cut it into batches and share them out."""

    def answer(self, query: Sequence[Any]) -> None:
        """Answer the longest samples first."""
        self.expected = len(query)
        engine = self._engine
        lengths = self._lengths[[sample.index for sample in query]]
        batches = iter(
            batching.by_length(lengths, engine.batch_tokens, engine.most_samples, engine.instances)
        )

        def work(instance: int) -> None:
            while self.error is None:
                with self._lock:
                    positions = next(batches, None)
                if positions is None:
                    return
                try:
                    self.run_batch([query[position] for position in positions], instance)
                except BaseException as error:  # at once, so that the others stop
                    self.fail(error)

        side_by_side(engine, work)


class ServerSut(Sut):
    """Server: each instance's thread takes waiting samples, as `batching.next_batch` decides."""

    def __init__(
        self,
        engine: Engine,
        features: Features,
        failing: Failing,
        cost: batching.Cost,
        bound_s: float,
    ) -> None:
        """Batches are planned with `cost` and the latency bound `bound_s`."""
        super().__init__(engine, features, failing)
        self._cost = cost
        self._bound_s = bound_s
        self._waiting: deque[tuple[Any, float]] = deque()
        self._arrived = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(
            target=side_by_side, args=(engine, self._serve), name="server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the threads of the instances, then give LoadGen's handle back."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        self._thread.join()
        super().close()

    def answer(self, query: Sequence[Any]) -> None:
        """Leave the samples to the threads of the instances."""
        deadline = time.monotonic() + self._bound_s
        with self._arrived:
            self._waiting.extend((sample, deadline) for sample in query)
            self._arrived.notify()

    def _serve(self, instance: int) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch = self._take()
            try:
                self.run_batch(batch, instance)
            except BaseException as error:  # it must live to complete the rest
                with self._arrived:
                    self._waiting.clear()
                self.fail(error)

    def _take(self) -> list[Any]:
        """Remove the next batch from what waits."""
        count = min(len(self._waiting), batching.LOOKAHEAD)
        oldest = [self._waiting.popleft() for _ in range(count)]
        positions = batching.next_batch(
            [int(self._lengths[sample.index]) for sample, _ in oldest],
            [deadline for _, deadline in oldest],
            time.monotonic(),
            self._cost,
            self._engine.batch_tokens,
        )
        taken = set(positions)
        for position in reversed(range(count)):  # the others wait on, in their order
            if position not in taken:
                self._waiting.appendleft(oldest[position])
        return [oldest[position][0] for position in positions]
