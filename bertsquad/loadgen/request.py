"""LoadGen: its scenarios, and what a run is asked to do.

`mlperf_loadgen` itself is imported by the worker process alone.
"""

from dataclasses import dataclass
from pathlib import Path

from bertsquad.loadgen.user_conf import BENCHMARK, read_user_conf
from bertsquad.rules import SERVER_BOUND_MS
from bertsquad.scenarios import SCENARIOS


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
    return given or SERVER_BOUND_MS


def buffered_samples(request: Request) -> int:
    """LoadGen's performance sample count: how many samples it draws a performance run from."""
    wanted = request.buffer_size or _of_conf(request, "performance_sample_count_override")
    return min(int(wanted or request.samples), request.samples)
