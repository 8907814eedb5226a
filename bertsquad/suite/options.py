"""The command-line options of the suite: how each is parsed, and what its help says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsquad import rules
from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.files import user_path
from bertsquad.loadgen.user_conf import UserConf, content, plain
from bertsquad.models.zoo import DEFAULT_MODELS, MODELS, Model, find
from bertsquad.runtime.parallelism import BATCH_TOKENS, SERVER_THREADS
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS, DatasetEntry
from bertsquad.squad.features import MAX_TOKENS
from bertsquad.worker.handle import read_user_conf

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
    rules: str = "quick"
    accuracy_target: float = 99.0
    reference_f1: float | None = None
    output: Path = field(default_factory=lambda: user_path(OUTPUT))
    user_conf: UserConf | None = None

    @property
    def whole_dataset(self) -> bool:
        """Whether every case runs all samples, however many there are."""
        return self.rules == "mlperf" or self.dataset_size == "all"

    @property
    def timeout_s(self) -> float | None:
        """The seconds after which a case is stopped, None for never."""
        return self.case_timeout_s or (None if self.whole_dataset else rules.QUICK_TIMEOUT_S)

    def conf(self, scenario: str) -> dict[str, float]:
        """What LoadGen reads in the user.conf for a scenario; nothing where none was given."""
        return self.user_conf.of(scenario) if self.user_conf else {}

    def shortest_s(self, scenario: str) -> float:
        """How long a performance run lasts at least, in seconds."""
        usual = rules.MIN_DURATION_S if self.rules == "mlperf" else rules.QUICK_DURATION_S
        return self.min_duration_s or self.conf(scenario).get("min_duration", 1000 * usual) / 1000

    def __post_init__(self) -> None:
        """Refuse what can't go together."""
        if self.rules != "mlperf":
            return
        if self.user_conf is not None:
            _check_official(self.user_conf)
        if self.dataset_size is not None:
            raise SuiteError(
                "--dataset-size can't go with --rules mlperf, which runs the whole data set"
            )
        if self.buffer_size is not None and self.buffer_size < rules.SAMPLES:
            raise SuiteError(
                f"--buffer-size {self.buffer_size} can't go with --rules mlperf, which draws from "
                "all samples"
            )
        if self.min_duration_s is not None and self.min_duration_s < rules.MIN_DURATION_S:
            raise SuiteError(
                f"--min-duration-s {self.min_duration_s:g} can't go with --rules mlperf, which "
                f"wants {rules.MIN_DURATION_S:g} s or more"
            )


def _check_official(conf: UserConf) -> None:
    """Refuse a user.conf that changes what MLPerf's rules leave to LoadGen."""
    for scenario, found in conf.settings.items():
        for key, value in found.items():
            if key in ("target_qps", "target_latency") or value == conf.own[scenario][key]:
                continue
            if key == "min_duration" and value >= rules.MIN_DURATION_S * 1000:
                continue
            raise SuiteError(
                f"{conf.file} sets {key} to {plain(value)} for {scenario}, but --rules mlperf "
                "leaves all but the targets, and a min_duration of "
                f"{rules.MIN_DURATION_S * 1000:g} ms or more, to LoadGen"
            )


def choice(*names: str) -> Callable[[str], str]:
    """A parser that takes one of `names`."""

    def parse(text: str) -> str:
        if text not in names:
            raise SuiteError(f"expected one of {', '.join(names)}, got {text!r}")
        return text

    return parse


def count(text: str) -> int:
    """A parser that takes a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise SuiteError(f"expected a whole number of at least 1, got {text!r}")
    return value


def size(text: str) -> int | str:
    """A parser that takes a number of samples, or `all`."""
    return text if text == "all" else count(text)


def tokens(text: str) -> int:
    """A parser that takes a batch's token budget, which must have room for the longest window."""
    value = count(text)
    if value < MAX_TOKENS:
        raise SuiteError(
            f"expected at least {MAX_TOKENS}, the tokens of the longest sample, got {text!r}"
        )
    return value


def positive(text: str) -> float:
    """A parser that takes a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SuiteError(f"expected a number above 0, got {text!r}")
    return value


def per_cent(text: str) -> float:
    """A parser that takes a number above 0 and at most 100."""
    value = positive(text)
    if value > 100:
        raise SuiteError(f"expected per cent, at most 100, got {text!r}")
    return value


def user_conf(text: str) -> Path:
    """A parser that takes the path of a text file; what LoadGen reads in it shows later."""
    path = user_path(text)
    content(path)
    return path


def output(text: str) -> Path:
    """A parser that takes the path of a folder, which need not exist yet."""
    path = user_path(text)
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise SuiteError(f"expected a folder, but {str(there)!r} is a file")
    return path


@dataclass(frozen=True)
class Option:
    """A command-line option; `parse` makes the value of its `field` of Options from its text.

    An option that `repeats` may be given several times, and its field is a tuple.
    """

    flag: str
    parse: Callable[[str], object]
    metavar: str
    help: str
    repeats: bool = False

    @property
    def field(self) -> str:
        """The field of Options, as `dataset_size` of --dataset-size and `models` of --model."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return f"{name}s" if self.repeats else name


OPTIONS = (
    Option(
        "--model",
        find,
        "NAME|FILE",
        f"{', '.join(MODELS)} or the path of an .onnx file; may be repeated "
        f"(default: {' and '.join(DEFAULT_MODELS)})",
        repeats=True,
    ),
    Option(
        "--dataset",
        datasets.find,
        "NAME",
        f"{' or '.join(DATASETS)}; may be repeated (default: the model's own)",
        repeats=True,
    ),
    Option(
        "--device",
        choice(*DEVICES),
        "NAME",
        f"{', '.join(DEVICES)}; may be repeated (default: all)",
        repeats=True,
    ),
    Option(
        "--precision",
        choice(*PRECISIONS),
        "NAME",
        f"{', '.join(PRECISIONS)}; may be repeated (default: the one the model is stored in, fp32 "
        f"for all but {', '.join(n for n, model in MODELS.items() if model.precision != 'fp32')})",
        repeats=True,
    ),
    Option(
        "--dataset-size",
        size,
        "N|all",
        "samples (windows) to run, from the first on (default: "
        f"{DATASETS['squad'].quick_samples} of a downloaded data set, all of a bundled one; always "
        "all under --rules mlperf)",
    ),
    Option(
        "--buffer-size",
        count,
        "N",
        "LoadGen's performance sample count: how many samples a performance run draws from "
        "(default: all that are run)",
    ),
    Option("--target-qps", positive, "QPS", "the rate of Offline and Server (default: probed)"),
    Option(
        "--target-latency-ms",
        positive,
        "MS",
        "the latency LoadGen expects in SingleStream and MultiStream (default: probed), and "
        f"Server's bound (default: {rules.SERVER_BOUND_MS:g})",
    ),
    Option(
        "--min-duration-s",
        positive,
        "S",
        f"how long a performance run lasts at least (default: {rules.QUICK_DURATION_S:g}, under "
        f"--rules mlperf {rules.MIN_DURATION_S:g})",
    ),
    Option(
        "--case-timeout-s",
        positive,
        "S",
        f"stop a case after this long (default: {rules.QUICK_TIMEOUT_S:g}; none for whole data "
        "sets)",
    ),
    Option(
        "--batch-tokens",
        tokens,
        "N",
        f"tokens that a batch may have, padding included (default: {BATCH_TOKENS}; on a GPU what "
        "its free memory holds)",
    ),
    Option(
        "--instances",
        count,
        "N",
        "batches that are calculated side by side in Offline and Server (default: in Offline one a "
        f"core, in Server one for {SERVER_THREADS} cores; on a GPU 1)",
    ),
    Option(
        "--threads", count, "N", "threads of an instance (default: its share of the physical cores)"
    ),
    Option(
        "--rules",
        choice(*rules.RULES),
        "NAME",
        "quick: a few seconds a case, never a valid MLPerf result; mlperf: LoadGen's own constants "
        f"and all samples (default: {Options.rules})",
    ),
    Option(
        "--accuracy-target",
        per_cent,
        "PERCENT",
        "the share of the reference F1 to reach, as MLPerf's 99 or 99.9 "
        f"(default: {Options.accuracy_target:g})",
    ),
    Option(
        "--reference-f1",
        per_cent,
        "F1",
        "the fp32 model's F1 in per cent, where the suite doesn't know it",
    ),
    Option(
        "--output",
        output,
        "DIR",
        f"a folder for each case's logs and result.json (default: {OUTPUT})",
    ),
    Option("--user-conf", user_conf, "FILE", "a LoadGen user.conf"),
)


def build(given: Mapping[str, Any]) -> Options:
    """Options from what was given on the command line, by field; None means "not given".

    What LoadGen reads in a user.conf is asked here, in a process of its own.
    """
    values: dict[str, Any] = {
        option.field: tuple(given[option.field]) if option.repeats else given[option.field]
        for option in OPTIONS
        if given.get(option.field) is not None
    }
    if (path := values.get("user_conf")) is not None:
        try:
            values["user_conf"] = read_user_conf(path)
        except SuiteError as error:
            raise SuiteError(f"--user-conf: {error}") from error
    return Options(**values)
