"""Where batches come from and who answers them: a Source has the work, a Backend calculates it.

The engine of one machine is a Backend, and so are the nodes of a cluster together. A run of LoadGen
is a Source, and so is the probe before it.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.squad.features import Inputs


@dataclass(frozen=True)
class Work:
    """A planned batch: the indices of its windows, and what its source wants back with them."""

    samples: Sequence[int]
    items: Sequence[Any] = ()


@dataclass(frozen=True)
class Answer:
    """The logits of each sample of a batch, float32 [its length, 2], after so many `seconds`.

    The seconds are those in which the batch was calculated, by the clock of whoever did it.
    """

    work: Work
    logits: list[NDArray[np.float32]]
    seconds: float


class NotFinite(SuiteError):
    """The logits of a `sample`, by its index, are NaN or infinite."""

    def __init__(self, sample: int, where: str) -> None:
        super().__init__(
            f"the model answered sample {sample} with logits that are NaN or infinite on {where}, "
            "so nothing is scored or timed: check the model, or choose another --precision"
        )
        self.sample, self.where = sample, where

    def of(self, sample: int) -> "NotFinite":
        """The same of a sample that has another index elsewhere."""
        return NotFinite(sample, self.where)

    def __reduce__(self) -> tuple[type["NotFinite"], tuple[int, str]]:
        """How it comes back from another process: errors are made of their message alone."""
        return NotFinite, (self.sample, self.where)


class Source(Protocol):
    """Has batches to answer. Its methods may be called from any thread."""

    @property
    def in_flight(self) -> int:
        """The batches that an instance may have at a time: 1, or 2 to hide the way to it."""

    def take(self) -> Work | None:
        """The next batch, waited for; None where no more will come: all done, closed or failed.

        As long as a batch isn't answered it may be put back, so there may be more.
        """

    def more(self, most: int) -> list[Work]:
        """Up to `most` further batches that are there already."""

    def waiting(self) -> int:
        """The batches that are there and that nobody has; at most, where not planned yet."""

    def complete(self, answers: Sequence[Answer], node: int = 0) -> None:
        """Take answers that `node` gave together, in the order in which it calculated them."""

    def put_back(self, works: Sequence[Work]) -> None:
        """Take batches back whose answers will never come."""

    def fail(self, error: BaseException) -> None:
        """Take the error that ends the run."""


@dataclass(frozen=True)
class BackendWanted:
    """What a run wants of its backend.

    `division` is how this machine's cores are divided for the `scenario`. `batch_tokens` is the
    most that a batch may have, None for what the device can hold.
    """

    scenario: str
    division: Parallelism
    batch_tokens: int | None = None


class Backend(Protocol):
    """Calculates batches, `instances` of them at a time."""

    @property
    def instances(self) -> int:
        """The batches that are calculated side by side."""

    @property
    def batch_tokens(self) -> int:
        """The most tokens that a batch may have, padding included."""

    @property
    def most_samples(self) -> int | None:
        """The samples that a batch may have at most; None without a limit."""

    @property
    def fixed_length(self) -> int | None:
        """The tokens that every sample must have; None where any number will do."""

    def infer(
        self, features: Inputs, samples: Sequence[int], instance: int = 0
    ) -> list[NDArray[np.float32]]:
        """The logits of `samples`, each float32 [its length, 2], from one instance."""

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        """Have every instance calculate the batch `samples` once."""

    def spread(self, features: Inputs, source: Source) -> None:
        """Answer what `source` has, on all instances, until it has no more.

        An error of a batch fails the source; any other error is raised.
        """


def effective_lengths(backend: Backend, features: Inputs) -> NDArray[np.int64]:
    """The tokens that each sample costs: its own, or the model's fixed length."""
    if backend.fixed_length is None:
        return features.lengths
    return np.full(len(features), backend.fixed_length, np.int64)


def side_by_side(parallelism: Parallelism, work: Callable[[int], None]) -> None:
    """Call `work(instance)` for all instances at once, each pinned to its CPUs, and wait.

    If any fail, the first of their errors is raised once all have ended.
    """
    errors: list[BaseException] = []

    def run(instance: int) -> None:
        unpin = pin(parallelism.cpus(instance))
        try:
            work(instance)
        except BaseException as error:  # raised below, in the caller's thread
            errors.append(error)
        finally:
            unpin()

    threads = [
        threading.Thread(target=run, args=(instance,), name=f"instance {instance}")
        for instance in range(1, parallelism.instances)
    ]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def pin(cpus: Sequence[int]) -> Callable[[], None]:
    """Keep the calling thread on the first of `cpus`; the runtime's own threads have the others.

    Call what is returned to undo it.
    """
    if not cpus:
        return lambda: None
    thread = threading.get_native_id()
    before = os.sched_getaffinity(thread)
    os.sched_setaffinity(thread, cpus[:1])
    return lambda: os.sched_setaffinity(thread, before)
