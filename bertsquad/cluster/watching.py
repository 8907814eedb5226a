"""Watches nodes, and the head of their cluster, while a run goes on."""

import contextlib
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bertsquad.cluster import actors
from bertsquad.cluster.actors import LOOK_S, NodeActor
from bertsquad.cluster.dispatch import Dispatcher
from bertsquad.cluster.watchdog import EVERY_S, SILENT_S, Watchdog
from bertsquad.errors import SuiteError


class Watch:
    """Pings nodes while it is a context, and has those that are silent or gone count as lost.

    Without its head a cluster ends within a minute, and Ray ends this process with it; so the run
    fails before.
    """

    def __init__(self, ray: Any, nodes: Sequence[NodeActor], dispatcher: Dispatcher) -> None:
        self._ray, self._nodes, self._dispatcher = ray, nodes, dispatcher
        self._dog = Watchdog(dispatcher.alive, time.monotonic())
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._head_answered = time.monotonic()
        #: The nodes that were silent for too long.
        self.silent: set[int] = set()

    def __enter__(self) -> None:
        self._head_answered = time.monotonic()
        self._thread.start()
        threading.Thread(target=self._ask_head, name="head", daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def heard(self, place: int) -> None:
        """A node has answered something."""
        with self._lock:
            self._dog.heard(place, time.monotonic())

    def _look(self) -> None:
        try:
            while not self._over.wait(LOOK_S):
                self._look_at(time.monotonic())
        except Exception as error:  # nobody would notice a silent node any more
            self._dispatcher.fail(error)

    def _look_at(self, now: float) -> None:
        if now - self._head_answered > EVERY_S + SILENT_S:
            self._dispatcher.fail(
                SuiteError(
                    f"the head of the cluster answered nothing for {SILENT_S:g} s, and Ray ends "
                    "all that is left without it: start the cluster again"
                )
            )
            self._over.set()
            return
        with self._lock:
            due, silent = self._dog.to_ping(now), self._dog.silent(now)
        for place in due:
            pinged = self._nodes[place].call("ping")().future()
            pinged.add_done_callback(partial(self._pinged, place))
        for place in silent:
            self.silent.add(place)
            self._lost(place, actors.SILENCE)
            self._ray.kill(self._nodes[place].actor)

    def _ask_head(self) -> None:
        """Ask the head something now and then; that it doesn't answer shows in the time."""
        while not self._over.wait(EVERY_S):
            with contextlib.suppress(self._ray.exceptions.RayError):  # it may answer the next time
                self._ray.nodes()
                self._head_answered = time.monotonic()

    def _pinged(self, place: int, future: Any) -> None:
        error = future.exception()
        if error is None:
            self.heard(place)
        elif not self._over.is_set():
            self._lost(place, actors.cause_of(self._ray, error))

    def _lost(self, place: int, cause: str) -> None:
        with self._lock:
            self._dog.gone(place)
        self._dispatcher.lost(place, cause)
