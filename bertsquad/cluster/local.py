"""A cluster on this machine, for trying and for tests: started for a pytest session, and ended."""

import contextlib
import subprocess
import sys
from types import TracebackType
from typing import Any

from bertsquad import typed
from bertsquad.cluster.address import host_and_port
from bertsquad.cluster.guardian import GPUS, STARTING_S, Started, listens
from bertsquad.cluster.membership import Membership
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import environment

#: How long a guardian may take to end all, in seconds.
ENDING_S = 10.0


class LocalCluster:
    """Nodes on this machine that divide its cores; gone when it is closed, or this process is.

    `address` is the HOST:PORT of the head, `token_file` the file with the token that it wants.
    """

    def __init__(self, nodes: int, timeout_s: float | None = None, with_gpus: bool = False) -> None:
        """Start them and wait until they are up, some seconds; they divide the GPUs, too, if asked.

        Unavailable where they can't be, or not within `timeout_s`.
        """
        if not sys.platform.startswith("linux"):
            raise Unavailable(
                f"--cluster local:{nodes} needs Linux, where each node has a loopback address of "
                "its own: give the HOST:PORT of a cluster that was started with `ray start`",
                "cluster",
            )
        limit = min(STARTING_S, timeout_s or STARTING_S)
        self._guardian = subprocess.Popen(
            [
                *(sys.executable, "-m", "bertsquad.cluster.guardian", str(nodes), str(limit)),
                *([GPUS] if with_gpus else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment.of_child(),
            start_new_session=True,  # a terminal's Ctrl-C is for pytest's process to handle
        )
        try:
            started = self._answer()
            if started.error:
                raise Unavailable(started.error, "cluster")
        except BaseException:
            self.close()
            raise
        self.address, self.token_file = started.address, started.token_file
        self._nodes = nodes

    def membership(self, **given: Any) -> Membership:
        """What a worker that joins it is told; `given` are other fields of a Membership."""
        return Membership(self.address, token_file=self.token_file, coming=self._nodes, **given)

    @property
    def alive(self) -> bool:
        """Whether it can be joined: its head may have died, and whoever would end it, too."""
        place = host_and_port(self.address)
        return place is not None and self._guardian.poll() is None and listens(*place)

    def _answer(self) -> Started:
        assert self._guardian.stdout is not None
        line = self._guardian.stdout.readline()
        try:
            return typed.build(Started, typed.parse(line))
        except typed.NotJson:
            raise SuiteError(
                "the process that starts the local cluster ended with status "
                f"{self._guardian.wait()}: run it again"
            ) from None

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the nodes, and wait until nothing of them is left."""
        assert self._guardian.stdin is not None and self._guardian.stdout is not None
        with contextlib.suppress(OSError):
            self._guardian.stdin.close()
        try:
            self._guardian.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        self._guardian.stdout.close()
