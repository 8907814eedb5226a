"""From samples to logits: batches through an engine, instances side by side."""

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.runtime.engine import Engine
from bertsquad.squad.features import Features


def effective_lengths(engine: Engine, features: Features) -> NDArray[np.int64]:
    """The tokens that each sample costs: its own, or the model's fixed length."""
    if engine.fixed_length is None:
        return features.lengths
    return np.full(len(features), engine.fixed_length, np.int64)


def infer(
    engine: Engine, features: Features, samples: Sequence[int], instance: int = 0
) -> list[NDArray[np.float32]]:
    """The logits of `samples`, each float32 [its length, 2], in one batch if the model allows it.

    Raises SuiteError where they aren't finite, since no figure made of them would mean anything.
    """
    size = engine.fixed_batch or len(samples)
    answers: list[NDArray[np.float32]] = []
    for start in range(0, len(samples), size):
        chunk = list(samples[start : start + size])
        filled = chunk + chunk[-1:] * (size - len(chunk))
        logits = engine.logits(*features.batch(filled, engine.fixed_length), instance=instance)
        for row, sample in enumerate(chunk):
            # Without those of the padding, which may be anything.
            own = logits[row, : features.offsets[sample + 1] - features.offsets[sample]]
            if not np.isfinite(own).all():
                raise SuiteError(
                    f"the model answered sample {sample} with logits that are NaN or infinite on "
                    f"{engine.device.name} in {engine.precision}, so nothing is scored or timed: "
                    "check the model, or choose another --precision"
                )
            answers.append(own)
    return answers


def side_by_side(engine: Engine, work: Callable[[int], None]) -> None:
    """Call `work(instance)` for all instances at once, each pinned to its CPUs, and wait.

    If any fail, the first of their errors is raised once all have ended.
    """
    errors: list[BaseException] = []

    def run(instance: int) -> None:
        unpin = pin(engine.parallelism.cpus(instance))
        try:
            work(instance)
        except BaseException as error:  # raised below, in the caller's thread
            errors.append(error)
        finally:
            unpin()

    threads = [
        threading.Thread(target=run, args=(instance,), name=f"instance {instance}")
        for instance in range(1, engine.instances)
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
