"""The system under test: LoadGen issues queries here, a backend answers them.

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
from bertsquad.runtime.inference import Answer, Backend, Work, effective_lengths, pin
from bertsquad.squad.features import Features

#: A pause before each empty response after an error: LoadGen can't be stopped, and would spin.
_PAUSE_S = 0.05

Failing = Callable[[BaseException], None]


class Sut:
    """Answers the queries of one run; each scenario has its own `answer`.

    `timeline` says when each query was answered. `answered` counts the samples until now, and
    `expected` all of the run where one query holds them (Offline).
    """

    def __init__(self, backend: Backend, features: Features, failing: Failing) -> None:
        """`failing` is told the first error when it comes."""
        self._backend = backend
        self._features = features
        self._failing = failing
        self._lock = threading.Lock()  # guards what follows
        self._changed = threading.Condition(self._lock)  # told when somebody may wait for it
        self._over = threading.Event()
        self._issued_ns: dict[int, int] = {}  # outstanding samples, by LoadGen's id
        self._lengths = effective_lengths(backend, features)
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
            self._changed.notify_all()
        if first:
            self._failing(error)
        self._complete_empty()

    def _complete_empty(self) -> None:
        with self._lock:
            ids = list(self._issued_ns)
            self._issued_ns.clear()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(id_, 0, 0) for id_ in ids])

    def run_batch(self, batch: Sequence[Any]) -> None:
        """Calculate and complete the samples of a batch in the caller's thread."""
        work = _work(batch)
        started = time.perf_counter()
        logits = self._backend.infer(self._features, work.samples)
        self.complete([Answer(work, logits, time.perf_counter() - started)])

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """Give LoadGen answers that `node` calculated one after the other, and record when."""
        # `answers` own the buffers and outlive QuerySamplesComplete, which copies what it logs.
        responses = [
            lg.QuerySampleResponse(sample.id, one.__array_interface__["data"][0], one.nbytes)
            for answer in answers
            for sample, one in zip(answer.work.items, answer.logits, strict=True)
        ]
        with self._lock:
            issued = [self._issued_ns.pop(response.id, None) for response in responses]
        if None in issued:
            return  # the run failed meanwhile, and all that was outstanding is completed
        before = time.perf_counter_ns()
        lg.QuerySamplesComplete(responses)
        # LoadGen reads its clock somewhere within the call, which takes some 20 us.
        completed = (before + time.perf_counter_ns()) // 2
        self.look()
        with self._lock:
            recording = self._recording
            recording.issued_ns.extend(one for one in issued if one is not None)
            recording.completed_ns.extend([completed] * len(issued))
            # Each batch began where the one before ended; a node's clock is another one.
            begun = completed - sum(round(answer.seconds * 1e9) for answer in answers)
            for answer in answers:
                samples = answer.work.samples
                recording.batch_started_ns.append(begun)
                begun += round(answer.seconds * 1e9)
                recording.batch_completed_ns.append(begun)
                recording.batch_samples.append(len(samples))
                recording.batch_tokens.append(sum(len(one) for one in answer.logits))
                longest = int(self._lengths[samples].max())
                recording.batch_padded_tokens.append(len(samples) * longest)
                recording.batch_node.append(node)
            self.answered += len(issued)


def _work(batch: Sequence[Any]) -> Work:
    """A batch of LoadGen's samples as a backend takes it."""
    return Work([sample.index for sample in batch], batch)


class StreamSut(Sut):
    """SingleStream and MultiStream: answer in LoadGen's own thread."""

    def __init__(
        self, engine: Engine, features: Features, failing: Failing, cost: batching.Cost | None
    ) -> None:
        """`cost` decides how a query of several samples is cut into batches."""
        super().__init__(engine, features, failing)
        self._cpus = engine.parallelism.cpus(0)
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
            self._unpin = pin(self._cpus)
        batches = [list(query)]
        if len(query) > 1 and self._cost is not None:
            lengths = [int(self._lengths[sample.index]) for sample in query]
            batches = [
                [query[position] for position in positions]
                for positions in batching.soonest(lengths, self._cost, self._backend.batch_tokens)
            ]
        for batch in batches:
            self.run_batch(batch)
        with self._lock:  # LoadGen times the query as a whole: its last sample stands for it
            for column in (self._recording.issued_ns, self._recording.completed_ns):
                del column[-len(query) : -1]


class OfflineSut(Sut):
    """Offline: sort the one query by length, cut it into batches and share them out."""

    in_flight = 2

    def __init__(self, backend: Backend, features: Features, failing: Failing) -> None:
        super().__init__(backend, features, failing)
        self._planned: deque[Work] = deque()

    def answer(self, query: Sequence[Any]) -> None:
        """Answer the longest samples first."""
        self.expected = len(query)
        backend = self._backend
        lengths = self._lengths[[sample.index for sample in query]]
        self._planned.extend(
            _work([query[position] for position in positions])
            for positions in batching.by_length(
                lengths, backend.batch_tokens, backend.most_samples, backend.instances
            )
        )
        backend.spread(self._features, self)

    def take(self) -> Work | None:
        """The batch with the longest samples; None once all samples are answered, or an error."""
        with self._lock:
            while self.error is None and not self._planned and self._issued_ns:
                self._changed.wait()
            return self._planned.popleft() if self._planned and self.error is None else None

    def more(self, most: int) -> list[Work]:
        """The batches that follow."""
        with self._lock:
            return [self._planned.popleft() for _ in range(min(most, len(self._planned)))]

    def waiting(self) -> int:
        """The batches that nobody has."""
        return len(self._planned)

    def put_back(self, works: Sequence[Work]) -> None:
        """Have others calculate `works` next."""
        with self._lock:
            self._planned.extendleft(reversed(works))
            self._changed.notify_all()

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """Give LoadGen answers, and say so to who waits for more once they were the last."""
        super().complete(answers, node)
        if not self._issued_ns:
            with self._lock:
                self._changed.notify_all()


class ServerSut(Sut):
    """Server: who is free takes of the waiting samples, as `batching.next_batch` decides."""

    in_flight = 1

    def __init__(
        self,
        backend: Backend,
        features: Features,
        failing: Failing,
        cost: batching.Cost,
        bound_s: float,
    ) -> None:
        """Batches are planned with `cost` and the latency bound `bound_s`."""
        super().__init__(backend, features, failing)
        self._cost = cost
        self._bound_s = bound_s
        self._waiting: deque[tuple[Any, float]] = deque()
        self._returned: deque[Work] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the backend end, then give LoadGen's handle back."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        super().close()

    def answer(self, query: Sequence[Any]) -> None:
        """Leave the samples to whoever is free."""
        deadline = time.monotonic() + self._bound_s
        with self._lock:
            self._waiting.extend((sample, deadline) for sample in query)
            self._changed.notify()

    def _serve(self) -> None:
        try:
            self._backend.spread(self._features, self)
        except BaseException as error:  # no query may stay without a response
            self.fail(error)

    def take(self) -> Work | None:
        """The next batch of what waits, once something does; None after the end or an error."""
        with self._lock:
            while not (self._waiting or self._returned or self._closed or self.error):
                self._changed.wait()
            if self._closed or self.error is not None:
                return None
            return self._returned.popleft() if self._returned else self._next()

    def more(self, most: int) -> list[Work]:
        """None, since what is planned later may be planned better."""
        return []

    def waiting(self) -> int:
        """As many batches as if each sample were one."""
        return len(self._returned) + len(self._waiting)

    def put_back(self, works: Sequence[Work]) -> None:
        """Have others calculate `works` next."""
        with self._lock:
            self._returned.extend(works)
            self._changed.notify_all()

    def _next(self) -> Work:
        """Remove the next batch from what waits."""
        count = min(len(self._waiting), batching.LOOKAHEAD)
        oldest = [self._waiting.popleft() for _ in range(count)]
        positions = batching.next_batch(
            [int(self._lengths[sample.index]) for sample, _ in oldest],
            [deadline for _, deadline in oldest],
            time.monotonic(),
            self._cost,
            self._backend.batch_tokens,
        )
        taken = set(positions)
        for position in reversed(range(count)):  # the others wait on, in their order
            if position not in taken:
                self._waiting.appendleft(oldest[position])
        return _work([oldest[position][0] for position in positions])
