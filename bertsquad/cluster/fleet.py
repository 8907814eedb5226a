"""The nodes of a cluster as one engine: samples go out as token ids, logits come back.

Only the worker process imports this module, and only for a cluster.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad.cluster import actors, wire
from bertsquad.cluster.actors import NodeActor, NodeLost
from bertsquad.cluster.dispatch import Dispatcher, Member
from bertsquad.cluster.facts import Loss, NodeFacts
from bertsquad.cluster.node import EngineWanted
from bertsquad.cluster.shipping import chunks, parcel
from bertsquad.cluster.watching import Watch
from bertsquad.devices import DEVICES, Device
from bertsquad.progress import Show, Step
from bertsquad.runtime.inference import Source, Work, effective_lengths
from bertsquad.squad.features import Inputs


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
        opened = {one: one.call("open")(wanted, one.name) for one in nodes}
        found = actors.answers(ray, opened)
        self.facts: tuple[NodeFacts, ...] = tuple(found[one.name] for one in nodes)
        #: The names of lost nodes that ended in silence.
        self.silent: set[str] = set()
        self._dispatcher = Dispatcher([Member(one.node, one.instances) for one in self.facts])
        self._answer = [
            node.actor.answer.options(concurrency_group="batches").remote for node in self.nodes
        ]

    @property
    def instances(self) -> int:
        """The batches that are calculated side by side."""
        return self._dispatcher.instances

    @property
    def proof(self) -> str:
        """The proof of what calculates, on each node where they differ."""
        proofs = {one.proof for one in self.facts}
        if len(proofs) == 1:
            return f"{proofs.pop()}, on each of {len(self.facts)} nodes"
        return "; ".join(f"node {one.node}: {one.proof}" for one in self.facts)

    @property
    def losses(self) -> Sequence[Loss]:
        """The nodes that were lost since the fleet was made."""
        return self._dispatcher.losses

    @property
    def whole(self) -> bool:
        """Whether all nodes are there."""
        return len(self._dispatcher.alive) == len(self.nodes)

    @property
    def there(self) -> list[NodeActor]:
        """The nodes that aren't lost."""
        return [self.nodes[place] for place in self._dispatcher.alive]

    def _answers(self, asked: Mapping[NodeActor, Any]) -> dict[str, Any]:
        """What nodes answer; one that is lost meanwhile isn't there for any run after."""
        try:
            return actors.answers(self._ray, asked)
        except NodeLost as error:
            place = next(i for i, node in enumerate(self.nodes) if node.name == error.name)
            self._dispatcher.lost(place, error.cause)
            if error.silent:
                self.silent.add(error.name)
            raise

    def infer(
        self, features: Inputs, samples: Sequence[int], instance: int = 0
    ) -> list[NDArray[np.float32]]:
        """The logits of one batch, each float32 [its length, 2]; the nodes are asked in turn."""
        alive = self._dispatcher.alive
        place = alive[instance % len(alive)]
        works, node = [Work(samples)], self.nodes[place]
        asked = {node: self._answer[place](_packed(features, works))}
        flat, _ = wire.read_answer(self._answers(asked)[node.name], len(works))
        return _shared_out(flat, features, works)[0]

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        """Have every instance of every node calculate the batch `samples` once."""
        inputs = features.take(samples)
        self._answers({node: node.call("warm_up")(inputs) for node in self.there})

    def verify(self) -> None:
        """SuiteError where the weights that a node's engine has mapped were changed.

        A node that is lost by now is told with the others.
        """
        asked = {node: node.call("verify")() for node in self.there}
        for node, reference in asked.items():
            with contextlib.suppress(NodeLost):
                self._answers({node: reference})

    def spread(self, features: Inputs, source: Source) -> None:
        """Have the batches of a source answered, each by the node that is free first."""

        def send(place: int, call: int, works: Sequence[Work]) -> None:
            reference = self._answer[place](_packed(features, works))
            reference.future().add_done_callback(
                lambda future: self._heard(features, place, call, works, future)
            )

        with self._watched():
            self._dispatcher.run(source, effective_lengths(self, features), send)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Have nodes that fall silent meanwhile count as lost."""
        self._watch = watch = Watch(self._ray, self.nodes, self._dispatcher)
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
                flat, seconds = wire.read_answer(future.result(), len(works))
                self._dispatcher.answered(call, _shared_out(flat, features, works), seconds)
            elif actors.is_own(self._ray, error):
                self._dispatcher.failed(call, error.cause)
            else:
                self._dispatcher.lost(place, actors.cause_of(self._ray, error))
        except Exception as error:  # Ray would drop it, and the run wait forever
            self._dispatcher.failed(call, error)


def _ship(ray: Any, nodes: Sequence[NodeActor], wanted: EngineWanted, show: Show) -> None:
    """Send the model's files to the nodes that haven't got them."""
    whole = parcel(wanted.prepared.files)
    asked = {one: one.call("lacks")(whole) for one in nodes}
    lacking = actors.answers(ray, asked)
    receivers = [node for node in nodes if lacking[node.name]]
    if not receivers:
        return
    sent = 0
    for place, offset, block in chunks(whole):
        show(Step("sending the model", sent, whole.bytes, "bytes"))
        # Once into the object store, from which every node takes it.
        content = ray.put(np.frombuffer(block, np.uint8))
        asked = {one: one.call("take")(place, offset, content) for one in receivers}
        actors.answers(ray, asked)
        sent += len(block)
    settled = {one: one.call("settle")() for one in receivers}
    actors.answers(ray, settled)


def _packed(features: Inputs, works: Sequence[Work]) -> bytes:
    """What a node must know of batches: their windows, the samples of each, their indices."""
    samples = [sample for work in works for sample in work.samples]
    return wire.call(features.take(samples), [len(work.samples) for work in works], samples)


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
