"""Which node has which batches, and which gets the next: decided without clock, thread or network.

A call is what a node gets at once: one batch, or several where they are short. A batch is given
out, and then answered or put back, whatever dies, and however late or often an answer comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsquad.runtime.inference import Work

#: A batch that takes less than this shares a call with others, which take so long together (s).
SHORT_S, CALL_S = 0.05, 0.5
#: The weight of the newest call in a node's measured speed.
NEWEST = 0.2


@dataclass(frozen=True)
class Call:
    """Batches that a node has, and what they cost: their padded tokens."""

    node: int
    works: tuple[Work, ...]
    tokens: int


@dataclass
class _Node:
    """A node that is alive: its instances, how many calls it has, and their padded tokens.

    `token_s` are the seconds that one instance takes for a padded token, None before an answer.
    """

    instances: int
    calls: int = 0
    tokens: int = 0
    token_s: float | None = None

    @property
    def load(self) -> float:
        """Calls for each instance."""
        return self.calls / self.instances

    def ends_s(self, tokens: int, token_s: float) -> float:
        """The seconds after which it would have done another batch of so many tokens."""
        before = self.tokens / self.instances if self.load >= 1 else 0
        return (before + tokens) * token_s


class Ledger:
    """The nodes of a cluster that are alive, and the calls that each has."""

    def __init__(self, instances: Sequence[int]) -> None:
        """`instances` are those of each node; a node is named by its place among them."""
        self._nodes = {name: _Node(count) for name, count in enumerate(instances)}
        self._calls: dict[int, Call] = {}
        self._given = 0

    @property
    def alive(self) -> list[int]:
        """The nodes that aren't lost."""
        return list(self._nodes)

    @property
    def instances(self) -> int:
        """The instances of all nodes that are alive."""
        return sum(node.instances for node in self._nodes.values())

    def has_room(self, in_flight: int) -> bool:
        """Whether any instance has fewer calls than `in_flight`."""
        return any(node.load < in_flight for node in self._nodes.values())

    def choose(self, tokens: int, waiting: int, in_flight: int) -> int | None:
        """The node for a batch of so many padded `tokens`; None to wait for an answer first.

        It is one with the fewest calls for each instance. Where an instance may have several, no
        node gets a batch with which it would end later than all nodes together need for this one
        and the `waiting` ones: at the end of a run a slow node would, or one that has a queue.
        """
        speeds = self._speeds()
        ends_s = {name: one.ends_s(tokens, speeds[name]) for name, one in self._nodes.items()}
        fit = [name for name, one in self._nodes.items() if one.load < in_flight]
        if in_flight > 1 and fit:
            left = tokens * (1 + waiting) + sum(one.tokens for one in self._nodes.values())
            rate = sum(one.instances / speeds[name] for name, one in self._nodes.items())
            latest = max(left / rate, min(ends_s.values()))
            fit = [name for name in fit if ends_s[name] <= latest]
        return min(fit, key=lambda name: (self._nodes[name].load, ends_s[name]), default=None)

    def portion(self, node: int, tokens: int, waiting: int, in_flight: int) -> int:
        """How many batches of so many `tokens` the call to `node` has, with `waiting` ones left.

        Near the end of a run the calls get smaller, so that all nodes have work until then.
        """
        token_s = self._nodes[node].token_s
        if in_flight == 1 or token_s is None or tokens * token_s >= SHORT_S:
            return 1
        even = (1 + waiting) / (2 * in_flight * self.instances)
        return max(1, int(min(CALL_S / (tokens * token_s), even)))

    def given(self, node: int, works: Sequence[Work], tokens: int) -> int:
        """Note that `node` gets `works`, of so many padded tokens; the number of the call."""
        self._given += 1
        self._calls[self._given] = Call(node, tuple(works), tokens)
        self._nodes[node].calls += 1
        self._nodes[node].tokens += tokens
        return self._given

    def answered(self, call: int, seconds: float) -> Call | None:
        """What was answered after `seconds` of calculating; None where nobody waits for it.

        Then it was answered before, or its node was lost and the batches were put back.
        """
        found = self._end(call)
        if found is not None:
            one = self._nodes[found.node]
            one.token_s = smoothed(one.token_s, seconds / max(found.tokens, 1))
        return found

    def failed(self, call: int) -> Call | None:
        """What won't be answered, since calculating it raised an error; None as in `answered`."""
        return self._end(call)

    def lost(self, node: int) -> list[Work] | None:
        """Take the node out; the batches to put back, None where it was lost before."""
        if self._nodes.pop(node, None) is None:
            return None
        ended = [number for number, call in self._calls.items() if call.node == node]
        return [work for number in ended for work in self._calls.pop(number).works]

    def forget(self) -> None:
        """Wait for no answer any more, since the run is over."""
        for number in list(self._calls):
            self._end(number)

    def _end(self, number: int) -> Call | None:
        call = self._calls.pop(number, None)
        if call is not None:
            self._nodes[call.node].calls -= 1
            self._nodes[call.node].tokens -= call.tokens
        return call

    def _speeds(self) -> dict[int, float]:
        """Seconds for a padded token, of nodes that haven't answered yet the mean of the others."""
        known = [one.token_s for one in self._nodes.values() if one.token_s is not None]
        usual = sum(known) / len(known) if known else 1.0
        return {
            name: usual if one.token_s is None else one.token_s for name, one in self._nodes.items()
        }


def smoothed(before: float | None, newest: float) -> float:
    """A node's seconds for a padded token, of those before and of its newest call; never 0."""
    newest = max(newest, 1e-12)
    return newest if before is None else before + NEWEST * (newest - before)
