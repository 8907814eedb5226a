"""LoadGen's settings for a run, and the run itself. Only the worker imports this module."""

import contextlib
import time
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg

from bertsquad.errors import SuiteError
from bertsquad.loadgen import clock, reading
from bertsquad.loadgen.logs import check_written
from bertsquad.loadgen.request import Request, Targets, buffered_samples
from bertsquad.loadgen.sut import Sut
from bertsquad.loadgen.user_conf import plain
from bertsquad.rules import QUICK_DURATION_S, QUICK_QUERIES, TEST01
from bertsquad.scenarios import SCENARIOS, Scenario

#: LoadGen prepares all samples of a run beforehand; so many take some gigabytes.
MOST_SAMPLES = 20_000_000
#: Queries a second in Server's accuracy mode, where a lower rate would only mean waiting.
ACCURACY_SERVER_QPS = 10_000.0
#: LoadGen's settings of each scenario's targets: that of the rate, and that of the latency in ns.
_TARGETS = {
    "offline": ("offline_expected_qps", None),
    "singlestream": (None, "single_stream_expected_latency_ns"),
    "multistream": (None, "multi_stream_expected_latency_ns"),
    "server": ("server_target_qps", "server_target_latency_ns"),
}


def start(sut: Sut, settings: Any, request: Request) -> float:
    """Let LoadGen run; the seconds that it took. Its logs lie in the request's folder then.

    The SUT is closed at the end. Raises the error that one of its callbacks met, if any did, and
    SuiteError where the clock by which LoadGen times stepped meanwhile, or a log isn't whole since
    it couldn't be written.
    """
    folder = Path(request.folder)
    audit = folder / "audit.config"
    if request.mode == "compliance":
        audit.write_text(TEST01.config, encoding="utf-8")
    output = lg.LogOutputSettings()
    output.outdir = request.folder
    output.copy_summary_to_stdout = False
    log = lg.LogSettings()
    log.log_output = output
    log.enable_trace = False  # it grows with the queries
    buffered = buffered_samples(request)
    # All samples are in memory already, so the QSL has nothing to load.
    qsl = lg.ConstructQSL(request.samples, buffered, lambda _: None, lambda _: None)
    # Answers alone are as right by any clock, but Server issues its queries by the clock.
    timed = request.mode != "accuracy" or request.scenario == "server"
    watch = clock.Watch(settings.min_duration_ms / 1000, sut.fail) if timed else None
    if watch is not None:
        sut.look = watch.look
    started = time.perf_counter()
    try:
        with watch or contextlib.nullcontext():
            # LoadGen reads an audit.config in the working directory unless it is given a path.
            lg.StartTestWithLogSettings(sut.handle, qsl, settings, log, str(audit))
    finally:
        seconds = time.perf_counter() - started
        lg.DestroyQSL(qsl)
        sut.close()
    if sut.error is not None:
        raise sut.error
    if watch is not None and watch.stepped_s is not None:
        raise clock.stepped(watch.stepped_s)
    check_written(folder)
    return seconds


def settings_for(request: Request, targets: Targets | None) -> Any:
    """LoadGen's TestSettings for a run; `targets` is None in accuracy mode.

    SuiteError where LoadGen could not run with them.
    """
    scenario = SCENARIOS[request.scenario]
    result = reading.own_settings(scenario.name)
    if request.rules == "quick":
        result.min_duration_ms = int(QUICK_DURATION_S * 1000)
        result.min_query_count = QUICK_QUERIES[request.scenario]
    if request.user_conf is not None:
        reading.apply(request.user_conf, result, scenario.name, request.conf)
    result.scenario = getattr(lg.TestScenario, scenario.loadgen_name)
    accuracy = request.mode == "accuracy"
    result.mode = lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly
    if request.min_duration_s is not None:
        result.min_duration_ms = int(request.min_duration_s * 1000)
    result.performance_sample_count_override = buffered_samples(request)
    if accuracy:
        result.server_target_qps = ACCURACY_SERVER_QPS
        _check_answered(request, result)
    elif targets is not None:
        _check_size(request, targets, result)
        _check_repeated(result)
        _set_targets(result, scenario, targets)
    return result


def goal(request: Request, settings: Any) -> tuple[int | None, float | None]:
    """How many samples a run answers at least, and how many seconds it lasts at least.

    Both are None in Offline's performance runs: LoadGen chooses the samples of its one query.
    """
    size = request.samples_per_query
    if request.mode == "accuracy":
        return -(-request.samples // size) * size, None
    if request.scenario == "offline":
        return None, None
    return settings.min_query_count * size, settings.min_duration_ms / 1000


def _check_size(request: Request, targets: Targets, settings: Any) -> None:
    """SuiteError where a run would have more samples than LoadGen can hold, or no query at all."""
    scenario, size = SCENARIOS[request.scenario], request.samples_per_query
    duration_s = settings.min_duration_ms / 1000
    rate = targets.qps if scenario.has_rate else 1000 / (targets.latency_ms or 1000)
    queries = (rate or 0) * duration_s
    most = f"and it can hold {MOST_SAMPLES:.0e}"
    if queries * size > MOST_SAMPLES:
        raise SuiteError(
            f"{_said(scenario, targets)} over {duration_s:g} s makes LoadGen prepare "
            f"{queries * size:.3g} samples, {most}: give a target that the device can come near to"
        )
    if settings.min_query_count * size > MOST_SAMPLES:
        raise SuiteError(
            f"min_query_count {settings.min_query_count} of the user.conf makes LoadGen prepare "
            f"{settings.min_query_count * size:.3g} samples, {most}: lower it"
        )
    if settings.min_query_count == 0 and queries < 1:  # which ends LoadGen's process
        raise SuiteError(
            f"min_query_count 0 of the user.conf and {_said(scenario, targets)} over "
            f"{duration_s:g} s make a run of no query: raise min_query_count or --min-duration-s"
        )


def _said(scenario: Scenario, targets: Targets) -> str:
    """A run's target, by where it comes from."""
    value = targets.qps if scenario.has_rate else targets.latency_ms
    option, key = (
        ("--target-qps", "target_qps")
        if scenario.has_rate
        else ("--target-latency-ms", "target_latency")
    )
    if targets.source == "option":
        return f"{option} {value:g}"
    if targets.source == "user-conf":
        return f"{key} {value:g} of the user.conf"
    return f"the probed {'rate' if scenario.has_rate else 'latency'}, {option} {value:g},"


def _check_repeated(settings: Any) -> None:
    """SuiteError where the one sample that a run would repeat isn't among those in its buffer."""
    index, buffered = (
        settings.performance_issue_same_index,
        settings.performance_sample_count_override,
    )
    if settings.performance_issue_same and index >= buffered:
        raise SuiteError(
            f"performance_issue_same_index {index} of the user.conf is beyond the {buffered} "
            f"samples that the run draws from: lower it, or raise --buffer-size"
        )


def _check_answered(request: Request, settings: Any) -> None:
    """SuiteError where LoadGen would answer other samples than F1 is of."""
    count = settings.accuracy_sample_count_override
    if count not in (0, request.samples):
        raise SuiteError(
            f"accuracy_sample_count_override {plain(count)} of the user.conf makes LoadGen answer "
            f"other samples than the {request.samples} of the run: take it out, and say by "
            "--dataset-size how many"
        )
    if settings.performance_issue_same:  # LoadGen heeds it here, too
        raise SuiteError(
            "performance_issue_same of the user.conf makes LoadGen answer one sample over and "
            "over, so no F1 can be had: run accuracy cases without it"
        )


def _set_targets(result: Any, scenario: Scenario, targets: Targets) -> None:
    qps, latency_ns = _TARGETS[scenario.name]
    if qps is not None:
        setattr(result, qps, targets.qps)
    if latency_ns is not None and targets.latency_ms is not None:
        setattr(result, latency_ns, int(targets.latency_ms * 1e6))
