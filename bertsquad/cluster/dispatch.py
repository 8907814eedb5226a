"""Gives batches to nodes and takes their answers, each batch exactly once whatever dies.

The caller's thread gives batches out, and one other takes what nodes answer; what comes from a
network only puts it into a queue.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from bertsquad.cluster.facts import Loss
from bertsquad.cluster.ledger import Ledger
from bertsquad.errors import SuiteError, describe
from bertsquad.runtime.inference import Answer, Source, Work


class NoNodeLeft(SuiteError):
    """All nodes of a cluster are lost, so nobody can answer."""


@dataclass(frozen=True)
class Member:
    """A node as it is named to the user, and the batches that it calculates side by side."""

    name: str
    instances: int


#: Has a node (its place among the members) calculate a call of this number. It returns at once;
#: `Dispatcher.answered`, `failed` or `lost` are called later.
Send = Callable[[int, int, Sequence[Work]], None]


class Dispatcher:
    """Nodes that answer batches together, in one run after the other.

    A node that is lost stays lost. `losses` are those of all runs until now.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._changed = threading.Condition()  # guards the ledger, and tells of its changes
        self._ledger = Ledger([member.instances for member in members])
        self._over = False
        self._source: Source | None = None
        self._events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._began = time.perf_counter()
        self._losses: list[Loss] = []

    @property
    def alive(self) -> list[int]:
        """The nodes that aren't lost."""
        self._settle()
        with self._changed:
            return self._ledger.alive

    @property
    def losses(self) -> list[Loss]:
        """The nodes that were lost until now."""
        self._settle()
        with self._changed:
            return list(self._losses)

    @property
    def instances(self) -> int:
        """The batches that the nodes which are alive calculate side by side."""
        self._settle()
        with self._changed:
            return self._ledger.instances

    def answered(
        self, call: int, logits: Sequence[list[NDArray[np.float32]]], seconds: Sequence[float]
    ) -> None:
        """A node has answered each batch of a call, one after the other, after so many seconds."""
        self._events.put(lambda: self._answered(call, logits, seconds))

    def failed(self, call: int, error: BaseException) -> None:
        """The model, or what runs it, raised an error at a call."""
        self._events.put(lambda: self._failed(call, error))

    def fail(self, error: BaseException) -> None:
        """The run can't go on, whatever nodes say."""
        self._events.put(lambda: self._fail(error))

    def lost(self, node: int, cause: str) -> None:
        """A node is lost; its batches are calculated elsewhere, and what it still says is void."""
        now = time.perf_counter()
        self._events.put(lambda: self._lost(node, cause, now))

    def run(self, source: Source, lengths: NDArray[np.int64], send: Send) -> None:
        """Have the nodes answer what `source` has, until it has no more.

        `lengths` are the tokens that each window costs. An error of a node fails the source, and so
        does the loss of the last one; an error of `send` is raised.
        """
        self._settle()
        self._began = time.perf_counter()
        self._source, self._over = source, False
        if not self.alive:
            self._fail(self._none_left())
        taker = threading.Thread(target=self._take, name="answers", daemon=True)
        taker.start()
        try:
            self._give(source, lengths, send)
        finally:
            self._events.put(None)
            taker.join()
            with self._changed:
                self._source = None
                self._ledger.forget()

    def _give(self, source: Source, lengths: NDArray[np.int64], send: Send) -> None:
        """Give batches out, each as soon as a node has room for it."""
        while self._room(source) and (work := source.take()) is not None:
            call = self._assign(work, source, lengths)
            if call is None:
                return
            send(*call)

    def _room(self, source: Source) -> bool:
        """Wait until a node has room; False where the run is over before.

        Only then a batch is taken, since in Server samples that wait may still share one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._ledger.has_room(source.in_flight))
            return not self._over

    def _assign(
        self, work: Work, source: Source, lengths: NDArray[np.int64]
    ) -> tuple[int, int, list[Work]] | None:
        """A call that begins with `work`, its number and its node; None where the run is over."""
        ledger, in_flight = self._ledger, source.in_flight
        tokens = _padded(work, lengths)
        with self._changed:
            while not self._over:
                waiting = source.waiting()
                node = ledger.choose(tokens, waiting, in_flight)
                if node is not None:
                    count = ledger.portion(node, tokens, waiting, in_flight)
                    works = [work, *source.more(count - 1)]
                    whole = sum(_padded(one, lengths) for one in works)
                    return node, ledger.given(node, works, whole), works
                self._changed.wait()
        return None

    def _take(self) -> None:
        """Handle what nodes say, until the run is over."""
        while (event := self._events.get()) is not None:
            try:
                event()
            except BaseException as error:  # nobody would wait for the answers of a dead thread
                self._fail(error)

    def _settle(self) -> None:
        """Handle what nodes say between two runs: which are lost; nobody waits for answers."""
        while self._source is None and not self._events.empty():
            event = self._events.get()
            if event is not None:
                event()

    def _answered(
        self, call: int, logits: Sequence[list[NDArray[np.float32]]], seconds: Sequence[float]
    ) -> None:
        with self._changed:
            done = self._ledger.answered(call, sum(seconds))
            self._changed.notify_all()
        if done is not None and self._source is not None:
            answers = [Answer(*one) for one in zip(done.works, logits, seconds, strict=True)]
            self._source.complete(answers, done.node)

    def _failed(self, call: int, error: BaseException) -> None:
        with self._changed:
            done = self._ledger.failed(call)
        if done is not None:
            name = self._members[done.node].name
            told = SuiteError(f"node {name}: {describe(error)}")
            told.__cause__ = error
            self._fail(told)

    def _lost(self, node: int, cause: str, now: float) -> None:
        with self._changed:
            works = self._ledger.lost(node)
            if works is None:
                return
            loss = Loss(self._members[node].name, now - self._began, cause)
            self._losses.append(loss)
            left = self._ledger.alive
            self._changed.notify_all()
        if not left:
            self._fail(self._none_left())
        elif self._source is not None:
            self._source.put_back(works)

    def _fail(self, error: BaseException) -> None:
        """End the run with an error."""
        if self._source is not None:
            self._source.fail(error)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _none_left(self) -> NoNodeLeft:
        told = "; ".join(map(str, self._losses))
        return NoNodeLeft(f"no node of the cluster is left, so start them again: {told}")


def _padded(work: Work, lengths: NDArray[np.int64]) -> int:
    """The tokens of a batch, padding included."""
    return len(work.samples) * int(lengths[work.samples].max())
