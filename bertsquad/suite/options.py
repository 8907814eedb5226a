"""What a user may ask for: the options of one pytest session, parsed and fitting together."""

from dataclasses import dataclass, field
from pathlib import Path

from bertsquad import rules
from bertsquad.cluster.address import Address
from bertsquad.errors import SuiteError
from bertsquad.files import user_path
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.models.zoo import Model
from bertsquad.squad.datasets import DatasetEntry
from bertsquad.suite import conflicts

#: Where results go unless `--output` says otherwise, from the current folder.
OUTPUT = "results"


@dataclass(frozen=True)
class Options:
    """The options of one pytest session, parsed. Empty tuples and None mean "not given"."""

    models: tuple[Model, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    dataset_size: int | str | None = None
    buffer_size: int | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    min_duration_s: float | None = None
    case_timeout_s: float | None = None
    batch_tokens: int | None = None
    instances: int | None = None
    threads: int | None = None
    gpus: int | None = None
    cluster: Address | None = None
    nodes: int | None = None
    rules: str = "quick"
    accuracy_target: float = 99.0
    reference_f1: float | None = None
    output: Path = field(default_factory=lambda: user_path(OUTPUT))
    user_conf: UserConf | None = None
    tokenizer: Path | None = None
    max_length: int | None = None
    doc_stride: int | None = None
    null_threshold: float = 0.0
    outputs: tuple[str, str] | None = None
    calibration: Path | None = None
    gate: float | None = None
    gate_accept: bool = False
    requires: tuple[tuple[str, ...], ...] = ()

    @property
    def whole_dataset(self) -> bool:
        """Whether every case runs all samples, however many there are."""
        return self.rules == "mlperf" or self.dataset_size == "all"

    @property
    def timeout_s(self) -> float | None:
        """The seconds after which a case is stopped, None for never."""
        return self.case_timeout_s or (None if self.whole_dataset else rules.QUICK_TIMEOUT_S)

    @property
    def required(self) -> tuple[str, ...]:
        """The cases that must run, by their names, each once."""
        return tuple(dict.fromkeys(case for some in self.requires for case in some))

    @property
    def own(self) -> dict[str, str]:
        """What was given for a model or data of the user's own, by option, as it may be typed."""
        found = {
            "--tokenizer": self.tokenizer,
            "--max-length": self.max_length,
            "--doc-stride": self.doc_stride,
            "--outputs": ",".join(self.outputs) if self.outputs else None,
            "--calibration": self.calibration,
        }
        return {flag: str(value) for flag, value in found.items() if value is not None}

    def conf(self, scenario: str) -> dict[str, float]:
        """What LoadGen reads in the user.conf for a scenario; nothing where none was given."""
        return self.user_conf.of(scenario) if self.user_conf else {}

    def shortest_s(self, scenario: str) -> float:
        """How long a performance run lasts at least, in seconds."""
        usual = rules.MIN_DURATION_S if self.rules == "mlperf" else rules.QUICK_DURATION_S
        return self.min_duration_s or self.conf(scenario).get("min_duration", 1000 * usual) / 1000

    def __post_init__(self) -> None:
        """Refuse what can't go together."""
        foreign = {**self.own, "--null-threshold": self.null_threshold or None}
        conflicts.refuse_foreign(foreign, self.models, self.datasets)
        conflicts.refuse_other_nodes(self.cluster, self.nodes)
        conflicts.refuse_to_accept(self.gate_accept, self.gate)
        if self.gpus is not None:
            conflicts.refuse_without_gpu(f"--gpus {self.gpus}", self.devices)
        if self.batch_tokens and self.max_length and self.batch_tokens < self.max_length:
            raise SuiteError("--batch-tokens must have room for a window of --max-length: raise it")
        if self.rules != "mlperf":
            return
        if self.user_conf is not None:
            conflicts.refuse_unofficial(self.user_conf)
        conflicts.refuse_shorter(self.dataset_size, self.buffer_size, self.min_duration_s)
