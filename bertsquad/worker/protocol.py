"""What the pytest process and the worker say to each other: each message a line of JSON.

To the worker: a Setup (or DevicesAsked, or UserConfAsked), then a Request for each run. From it:
Loading and Steps while it is at something, then one answer: Ready, DevicesFound, UserConf, Measured
or Raised. Failing may come before it.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from bertsquad import typed
from bertsquad.assets.fingerprint import ModelFiles
from bertsquad.cluster.facts import Loss, NodeRun
from bertsquad.cluster.membership import Membership
from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable
from bertsquad.loadgen.request import Request, Targets
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.machine.noise import Disturbance
from bertsquad.models.reads import AS_MLPERF, Reads
from bertsquad.models.scales import Quantisation
from bertsquad.progress import Step
from bertsquad.squad.datasets import CalibrationSet
from bertsquad.squad.known_questions import KnownSet


@dataclass(frozen=True)
class Setup:
    """What a worker is made for: one model on one device in one precision, over one data set.

    `threads` are for preparing the model. `calibration` is what it is quantised with, or the reason
    why there is nothing for that. `reads` is what the model is fed with, `known` are questions to
    tell its outputs apart by, where that is needed. `cluster` says where batches are calculated,
    None for this machine. Paths are text, so that it is JSON.
    """

    model: ModelFiles
    features: str
    device: str
    precision: str
    threads: int
    calibration: CalibrationSet | str
    reads: Reads = AS_MLPERF
    known: KnownSet | None = None
    cluster: Membership | None = None


@dataclass(frozen=True)
class DevicesAsked:
    """Asks which devices this machine has, instead of a Setup."""


@dataclass(frozen=True)
class DevicesFound:
    """The answer to DevicesAsked.

    `reasons` says for each device why it can't run a small model (None if it can), `precisions`
    what those that can calculate in, `versions` what loaded modules say of themselves.
    """

    reasons: dict[str, str | None]
    precisions: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loading:
    """A library is being loaded, which may end the process; None when all are loaded."""

    library: str | None


@dataclass(frozen=True)
class UserConfAsked:
    """Asks what LoadGen reads in a user.conf, instead of a Setup; the answer is a UserConf."""

    file: str


@dataclass(frozen=True)
class Ready:
    """The model is prepared: what was done to it, and the type of its inputs.

    `padded_to` is the length that every sample must be padded to, None if none. `rebuilt` says what
    was wrong with the copy in the cache (`damaged` or `older`), None if nothing. `versions` are
    those that the loaded modules say of themselves. `quantisation` is None where it isn't int8.
    """

    preparation: str
    input_type: str
    padded_to: int | None
    rebuilt: str | None
    versions: dict[str, str] = field(default_factory=dict)
    quantisation: Quantisation | None = None


@dataclass(frozen=True)
class Measured:
    """A run has ended: what LoadGen's logs don't tell of it.

    `targets` is None in an accuracy run. `timeline` is the digest of its timeline; `unwritten` says
    why a file of the run could not be written, None if all were. `nodes` are those of a cluster
    that began the run, `nodes_lost` those of them that didn't end it.
    """

    seconds: float
    targets: Targets | None
    provider: str
    proof: str
    batch_tokens: int
    batches: int
    padding_share: float
    peak_memory_bytes: int | None
    disturbances: list[Disturbance]
    timeline: dict[str, Any]
    unwritten: str | None
    nodes: list[NodeRun] = field(default_factory=list)
    nodes_lost: list[Loss] = field(default_factory=list)


@dataclass(frozen=True)
class Failing:
    """A callback has failed; LoadGen goes on until its time is up."""

    message: str


@dataclass(frozen=True)
class Raised:
    """What was asked for can't be done: the kind of the error, and its sentence.

    `subject` is that of an Unavailable.
    """

    kind: str
    message: str
    subject: str = ""

    @classmethod
    def of(cls, error: SuiteError) -> "Raised":
        """The message for an error."""
        if isinstance(error, Unavailable):
            return cls(Unavailable.__name__, str(error), error.subject)
        kind = BoundUnattainable if isinstance(error, BoundUnattainable) else SuiteError
        return cls(kind.__name__, str(error))

    def error(self) -> SuiteError:
        """The error again, in the other process."""
        if self.kind == Unavailable.__name__:
            return Unavailable(self.message, self.subject)
        kind = BoundUnattainable if self.kind == BoundUnattainable.__name__ else SuiteError
        return kind(self.message)


ToWorker = Setup | DevicesAsked | UserConfAsked | Request
Answer = Ready | DevicesFound | UserConf | Measured
FromWorker = Answer | Loading | Step | Failing | Raised

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, DevicesAsked, UserConfAsked, Request),
        *(Ready, DevicesFound, UserConf, Measured, Loading, Step, Failing, Raised),
    )
}


def encode(message: ToWorker | FromWorker) -> str:
    """A message as a line of JSON."""
    return json.dumps({"message": type(message).__name__, "fields": asdict(message)}) + "\n"


def decode(line: str) -> Any:
    """The message in a line, None where the line is none, as what a library prints.

    Raises SuiteError where a message lacks a field or has one of another type.
    """
    try:
        document = typed.parse(line)
    except typed.NotJson:
        return None
    if not isinstance(document, dict) or document.keys() != {"message", "fields"}:
        return None
    name, fields = document["message"], document["fields"]
    if not isinstance(name, str) or name not in _KINDS or not isinstance(fields, dict):
        raise SuiteError(
            "the worker and pytest's process are of different versions: expected one of the "
            f"messages {', '.join(_KINDS)}, found {str(name)[:60]!r}; reinstall the suite"
        )
    try:
        return typed.build(_KINDS[name], fields, whole=True)
    except typed.Misfit as error:
        raise SuiteError(
            f"the worker and pytest's process are of different versions: in a message {name}, "
            f"{error}; reinstall the suite"
        ) from None
