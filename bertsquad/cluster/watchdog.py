"""When a node that says nothing any more counts as lost: a decision without a clock or a thread.

Ray itself notices a process that ended within seconds, but a link that went silent only after a
minute. So every node is pinged, and has a time in which to answer.
"""

from collections.abc import Iterable

#: Seconds between two pings of a node.
EVERY_S = 2.0
#: Seconds without any sign of life after which a node is lost. Its engine leaves the thread that
#: answers pings its share of a core even while all instances calculate.
SILENT_S = 10.0


class Watchdog:
    """Knows when each node was last heard of; all times are seconds of one clock."""

    def __init__(self, nodes: Iterable[int], now: float) -> None:
        self._heard = dict.fromkeys(nodes, now)
        self._pinged = dict.fromkeys(self._heard, now - EVERY_S)

    def heard(self, node: int, now: float) -> None:
        """A node has answered anything at all."""
        if node in self._heard:
            self._heard[node] = now

    def gone(self, node: int) -> None:
        """A node is lost: nothing more is expected of it."""
        self._heard.pop(node, None)
        self._pinged.pop(node, None)

    def to_ping(self, now: float) -> list[int]:
        """The nodes to ping now; they count as pinged."""
        due = [node for node, at in self._pinged.items() if now - at >= EVERY_S]
        self._pinged.update(dict.fromkeys(due, now))
        return due

    def silent(self, now: float) -> list[int]:
        """The nodes that have been silent for too long."""
        return [node for node, at in self._heard.items() if now - at > SILENT_S]
