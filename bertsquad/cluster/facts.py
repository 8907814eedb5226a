"""What a node is, what it did in a run, and how it was lost: all as JSON can hold it."""

from dataclasses import dataclass, field
from typing import Any

from bertsquad.machine.noise import Disturbance


@dataclass(frozen=True)
class NodeFacts:
    """One machine of a cluster, and the engine on it.

    `node` is its address, by which messages name it; `machine` is the same for nodes that share a
    machine. `cores` are those that it may use, `gpus` the names of the GPUs that it uses. `source`
    is the digest of the suite's own code there. `instances`, `threads` and `batch_tokens` are its
    engine's. `processor` has more of that, by the keys of a result's provenance.
    """

    node: str
    host: str
    machine: str
    cpu: str
    cores: int
    physical_cores: int
    sockets: int
    cpu_quota: float | None
    memory_bytes: int
    gpus: list[str]
    operating_system: str
    versions: dict[str, str]
    source: str
    provider: str
    proof: str
    instances: int
    threads: int
    batch_tokens: int
    processor: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeRun(NodeFacts):
    """A node, and what it did in a run.

    `samples` it answered, a `share` of all from 0 to 1. `busy_share` is the share of the run, from
    0 to 1, in which its instances calculated. `samples_per_s` are for the spans of the timeline's
    `course`. `peak_memory_bytes` is the most memory that its process has had until then.
    """

    samples: int = 0
    share: float = 0.0
    busy_share: float = 0.0
    samples_per_s: list[float] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Loss:
    """A node that was lost: at which second of the run, and the cause in a clause."""

    node: str
    second: float
    cause: str

    def __str__(self) -> str:
        return f"node {self.node} was lost {self.second:.1f} s after the start: {self.cause}"


@dataclass
class Observation:
    """What was seen around a run, by node; what is of this machine, where it is none, has no name.

    It is filled when the run has ended.
    """

    disturbances: dict[str, list[Disturbance]] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int | None] = field(default_factory=dict)
