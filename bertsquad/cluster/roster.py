"""The list of nodes that are there now, each with an actor that was compared with the driver.

Only the worker process imports this module, and only for a cluster.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from bertsquad.assets.cache import PACKAGE
from bertsquad.cluster import actors
from bertsquad.cluster.actors import NodeActor, NodeLost
from bertsquad.cluster.agreement import disagreement
from bertsquad.cluster.connection import Listed, connect, members
from bertsquad.cluster.facts import Loss, NodeFacts, Observation
from bertsquad.cluster.fleet import Fleet
from bertsquad.cluster.membership import Membership
from bertsquad.cluster.node import EngineWanted, Survey, versions
from bertsquad.cluster.observing import observed
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import provenance
from bertsquad.models.preparation import Prepared
from bertsquad.progress import Show, Step
from bertsquad.runtime.inference import BackendWanted


class Roster:
    """The nodes of a cluster that can calculate, and the fleet that they are."""

    def __init__(
        self, membership: Membership, device: str, precision: str, longest: int, show: Show
    ) -> None:
        """Join the cluster; SuiteError or Unavailable where a node can't take part.

        No window has more than `longest` tokens.
        """
        self._membership = membership
        self._device, self._precision, self._longest = device, precision, longest
        self._ray = connect(membership)
        self._there: dict[str, tuple[NodeActor, Survey]] = {}  # by Ray's id of the node
        self._silent: set[str] = set()  # nodes that were lost in silence, which don't come back
        self._lost: list[Loss] = []  # of all runs until now
        self._fleet: Fleet | None = None
        self._gather(show)

    @property
    def facts(self) -> Sequence[NodeFacts]:
        """The nodes of the fleet."""
        return self._fleet.facts if self._fleet else ()

    @property
    def losses(self) -> Sequence[Loss]:
        """The nodes that were lost since the backend was made."""
        return self._fleet.losses if self._fleet else ()

    def _gather(self, show: Show) -> None:
        """See which nodes are there now, and have an actor on each that agrees with the driver."""
        show(Step("joining the nodes"))
        found = _by_name([one for one in members(self._ray) if one.id not in self._silent])
        self._check(found)
        if self._membership.only:
            found = {id_: one for id_, one in found.items() if one[0] in self._membership.only}
        for gone in self._there.keys() - found.keys():
            del self._there[gone]
        new = {
            id_: actors.begin(self._ray, listed, name, self._membership.instances)
            for id_, (name, listed) in found.items()
            if id_ not in self._there
        }
        try:
            asked = {
                one: one.call("survey")(self._device, self._longest, self._membership.gpus)
                for one in new.values()
            }
            surveys = actors.begun(self._ray, asked)
            here = versions(DEVICES[self._device])
            differs = disagreement(here, provenance.source_digest(PACKAGE), surveys)
            if differs is not None:
                raise SuiteError(differs)
        except BaseException:
            actors.end(self._ray, list(new.values()))
            raise
        self._there |= {id_: (one, surveys[one.name]) for id_, one in new.items()}

    def _check(self, found: Mapping[str, tuple[str, Listed]]) -> None:
        """Unavailable unless the nodes that are wanted are there."""
        names, wanted = [name for name, _ in found.values()], self._membership.nodes
        lost = "; ".join(map(str, self._lost))
        since = f", since {lost}" if lost else ""
        if not names:
            told = f"no node of the cluster is left{since}: start nodes again"
            raise Unavailable(told, "cluster")
        if wanted is not None and len(names) != wanted:
            raise Unavailable(
                f"--nodes {wanted} wants as many nodes, but the cluster has {len(names)} "
                f"({', '.join(names)}){since}: start nodes or end some, or ask for {len(names)}",
                "cluster",
            )
        missing = set(self._membership.only) - set(names)
        if missing:
            raise Unavailable(
                f"the cluster has no node {' and no node '.join(sorted(missing))}, but "
                f"{', '.join(names)}: give others",
                "cluster",
            )

    def backend(self, wanted: BackendWanted, prepared: Callable[[], Prepared], show: Show) -> Fleet:
        """The nodes as one backend; the same as before where nothing has changed.

        Each divides its own cores, so that the division of this machine's counts for nothing. A
        batch has no more tokens than every node can hold.
        """
        self._dismiss()
        self._gather(show)
        nodes = [node for node, _ in self._there.values()]
        most = min(survey.batch_tokens for _, survey in self._there.values())
        tokens = wanted.batch_tokens or most
        fleet = self._fleet
        if (
            fleet is None
            or fleet.nodes != tuple(nodes)
            or (fleet.wanted.scenario, fleet.batch_tokens) != (wanted.scenario, tokens)
        ):
            self._fleet = None
            engine = EngineWanted(
                prepared(),
                self._device,
                self._precision,
                wanted.scenario,
                tokens,
                self._membership.instances,
                self._membership.threads,
                self._membership.gpus,
            )
            try:
                self._fleet = fleet = Fleet(self._ray, nodes, engine, show)
            except NodeLost as error:
                self._give_up({error.name}, {error.name} if error.silent else ())
                raise
        return fleet

    def _dismiss(self) -> None:
        """End the actors of nodes that were lost in the last run."""
        fleet = self._fleet
        if fleet is None or fleet.whole:
            return
        self._lost += fleet.losses
        self._give_up({loss.node for loss in fleet.losses}, fleet.silent)
        self._fleet = None

    def _give_up(self, lost: Collection[str], silent: Collection[str]) -> None:
        """End the actors of lost nodes, which may be there behind a broken connection.

        Those that fell `silent` get no actor again, since nobody would answer.
        """
        for id_, (node, _) in list(self._there.items()):
            if node.name in lost:
                actors.end(self._ray, [node])
                del self._there[id_]
                if node.name in silent:
                    self._silent.add(id_)

    @contextlib.contextmanager
    def observed(self, timed: bool, show: Show) -> Iterator[Observation]:
        """Watch the nodes' machines; what is timed has their devices to itself meanwhile.

        Raises NodeLost where one was lost since the backend was made, as in the probe.
        """
        fleet = self._fleet
        assert fleet is not None
        for loss in fleet.losses:
            raise NodeLost(loss.node, loss.cause)
        nodes = list(zip(fleet.nodes, fleet.facts, strict=True))
        device = self._device if timed else None
        with observed(self._ray, nodes, device, lambda said: show(Step(said))) as seen:
            yield seen
            fleet.verify()


def _by_name(found: Sequence[Listed]) -> dict[str, tuple[str, Listed]]:
    """By Ray's id, each node and its name: its address, with the id where two have the same."""
    count = Counter(one.address for one in found)
    return {
        one.id: (f"{one.address} ({one.id[:8]})" if count[one.address] > 1 else one.address, one)
        for one in found
    }
