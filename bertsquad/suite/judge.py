"""From what was measured to a verdict."""

import contextlib
import dataclasses
from pathlib import Path

from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Run
from bertsquad.loadgen.timeline import PERCENTILES
from bertsquad.results import compliance, validity
from bertsquad.results.result import FAILED, PASSED, RESULT, Result, Verdict
from bertsquad.scenarios import SCENARIOS
from bertsquad.worker.protocol import Event


def judge_timed(result: Result, run: Run, event: Event) -> Verdict:
    """Fill in what LoadGen's log says of a timed run; the verdict on it."""
    scenario = SCENARIOS[result.scenario]
    result.loadgen_valid = run.valid
    result.invalid_causes = [dataclasses.asdict(cause) for cause in run.invalid_causes]
    result.mlperf_metric = scenario.metric
    result.mlperf_metric_value = run.metric(scenario)
    result.qps = result.mlperf_metric_value if scenario.has_rate else None
    result.latency_p50_ms = run.latency_ms(50)
    result.latency_p90_ms = run.latency_ms(90)
    result.latency_p99_ms = run.latency_ms(99)
    result.latency_p99_9_ms = run.latency_ms(99.9)
    result.buffer_size = run.values.get("effective_performance_sample_count")
    result.min_duration_s = run.values.get("effective_min_duration_ms", 0) / 1000
    result.min_query_count = run.values.get("effective_min_query_count")
    result.query_count = run.values.get("result_query_count")
    result.target_qps = event["target_qps"]
    result.target_latency_ms = event["target_latency_ms"]
    result.target_source = event["target_source"]
    return validity.judge_performance(result.rules, run.valid, run.invalid_reasons, result.what)


def off_by_us(digest: Event, run: Run) -> float | None:
    """How far the SUT's latencies are from LoadGen's, at the worst percentile of its log; in us."""
    curve = dict(zip(digest["latency"]["percentile"], digest["latency"]["ms"], strict=True))
    logged = {percentile: run.latency_ms(percentile) for percentile in PERCENTILES}
    apart = [abs(curve[p] - ms) * 1e3 for p, ms in logged.items() if ms is not None and p in curve]
    return round(max(apart), 1) if apart else None


def compliance_verdict(
    result: Result, run: Run, accuracy: Result, performance: Result, unaudited: Verdict
) -> Verdict:
    """Fill in what TEST01 found; the verdict on the audited run."""
    audited = compliance.audit(
        run, logs.read_run(Path(performance.run_dir)), Path(accuracy.run_dir), result
    )
    result.target_source = performance.target_source
    result.compliance_responses = audited.comparison.responses
    result.compliance_largest_difference = audited.comparison.largest
    result.compliance_speed_ratio = audited.speed_ratio
    return audited.verdict if unaudited.word == PASSED else unaudited


def save(result: Result, unwritten: str | None) -> None:
    """Write `result.json`; where it or what is `unwritten` can't be, the result says so and fails.

    So the figures still reach the table and the JSON.
    """
    try:
        if unwritten is None:
            result.save()
            return
    except OSError as error:
        place = Path(result.run_dir) / RESULT
        unwritten = f"{place} could not be written ({error.strerror or error})"
    result.reason = (
        f"{unwritten}: free some space, or choose another folder with --output; what was measured "
        f"stands in the table. {result.reason}"
    )
    result.verdict, result.mlperf_valid = FAILED, False
    with contextlib.suppress(OSError):
        result.save()
