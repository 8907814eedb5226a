"""Nodes of a cluster as threads of this process, each of which does what a test wants of it."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.cluster.dispatch import Dispatcher, Member
from bertsquad.runtime.inference import Source, Work, effective_lengths
from bertsquad.squad.features import Inputs

#: What a node does with a call.
ANSWER = "answer"
ANSWER_TWICE = "answer twice"
RAISE = "raise an error"
DIE = "die"  # with all the calls that it has
DIE_AND_ANSWER = "die, and answer all the same"
DIE_LAST = "die when the others have nothing to do any more"

#: The logits of samples, each float32 [its length, 2], by an instance.
Calculate = Callable[[Inputs, Sequence[int], int], list[NDArray[np.float32]]]


class Nodes:
    """A Backend of simulated nodes: `10.0.0.0`, `10.0.0.1` and so on.

    `fate(node, nth)` says what a node does with its nth call, counted from 0. `seconds` is how long
    each node sleeps for a batch, and says that it calculated.
    """

    most_samples = fixed_length = fixed_batch = None

    def __init__(
        self,
        calculate: Calculate,
        instances: Sequence[int] = (1, 1),
        fate: Callable[[int, int], str] = lambda node, nth: ANSWER,
        seconds: Sequence[float] = (),
        batch_tokens: int = 1536,
    ) -> None:
        self.calculate = calculate
        self.fate = fate
        self.seconds = seconds or [0.0] * len(instances)
        self.batch_tokens = batch_tokens
        members = [Member(f"10.0.0.{node}", count) for node, count in enumerate(instances)]
        self.dispatcher = Dispatcher(members)
        #: For each node, the batches of each of its calls.
        self.calls: list[list[int]] = [[] for _ in instances]
        #: For each node, the most calls that it had at a time.
        self.most_open = [0] * len(instances)
        self._open = [0] * len(instances)
        self._lock = threading.Lock()
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in instances]
        self._features: Inputs | None = None
        for node, count in enumerate(instances):
            for instance in range(count):
                args = (node, instance)
                threading.Thread(target=self._work, args=args, daemon=True).start()

    @property
    def instances(self) -> int:
        return self.dispatcher.instances

    def infer(self, features: Inputs, samples: Sequence[int], instance: int = 0) -> Any:
        return self.calculate(features, samples, instance)

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        """There is nothing to warm."""

    def spread(self, features: Inputs, source: Source) -> None:
        self._features = features
        self.dispatcher.run(source, effective_lengths(self, features), self._send)

    def close(self) -> None:
        for queue in self._queues:
            queue.put(None)

    def _send(self, node: int, call: int, works: Sequence[Work]) -> None:
        nth = len(self.calls[node])
        self.calls[node].append(len(works))
        with self._lock:
            self._open[node] += 1
            self.most_open[node] = max(self.most_open[node], self._open[node])
        self._queues[node].put((call, works, self.fate(node, nth)))

    def _work(self, node: int, instance: int) -> None:
        queue, dispatcher = self._queues[node], self.dispatcher
        while (given := queue.get()) is not None:
            (call, works, fate), features = given, self._features
            assert features is not None
            if fate == RAISE:
                dispatcher.failed(call, ValueError("the model has no such token"))
                continue
            if fate == DIE_LAST:
                time.sleep(0.2)
            if fate in (DIE, DIE_AND_ANSWER, DIE_LAST):
                dispatcher.lost(node, "its process was killed")
            if fate in (DIE, DIE_LAST):
                break
            logits = [self.calculate(features, work.samples, instance) for work in works]
            time.sleep(self.seconds[node] * len(works))
            with self._lock:
                self._open[node] -= 1
            for _ in range(2 if fate == ANSWER_TWICE else 1):
                dispatcher.answered(call, logits, [self.seconds[node]] * len(works))
        queue.put(None)  # for the other instances
