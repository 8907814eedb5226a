"""The nodes of a cluster as one engine: samples go out as token ids, logits come back.

Only the worker process imports this module, and only for a cluster.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.cluster import actors
from bertsquad.cluster.actors import NodeActor, NodeLost
from bertsquad.cluster.dispatch import Dispatcher, Member
from bertsquad.cluster.facts import Loss, NodeFacts
from bertsquad.cluster.node import EngineWanted
from bertsquad.cluster.shipping import chunks, parcel
from bertsquad.cluster.watchdog import SILENT_S, Watchdog
from bertsquad.devices import DEVICES, Device
from bertsquad.progress import Show, Step
from bertsquad.runtime.inference import Source, Work, effective_lengths
from bertsquad.squad.features import Inputs

#: Seconds between two looks of the watchdog.
LOOK_S = 0.5


class Fleet:
    """Nodes that each have the same model's engine, and answer batches side by side."""

    def __init__(
        self, ray: Any, nodes: Sequence[NodeActor], wanted: EngineWanted, show: Show
    ) -> None:
        """Ship the model where it is missing, and make and prove the engines."""
        self._ray = ray
        self.nodes = tuple(nodes)
        self.wanted = wanted
        self.device: Device = DEVICES[wanted.device]
        signature = wanted.prepared.signature
        self.fixed_batch, self.fixed_length = signature.batch, signature.length
        self.batch_tokens, self.most_samples = wanted.batch_tokens, self.device.most_samples
        _ship(ray, nodes, wanted, show)
        show(Step("making the sessions", of=f"{len(nodes)} nodes"))
        opened = {one.name: one.call("open")(wanted, one.name) for one in nodes}
        self.facts: tuple[NodeFacts, ...] = tuple(actors.answers(ray, opened).values())
        #: The batches that are calculated side by side.
        self.instances = sum(one.instances for one in self.facts)
        #: The names of lost nodes that ended in silence.
        self.silent: set[str] = set()
        self._dispatcher = Dispatcher([Member(one.node, one.instances) for one in self.facts])
        self._answer = [
            node.actor.answer.options(concurrency_group="batches").remote for node in self.nodes
        ]

    @property
    def proof(self) -> str:
        """The proof of what calculates, on each node where they differ."""
        proofs = {one.proof for one in self.facts}
        if len(proofs) == 1:
            return f"{proofs.pop()}, on each of {len(self.facts)} nodes"
        return "; ".join(f"node {one.node}: {one.proof}" for one in self.facts)

    @property
    def losses(self) -> Sequence[Loss]:
        """The nodes that were lost, in the probe too."""
        return self._dispatcher.losses

    @property
    def whole(self) -> bool:
        """Whether all nodes are there."""
        return len(self._dispatcher.alive) == len(self.nodes)

    def _ask(self, method: str, *arguments: Any) -> None:
        """Have all nodes that are there do something."""
        there = [self.nodes[place] for place in self._dispatcher.alive]
        self._answers({one.name: one.call(method)(*arguments) for one in there})

    def _answers(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What nodes answer; one that is lost meanwhile isn't there for any run after."""
        try:
            return actors.answers(self._ray, asked)
        except NodeLost as error:
            place = next(i for i, node in enumerate(self.nodes) if node.name == error.name)
            self._dispatcher.lost(place, error.cause)
            raise

    def infer(
        self, features: Inputs, samples: Sequence[int], instance: int = 0
    ) -> list[NDArray[np.float32]]:
        """The logits of one batch, each float32 [its length, 2], by the node of an instance."""
        node = self._node_of(instance)
        name = self.nodes[node].name
        works = [Work(samples)]
        reference = self._answer[node](*_packed(features, works))
        with self._watched():
            flat, _ = self._answers({name: reference})[name]
        return _shared_out(flat, features, works)[0]

    def _node_of(self, instance: int) -> int:
        for node, facts in enumerate(self.facts):
            if instance < facts.instances:
                return node
            instance -= facts.instances
        raise IndexError("there is no such instance")

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        """Have every instance of every node calculate the batch `samples` once."""
        inputs = features.take(samples)
        with self._watched():
            self._ask("warm_up", inputs)

    def verify(self) -> None:
        """SuiteError where the weights that a node's engine has mapped were changed."""
        with contextlib.suppress(NodeLost):  # which is told with the other losses
            self._ask("verify")

    def spread(self, features: Inputs, source: Source) -> None:
        """Have the batches of a source answered, each by the node that is free first."""

        def send(place: int, call: int, works: Sequence[Work]) -> None:
            reference = self._answer[place](*_packed(features, works))
            reference.future().add_done_callback(
                lambda future: self._heard(features, place, call, works, future)
            )

        with self._watched():
            self._dispatcher.run(source, effective_lengths(self, features), send)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Have nodes that fall silent meanwhile count as lost."""
        self._watch = watch = _Watch(self._ray, self.nodes, self._dispatcher)
        try:
            with watch:
                yield
        finally:
            self.silent |= {self.nodes[place].name for place in watch.silent}

    def _heard(
        self, features: Inputs, place: int, call: int, works: Sequence[Work], future: Any
    ) -> None:
        """A node has answered a call, or Ray says that it won't."""
        try:
            error = future.exception()
            if error is None:
                self._watch.heard(place)
                flat, seconds = future.result()
                self._dispatcher.answered(call, _shared_out(flat, features, works), seconds)
            elif actors.is_own(self._ray, error):
                self._dispatcher.failed(call, error.cause)
            else:
                self._dispatcher.lost(place, actors.cause_of(self._ray, error))
        except Exception as error:  # Ray would drop it, and the run wait forever
            self._dispatcher.failed(call, error)


class _Watch:
    """Pings nodes while it is a context, and has those that are silent or gone count as lost."""

    def __init__(self, ray: Any, nodes: Sequence[NodeActor], dispatcher: Dispatcher) -> None:
        self._ray, self._nodes, self._dispatcher = ray, nodes, dispatcher
        self._dog = Watchdog(dispatcher.alive, time.monotonic())
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        #: The nodes that were silent for too long.
        self.silent: set[int] = set()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def heard(self, place: int) -> None:
        """A node has answered something."""
        with self._lock:
            self._dog.heard(place, time.monotonic())

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            with self._lock:
                due, silent = self._dog.to_ping(now), self._dog.silent(now)
            for place in due:
                pinged = self._nodes[place].call("ping")().future()
                pinged.add_done_callback(partial(self._answered, place))
            for place in silent:
                self.silent.add(place)
                self._lost(place, f"it answered nothing for {SILENT_S:g} s")
                self._ray.kill(self._nodes[place].actor)

    def _answered(self, place: int, future: Any) -> None:
        error = future.exception()
        if error is None:
            self.heard(place)
        elif not self._over.is_set():
            self._lost(place, actors.cause_of(self._ray, error))

    def _lost(self, place: int, cause: str) -> None:
        with self._lock:
            self._dog.gone(place)
        self._dispatcher.lost(place, cause)


def _ship(ray: Any, nodes: Sequence[NodeActor], wanted: EngineWanted, show: Show) -> None:
    """Send the model's files to the nodes that haven't got them."""
    whole = parcel(wanted.prepared.files)
    lacking = actors.answers(ray, {one.name: one.call("lacks")(whole) for one in nodes})
    receivers = [node for node in nodes if lacking[node.name]]
    if not receivers:
        return
    sent = 0
    for place, offset, block in chunks(whole):
        show(Step("sending the model", sent, whole.bytes, "bytes"))
        # Once into the object store, from which every node takes it.
        content = ray.put(np.frombuffer(block, np.uint8))
        asked = {one.name: one.call("take")(place, offset, content) for one in receivers}
        actors.answers(ray, asked)
        sent += len(block)
    actors.answers(ray, {one.name: one.call("settle")() for one in receivers})


def _packed(features: Inputs, works: Sequence[Work]) -> tuple[Inputs, list[int], NDArray[np.int32]]:
    """What a node must know of batches: their windows, the samples of each, their indices."""
    samples = np.concatenate([np.asarray(work.samples, np.int32) for work in works])
    return features.take(samples), [len(work.samples) for work in works], samples


def _shared_out(
    flat: NDArray[np.float32], features: Inputs, works: Sequence[Work]
) -> list[list[NDArray[np.float32]]]:
    """The logits of each sample of each batch, of those of all one after the other."""
    found, first = [], 0
    for work in works:
        own = []
        for sample in work.samples:
            end = first + int(features.offsets[sample + 1] - features.offsets[sample])
            own.append(flat[first:end])
            first = end
        found.append(own)
    return found
