"""An engine's instances on a node, each for one call at a time, until the engine is given up."""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator

from bertsquad.errors import SuiteError
from bertsquad.runtime.engine import Engine


class Instances:
    """Gives callers an instance as soon as one is free.

    Callers are threads that come again and again, so that each stays on the CPU that it was last
    kept on until another is wanted.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ended = False
        self._kept = threading.local()
        self._everywhere = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        for instance in range(engine.instances):
            self._free.put(instance)

    @contextlib.contextmanager
    def one(self) -> Iterator[int]:
        """An instance for the calling thread, which is kept on its CPU."""
        instance = self._free.get()
        try:
            if self._ended:
                raise SuiteError("the engine was given up, since another run needs its memory")
            self._keep_on(self.engine.parallelism.cpus(instance)[:1])
            yield instance
        finally:
            self._free.put(instance)

    def _keep_on(self, cpus: tuple[int, ...]) -> None:
        if cpus != getattr(self._kept, "cpus", ()):
            os.sched_setaffinity(threading.get_native_id(), cpus or self._everywhere)
            self._kept.cpus = cpus

    def end(self) -> None:
        """Wait for the calls that calculate, and let none that waits begin."""
        self._ended = True
        held = [self._free.get() for _ in range(self.engine.instances)]
        for instance in held:  # so that who waits for one learns it
            self._free.put(instance)
