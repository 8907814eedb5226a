"""The cluster that the cases run on: one that is there, or one started for the pytest session."""

from collections.abc import Callable
from dataclasses import replace

from bertsquad.cluster.local import LocalCluster
from bertsquad.cluster.membership import Membership
from bertsquad.devices import DEVICES
from bertsquad.machine import hardware
from bertsquad.progress import Show, Step
from bertsquad.suite.options import Options


class Nodes:
    """What is asked for of a cluster; nodes on this machine are started when one is needed."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._local: LocalCluster | None = None

    def membership(self, show: Show, say: Callable[[str], object]) -> Membership | None:
        """What a worker joins, None where no cluster is asked for.

        Nodes of this machine whose head has died are started anew, all of them.
        Unavailable where nodes on this machine can't be started.
        """
        options = self._options
        if options.cluster is None:
            return None
        count = options.cluster.local
        if count is None:
            made = Membership(options.cluster.text)
        else:
            made = self._of_this_machine(count, show, say)
        return replace(
            made,
            nodes=options.nodes,
            instances=options.instances,
            threads=options.threads,
            gpus=options.gpus,
        )

    def _of_this_machine(self, count: int, show: Show, say: Callable[[str], object]) -> Membership:
        """How to join nodes of this machine, which are started where they aren't there."""
        options = self._options
        if self.lost:
            self.close()
        if self._local is None:
            cores = hardware.cores()
            if count > cores:
                say(f"{options.cluster}: the nodes share cores, as there are only {cores} here")
            show(Step("starting the cluster"))
            with_gpus = any(DEVICES[device].is_gpu for device in options.devices or DEVICES)
            self._local = LocalCluster(count, options.timeout_s, with_gpus)
        return self._local.membership()

    @property
    def lost(self) -> bool:
        """Whether nodes were started that nobody can join any more."""
        return self._local is not None and not self._local.alive

    def close(self) -> None:
        """End the nodes that were started, and wait until nothing of them is left."""
        if self._local is not None:
            self._local.close()
            self._local = None
