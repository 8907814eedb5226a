"""Which cluster a worker joins, and what it wants of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Membership:
    """What a worker is told of its cluster.

    `address` is `auto` or `HOST:PORT`. Exactly `nodes` are wanted, None for all that are there.
    `instances`, `threads` and `gpus` are what the user asked for on each node. `token_file` holds
    the token of a cluster that the suite started; of any other, Ray finds the user's own.
    `coming` is how many nodes are waited for, a few seconds; fewer will do after that. Where `only`
    has names of nodes, no others take part.
    """

    address: str
    nodes: int | None = None
    instances: int | None = None
    threads: int | None = None
    gpus: int | None = None
    token_file: str | None = None
    coming: int = 1
    only: tuple[str, ...] = ()
