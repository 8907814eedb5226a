"""What a run is asked to do, and which of LoadGen's targets the user gave."""

from dataclasses import dataclass, field

from bertsquad.rules import SERVER_BOUND_MS
from bertsquad.runtime.parallelism import ONE, Parallelism
from bertsquad.scenarios import SCENARIOS


@dataclass(frozen=True)
class Request:
    """One run: the case and what the user wants of it. Paths are text, so that it is JSON.

    `mode` `compliance` is a performance run under TEST01's audit. `samples` is the number of
    windows, from the first on; `buffer_size` LoadGen's performance sample count; targets that are
    None come from the user.conf or the probe. `batch_tokens` is the most that a batch may have,
    None for the device's default. `user_conf` is the file for LoadGen, `conf` what LoadGen read in
    it for the scenario, by the file's keys and in its units.
    """

    scenario: str
    mode: str
    rules: str
    folder: str
    samples: int
    parallelism: Parallelism = ONE
    batch_tokens: int | None = None
    buffer_size: int | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    min_duration_s: float | None = None
    user_conf: str | None = None
    conf: dict[str, float] = field(default_factory=dict)

    @property
    def samples_per_query(self) -> int:
        """The samples of a query; in Offline 1, since LoadGen chooses those of its one query."""
        usual = SCENARIOS[self.scenario].samples_per_query
        return int(self.conf.get("samples_per_query", usual))


@dataclass(frozen=True)
class Targets:
    """What LoadGen is told to expect, and who said so: `option`, `user-conf` or `probe`.

    For Offline and Server `qps` is the rate; for the others `latency_ms` is that of a query; for
    Server `latency_ms` is the bound.
    """

    qps: float | None
    latency_ms: float | None
    source: str


def given_targets(request: Request) -> Targets | None:
    """The targets that the user gave, by option or else in the user.conf; None if a probe must."""
    scenario = SCENARIOS[request.scenario]
    option = request.target_qps if scenario.has_rate else request.target_latency_ms
    qps = request.target_qps or request.conf.get("target_qps")
    latency_ms = request.target_latency_ms or request.conf.get("target_latency")
    if (qps if scenario.has_rate else latency_ms) is None:
        return None
    source = "user-conf" if option is None else "option"
    if scenario.name == "server":
        return Targets(qps, server_bound_ms(request), source)
    return Targets(qps, None, source) if scenario.has_rate else Targets(None, latency_ms, source)


def server_bound_ms(request: Request) -> float:
    """The latency that 99 % of Server's queries must keep, in milliseconds."""
    given = request.target_latency_ms or request.conf.get("target_latency")
    return given or SERVER_BOUND_MS


def buffered_samples(request: Request) -> int:
    """LoadGen's performance sample count: how many samples it draws a performance run from."""
    wanted = request.buffer_size or request.conf.get("performance_sample_count_override")
    return min(int(wanted or request.samples), request.samples)
