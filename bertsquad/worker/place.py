"""Where batches are calculated: on this machine, or by the nodes of a cluster."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bertsquad.assets.fingerprint import verify_mapped
from bertsquad.cluster.facts import Loss, NodeFacts, NodeRun, Observation
from bertsquad.devices import DEVICES, Device
from bertsquad.errors import Unavailable
from bertsquad.loadgen.timeline import Timeline
from bertsquad.machine import gpus, hardware, noise
from bertsquad.models.preparation import Prepared
from bertsquad.progress import Show, Step
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.inference import Backend, BackendWanted
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.runtime.proofs import prove_precision
from bertsquad.worker.protocol import Setup


class Proven(Backend, Protocol):
    """A backend that was proven to be what it is."""

    @property
    def device(self) -> Device:
        """What it calculates on."""

    @property
    def proof(self) -> str:
        """The proof of its provider and precision, in words for people."""


class Place(Protocol):
    """A place where a backend can be made, and watched while a run goes on."""

    def backend(
        self, wanted: BackendWanted, prepared: Callable[[], Prepared], show: Show
    ) -> Proven:
        """The backend that is wanted; the same as before where nothing has changed.

        `prepared` is called for a new one, once the one before has been given up.
        """
        ...

    def observed(self, timed: bool, show: Show) -> AbstractContextManager[Observation]:
        """Watch what disturbs a run; what is given is filled at its end."""
        ...

    @property
    def facts(self) -> Sequence[NodeFacts]:
        """The nodes that make up the backend; none where that is this machine."""
        ...

    @property
    def losses(self) -> Sequence[Loss]:
        """The nodes that were lost since the backend was made."""
        ...


def place_of(setup: Setup, show: Show) -> Place:
    """Where a worker's batches are calculated; Unavailable where that can't be."""
    if setup.cluster is None:
        return ThisMachine(DEVICES[setup.device], setup.precision, setup.reads.longest)
    from bertsquad.cluster.roster import Roster  # which nobody needs who has no Ray

    return Roster(setup.cluster, setup.device, setup.precision, setup.reads.longest, show)


class ThisMachine:
    """The machine that the worker runs on, with one engine at a time."""

    facts: Sequence[NodeFacts] = ()
    losses: Sequence[Loss] = ()

    def __init__(self, device: Device, precision: str, longest: int) -> None:
        """Unavailable where it hasn't the device, or that can't calculate in the precision.

        No window has more than `longest` tokens.
        """
        self._device, self._precision, self._longest = device, precision, longest
        reason = why_not(device)
        if reason is not None:
            raise Unavailable(reason, of=device.name)
        if precision != "int8":  # what can't be had should be known before models are made
            prove_precision(device, precision)
        # Before an engine takes memory of its own, which would change the default of a batch.
        self._free_bytes = gpus.free_bytes() if device.is_gpu else []
        self._engine: Engine | None = None

    def backend(
        self, wanted: BackendWanted, prepared: Callable[[], Prepared], show: Show
    ) -> Proven:
        """The engine in this division of the cores; one in another is given up for it."""
        shape = wanted.division, wanted.batch_tokens or self._budget(wanted.division)
        engine = self._engine
        if engine is None or (engine.parallelism, engine.batch_tokens) != shape:
            show(Step("making the session"))
            self._engine = engine = None  # its memory first
            self._engine = engine = Engine(prepared(), self._device, self._precision, *shape)
        return engine

    def _budget(self, division: Parallelism) -> int:
        """The tokens that a batch may have on the GPUs that are used, or on the CPU."""
        free = [self._free_bytes[gpu] for gpu in division.gpus]
        return batch_tokens(self._device, self._longest, free)

    @contextlib.contextmanager
    def observed(self, timed: bool, show: Show) -> Iterator[Observation]:
        """Watch this machine, and whether the weights that sessions have mapped stay the same."""
        assert self._engine is not None
        weights = self._engine.prepared.files[1:]
        verify_mapped(weights)
        seen = Observation()
        before = noise.read()
        try:
            yield seen
        finally:
            found = noise.disturbances(before, noise.read(), os.cpu_count() or 1)
            seen.disturbances[""] = found
            seen.peak_memory_bytes[""] = hardware.peak_memory_bytes()
        verify_mapped(weights)


def node_runs(facts: Sequence[NodeFacts], timeline: Timeline, seen: Observation) -> list[NodeRun]:
    """What each node did in a run of which this is the timeline."""
    if not facts:
        return []
    total = max(1, int(timeline.batch_samples.sum()))
    runs = []
    for node, share in zip(facts, timeline.by_node(len(facts)), strict=True):
        available_s = timeline.duration_s * node.instances
        runs.append(
            NodeRun(
                **vars(node),
                samples=share.samples,
                share=share.samples / total,
                busy_share=min(1.0, share.busy_s / available_s) if available_s else 0.0,
                samples_per_s=share.samples_per_s,
                disturbances=seen.disturbances.get(node.node, []),
                peak_memory_bytes=seen.peak_memory_bytes.get(node.node),
            )
        )
    return runs
