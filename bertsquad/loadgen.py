"""LoadGen: its scenarios, and what a run is asked to do.

`mlperf_loadgen` itself is imported by the worker process alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsquad import rules
from bertsquad.errors import SuiteError

#: LoadGen's name of the benchmark. Any other silently loses BERT's constants.
BENCHMARK = "bert"


@dataclass(frozen=True)
class Scenario:
    """A LoadGen scenario: its name there and the key of its official metric.

    With `has_rate` the metric is a rate in samples/s, otherwise a latency in nanoseconds, the early
    stopping estimate of the `percentile` (in per cent).
    """

    name: str
    loadgen_name: str
    metric: str
    has_rate: bool
    samples_per_query: int = 1
    percentile: int | None = None


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("offline", "Offline", "result_samples_per_second", True),
        Scenario("singlestream", "SingleStream", "early_stopping_latency_ss", False, 1, 90),
        Scenario("multistream", "MultiStream", "early_stopping_latency_ms", False, 8, 99),
        Scenario("server", "Server", "result_completed_samples_per_sec", True),
    )
}
MODES = ("accuracy", "performance", "compliance")
RULES = ("quick", "mlperf")

#: `--rules quick`: how long a performance run lasts, in seconds, and how many queries it has at
#: least. 64 is what LoadGen's early stopping wants in SingleStream.
QUICK_DURATION_S = 3.0
QUICK_QUERIES = {"offline": 1, "singlestream": 64, "multistream": 8, "server": 64}
#: LoadGen prepares all samples of a run beforehand; so many take it some gigabytes.
MOST_SAMPLES = 20_000_000
#: Queries a second in Server's accuracy mode, where the rate means nothing but waiting.
ACCURACY_SERVER_QPS = 10_000.0


@dataclass(frozen=True)
class Request:
    """One run: the case and what the user wants of it. Paths are text, so that it is JSON.

    `mode` `compliance` is a performance run under TEST01's audit. `samples` is the number of
    windows, from the first on; `buffer_size` LoadGen's performance sample count; targets that are
    None come from `user_conf` or the probe. `instances`, `threads` and `pins` are a Parallelism;
    `batch_tokens` is the most that a batch may have, None for the device's default.
    """

    scenario: str
    mode: str
    rules: str
    folder: str
    samples: int
    instances: int = 1
    threads: int = 1
    pins: tuple[tuple[int, ...], ...] = ()
    batch_tokens: int | None = None
    buffer_size: int | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    min_duration_s: float | None = None
    user_conf: str | None = None


@dataclass(frozen=True)
class Targets:
    """What LoadGen is told to expect, and who said so: `option`, `user-conf` or `probe`.

    For Offline and Server `qps` is the rate; for the others `latency_ms` is that of a query; for
    Server `latency_ms` is the bound.
    """

    qps: float | None
    latency_ms: float | None
    source: str


# LoadGen reads three words a line: without the blanks it would pass over the line in silence.
_CONF_LINE = re.compile(
    r"(?P<model>[\w*-]+)\.(?P<scenario>[A-Za-z*]+)\.(?P<key>\w+)\s+=\s+(?P<value>\S+)"
)
#: The keys that LoadGen reads from a user.conf for BERT's scenarios.
_CONF_KEYS = frozenset(
    """mode target_qps target_latency target_latency_percentile min_duration max_duration
    min_query_count max_query_count samples_per_query coalesce_queries max_async_queries
    qsl_rng_seed sample_index_rng_seed schedule_rng_seed performance_sample_count_override
    performance_issue_unique performance_issue_same performance_issue_same_index
    accuracy_log_rng_seed accuracy_log_probability accuracy_log_sampling_target print_timestamps
    sample_concatenate_permutation""".split()
)
#: The keys of a user.conf that take a fraction; LoadGen reads all others as whole numbers.
_FRACTIONS = ("target_qps", "target_latency", "target_latency_percentile")

#: A user.conf's lines that mean BERT: (model, scenario, key), each of the first two maybe `*`.
UserConf = Mapping[tuple[str, str, str], float]


def read_user_conf(path: Path) -> UserConf:
    """Read a LoadGen user.conf; SuiteError names the line that LoadGen would stumble over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} can't be read as a user.conf: {error}") from error
    settings = {}
    scenarios = {scenario.loadgen_name for scenario in SCENARIOS.values()} | {"*"}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _CONF_LINE.fullmatch(text)
        if match is not None and match["key"] not in _CONF_KEYS:
            raise SuiteError(f"{path}, line {number}: LoadGen knows no key {match['key']!r}")
        if match is None or match["scenario"] not in scenarios:
            raise SuiteError(
                f"{path}, line {number}: expected model.Scenario.key = value, blanks around the "
                f"equals sign included, found {text!r}"
            )
        fraction = match["key"] in _FRACTIONS
        number_form = r"\d+(\.\d+)?" if fraction else r"\d+"
        value = match["value"]
        if not re.fullmatch(number_form, value, re.ASCII) or (fraction and float(value) == 0):
            expected = "a number above 0" if fraction else "a whole number"
            raise SuiteError(f"{path}, line {number}: expected {expected}, found {text!r}")
        if match["model"] in (BENCHMARK, "*"):
            settings[match["model"], match["scenario"], match["key"]] = float(value)
    return settings


def _of_conf(request: Request, key: str) -> float | None:
    """What the request's user.conf says of `key`, of several lines the one LoadGen follows."""
    if request.user_conf is None:
        return None
    conf = read_user_conf(Path(request.user_conf))
    scenario = SCENARIOS[request.scenario].loadgen_name
    for place in ((BENCHMARK, scenario), ("*", scenario), (BENCHMARK, "*"), ("*", "*")):
        if (*place, key) in conf:
            return conf[*place, key]
    return None


def given_targets(request: Request) -> Targets | None:
    """The targets that the user gave, by option or else in the user.conf; None if a probe must."""
    scenario = SCENARIOS[request.scenario]
    option = request.target_qps if scenario.has_rate else request.target_latency_ms
    qps = request.target_qps or _of_conf(request, "target_qps")
    latency_ms = request.target_latency_ms or _of_conf(request, "target_latency")
    if (qps if scenario.has_rate else latency_ms) is None:
        return None
    source = "user-conf" if option is None else "option"
    if scenario.name == "server":
        return Targets(qps, server_bound_ms(request), source)
    return Targets(qps, None, source) if scenario.has_rate else Targets(None, latency_ms, source)


def server_bound_ms(request: Request) -> float:
    """The latency that 99 % of Server's queries must keep, in milliseconds."""
    given = request.target_latency_ms or _of_conf(request, "target_latency")
    return given or rules.SERVER_BOUND_MS


def settings(request: Request, targets: Targets | None) -> Any:
    """LoadGen's TestSettings for a run (`targets` is None in accuracy mode, where none count)."""
    import mlperf_loadgen as lg

    scenario = SCENARIOS[request.scenario]
    result = lg.TestSettings()
    # Type 0 is mlperf.conf, compiled in; 2 the user's file. The default, 1, works only once.
    result.FromConfig("", BENCHMARK, scenario.loadgen_name, 0)
    if request.rules == "quick":
        result.min_duration_ms = int(QUICK_DURATION_S * 1000)
        result.min_query_count = QUICK_QUERIES[request.scenario]
    if request.user_conf is not None:
        result.FromConfig(request.user_conf, BENCHMARK, scenario.loadgen_name, 2)
    result.scenario = getattr(lg.TestScenario, scenario.loadgen_name)
    result.mode = (
        lg.TestMode.AccuracyOnly if request.mode == "accuracy" else lg.TestMode.PerformanceOnly
    )
    if request.min_duration_s is not None:
        result.min_duration_ms = int(request.min_duration_s * 1000)
    result.performance_sample_count_override = buffered_samples(request)
    if request.mode == "accuracy":
        result.server_target_qps = ACCURACY_SERVER_QPS
    elif targets is not None:
        _check_size(scenario, targets, result.min_duration_ms / 1000)
        _set_targets(result, request.scenario, targets)
    return result


def goal(request: Request, settings: Any) -> tuple[int | None, float | None]:
    """How many samples a run answers at least, and how many seconds it lasts at least.

    In Offline the samples of a performance run are LoadGen's choice: its one query tells.
    """
    size = SCENARIOS[request.scenario].samples_per_query
    if request.mode == "accuracy":
        return -(-request.samples // size) * size, None
    if request.scenario == "offline":
        return None, None
    return settings.min_query_count * size, settings.min_duration_ms / 1000


def _check_size(scenario: Scenario, targets: Targets, duration_s: float) -> None:
    """SuiteError where the targets make more samples than LoadGen can hold."""
    rate = targets.qps if scenario.has_rate else 1000 / (targets.latency_ms or 1000)
    samples = (rate or 0) * duration_s * scenario.samples_per_query
    if samples > MOST_SAMPLES:
        given = (
            f"--target-qps {targets.qps:g}"
            if scenario.has_rate
            else f"--target-latency-ms {targets.latency_ms:g}"
        )
        raise SuiteError(
            f"{given} over {duration_s:g} s makes LoadGen prepare {samples:.3g} samples, and it "
            f"can hold {MOST_SAMPLES:.0e}: give a target that the device can come near to"
        )


def buffered_samples(request: Request) -> int:
    """LoadGen's performance sample count: how many samples it draws a performance run from."""
    wanted = request.buffer_size or _of_conf(request, "performance_sample_count_override")
    return min(int(wanted or request.samples), request.samples)


def _set_targets(result: Any, scenario: str, targets: Targets) -> None:
    if scenario == "offline":
        result.offline_expected_qps = targets.qps
    elif scenario == "server":
        result.server_target_qps = targets.qps
        if targets.latency_ms is not None:
            result.server_target_latency_ns = int(targets.latency_ms * 1e6)
    elif scenario == "singlestream" and targets.latency_ms is not None:
        result.single_stream_expected_latency_ns = int(targets.latency_ms * 1e6)
    elif scenario == "multistream" and targets.latency_ms is not None:
        result.multi_stream_expected_latency_ns = int(targets.latency_ms * 1e6)
