"""What lives on a node of a cluster: the model's engine, which answers batches sent to it.

Ray calls the methods, several at a time, each in a thread of its own. A node loads neither LoadGen
nor a data set.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertsquad.assets.cache import PACKAGE
from bertsquad.assets.fingerprint import Fingerprint, verify_mapped
from bertsquad.cluster import shipping, wire
from bertsquad.cluster.facts import NodeFacts
from bertsquad.cluster.shipping import Parcel, Receiver
from bertsquad.devices import DEVICES, Device
from bertsquad.errors import SuiteError, Unavailable, describe
from bertsquad.machine import device_lock, gpus, hardware, noise, processor, provenance
from bertsquad.machine.distributions import installed, owners
from bertsquad.models.preparation import Prepared
from bertsquad.runtime import parallelism
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.inference import NotFinite
from bertsquad.squad.features import Inputs

if TYPE_CHECKING:
    from bertsquad.cluster.instances import Instances
    from bertsquad.runtime.engine import Engine

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class EngineWanted:
    """The engine that a node is to make: of which model, on what, how divided.

    `instances`, `threads` and `gpus` are what the user asked for on each node, None for the node's
    own division. `batch_tokens` is the most that a batch may have.
    """

    prepared: Prepared
    device: str
    precision: str
    scenario: str
    batch_tokens: int
    instances: int | None = None
    threads: int | None = None
    gpus: int | None = None


@dataclass(frozen=True)
class Survey:
    """What a node says of itself before it has an engine.

    `batch_tokens` is what a batch may have there by default.
    """

    host: str
    versions: dict[str, str]
    source: str
    batch_tokens: int


@dataclass(frozen=True)
class Counted:
    """What a node has counted: its machine, of so many processors, and its own process."""

    reading: noise.Reading | None
    processors: int
    peak_memory_bytes: int | None


#: What only the driver uses.
_DRIVERS = ("mlperf_loadgen", "tokenizers", "pytest", "pytest_benchmark")


def versions(device: Device) -> dict[str, str]:
    """The versions that a node and its driver must have in common to calculate on a device."""
    plugins = {one.plugin for one in DEVICES.values() if one.plugin} - {device.plugin}
    without = {name for module in (*_DRIVERS, *plugins) for name in owners(module)}
    found = {name: text for name, text in provenance.versions().items() if name not in without}
    return found | {"ray": installed("ray") or "none"}


class Node:
    """One node's engine, and what its driver asks of the machine around it."""

    def __init__(self, cores: int) -> None:
        """It may use as many `cores` of its machine, if there are so many."""
        # Before ONNX Runtime is loaded, which reports to its maker else.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        self._cores = min(cores, hardware.cores())
        self._receiver: Receiver | None = None
        self._files: tuple[Fingerprint, ...] = ()
        self._instances: Instances | None = None
        self._lock = contextlib.ExitStack()
        self._locked: bool | None = None

    def ping(self) -> None:
        """Answer, as a node that is there does."""

    def survey(self, device: str, longest: int, most_gpus: int | None = None) -> Survey:
        """What is here; Unavailable where the device isn't.

        No window has more tokens than `longest`. The first `most_gpus` are used, None for all.
        """
        return _told(lambda: self._survey(DEVICES[device], longest, most_gpus))

    def _survey(self, device: Device, longest: int, most_gpus: int | None) -> Survey:
        reason = why_not(device)
        if reason is not None:
            raise Unavailable(reason, of=device.name)
        from bertsquad.runtime.engine import batch_tokens

        return Survey(
            socket.gethostname(),
            versions(device),
            provenance.source_digest(PACKAGE),
            batch_tokens(device, longest, gpus.free_bytes()[:most_gpus] if device.is_gpu else []),
        )

    def lacks(self, parcel: Parcel) -> bool:
        """Whether the model must be sent here; SuiteError where there is no memory for it.

        An engine that is here is given up for it.
        """
        self._give_up()
        free = hardware.available_memory_bytes()
        if free is not None and parcel.bytes > free:
            raise SuiteError(
                f"the model needs {parcel.bytes / 1e9:.1f} GB of memory at least, but "
                f"{free / 1e9:.1f} GB are free: leave the node out, or give a smaller model"
            )
        here = _told(lambda: shipping.found(parcel))
        if self._receiver is not None:
            self._receiver.close()
        self._receiver = Receiver(parcel) if here is None else None
        self._files = here or ()
        return here is None

    def _give_up(self) -> None:
        """Free the memory of the engine, if there is one, once no call calculates any more."""
        instances, self._instances = self._instances, None
        if instances is not None:
            instances.end()

    def take(self, place: int, offset: int, content: NDArray[np.uint8]) -> None:
        """Take one chunk of the model's files."""
        receiver = self._receiver
        assert receiver is not None
        try:
            _told(lambda: receiver.take(place, offset, content.data))
        except SuiteError:
            receiver.close()
            raise

    def settle(self) -> None:
        """All chunks were sent."""
        receiver = self._receiver
        assert receiver is not None
        try:
            self._files = _told(receiver.settle)
        finally:
            receiver.close()

    def open(self, wanted: EngineWanted, name: str) -> NodeFacts:
        """Make the engine and prove it; what this node, called `name`, is then."""
        return _told(lambda: self._open(wanted, name))

    def _open(self, wanted: EngineWanted, name: str) -> NodeFacts:
        from bertsquad.cluster.instances import Instances
        from bertsquad.runtime.engine import Engine

        self._give_up()
        device, cores = DEVICES[wanted.device], self._cores
        parallelism.check(cores, wanted.instances, wanted.threads)
        if device.is_gpu:
            gpus.check(wanted.gpus)
        shape = parallelism.plan(
            wanted.scenario,
            wanted.device,
            cores,
            wanted.instances,
            wanted.threads,
            hardware.owned_cpus()[:cores],
            gpus.count(wanted.gpus) if device.is_gpu else 1,
        )
        here = replace(wanted.prepared, path=Path(self._files[0].path), files=self._files)
        engine = Engine(here, device, wanted.precision, shape, wanted.batch_tokens)
        self._instances = Instances(engine)
        return NodeFacts(
            node=name,
            host=socket.gethostname(),
            machine=hardware.machine_id(),
            cpu=hardware.cpu_name(),
            cores=cores,
            physical_cores=hardware.physical_cores(),
            sockets=hardware.sockets(),
            cpu_quota=hardware.quota(),
            memory_bytes=hardware.memory_bytes(),
            gpus=provenance.gpus_used(shape.gpus)["gpus"],
            operating_system=provenance.operating_system(),
            versions=versions(device),
            source=provenance.source_digest(PACKAGE),
            provider=device.provider,
            proof=engine.proof,
            instances=shape.instances,
            threads=shape.threads,
            batch_tokens=wanted.batch_tokens,
            processor=processor.read().facts(),
        )

    @property
    def _working(self) -> "Instances":
        if self._instances is None:
            raise SuiteError("there is no engine here: run the case again")
        return self._instances

    def warm_up(self, inputs: Inputs) -> None:
        """Have every instance calculate this batch once."""
        _told(lambda: self._working.engine.warm_up(inputs, range(len(inputs))))

    def answer(self, data: bytes) -> bytes:
        """The answer to a call (`cluster/wire.py`), as soon as an instance is free."""
        working = self._working
        inputs, sizes, numbers = wire.read_call(data)
        with working.one() as instance:
            return _told(lambda: _calculate(working.engine, inputs, sizes, numbers, instance))

    def hold_device(self, device: str) -> bool:
        """Wait until no other run on this machine uses the device; whether it is locked then."""
        if self._locked is None:
            marker = DEVICES[device].marker
            held = device_lock.device_to_itself(marker, lambda said: None)
            self._locked = self._lock.enter_context(held)
        return self._locked

    def release_device(self) -> None:
        """Let others use the device."""
        self._lock.close()
        self._locked = None

    def counted(self) -> Counted:
        """What this machine and this process have counted until now."""
        peak = hardware.peak_memory_bytes()
        return Counted(noise.read(), os.cpu_count() or 1, peak)

    def verify(self) -> None:
        """SuiteError where the weights that the engine has mapped were changed."""
        _told(lambda: verify_mapped(self._files[1:]))


def _told(ask: Callable[[], _Answer]) -> _Answer:
    """What `ask` gives; any error of it as a SuiteError, which the driver knows, too."""
    try:
        return ask()
    except SuiteError:
        raise
    except Exception as error:  # the model's or the runtime's
        raise SuiteError(describe(error)) from None


def _calculate(
    engine: "Engine",
    inputs: Inputs,
    sizes: Sequence[int],
    numbers: Sequence[int],
    instance: int,
) -> bytes:
    """The logits of one batch after the other, and the seconds that each took."""
    logits: list[NDArray[np.float32]] = []
    seconds, first = [], 0
    for size in sizes:
        began = time.perf_counter()
        try:
            logits += engine.infer(inputs, range(first, first + size), instance)
        except NotFinite as error:
            raise error.of(int(numbers[error.sample])) from None
        seconds.append(time.perf_counter() - began)
        first += size
    return wire.answer(np.concatenate(logits), seconds)
