"""Intervals hold the truth about as often as they say, and cost nothing where queries are many."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import performance
from numpy.typing import NDArray

from bertsquad.loadgen.timeline import Timeline, rank
from bertsquad.results import resampling
from bertsquad.results.result import Result

MS = 1_000_000


def timed(latencies_ms: NDArray[np.float64], batch_s: NDArray[np.float64] | None = None) -> Result:
    """A run of a stream whose queries took so long, with batches of one query or those given."""
    seconds = latencies_ms / 1000 if batch_s is None else batch_s
    taken = (seconds * 1e9).astype(np.int64)
    ends = np.cumsum(taken)
    many = np.full(len(taken), 8, np.int64)
    issued = np.cumsum((latencies_ms * MS).astype(np.int64))
    run = Timeline(
        issued - (latencies_ms * MS).astype(np.int64), issued, ends - taken, ends, many, many, many
    )
    p90 = float(np.sort(latencies_ms)[rank(len(latencies_ms), 90)])
    return performance(
        "singlestream",
        mlperf_metric_value=p90,
        latency_p90_ms=p90,
        query_count=len(latencies_ms),
        qps=8 * len(seconds) / float(seconds.sum()),
        timeline=run.digest(),
    )


def scattered(seed: int, count: int = 400, scale: float = 1.0) -> NDArray[np.float64]:
    return scale * np.random.default_rng(seed).gamma(4.0, 12.0, count)


def interval(found: resampling.Ratio) -> tuple[float, float]:
    assert found.interval is not None
    return found.interval


@pytest.mark.parametrize("truth", [1.0, 1.3])
def test_an_interval_of_latencies_holds_the_true_ratio(truth: float) -> None:
    held = 0
    for seed in range(60):
        a, b = timed(scattered(seed)), timed(scattered(1000 + seed, scale=truth))
        found = resampling.of_one_run(a, b, "latency_p90_ms")
        low, high = interval(found)
        assert low < found.value < high and found.of == resampling.ONE_RUN
        held += low <= truth <= high
    assert held >= 54  # 95 % of 60 are 57; fewer than 54 are seen in one of 40 cases


def test_an_interval_of_rates_holds_the_true_ratio_though_slow_spans_last() -> None:
    held, truth = 0, 0.9
    for seed in range(60):
        random = np.random.default_rng(seed)
        # What slows the machine lasts for some batches.
        noise = [np.repeat(random.normal(0, 0.1, 100), 4) for _ in range(2)]
        batches = [0.1 * np.exp(one) / rate for one, rate in zip(noise, (1, truth), strict=True)]
        a, b = (timed(scattered(seed, 50), one) for one in batches)
        low, high = interval(resampling.of_one_run(a, b, "qps"))
        held += low <= truth <= high
    assert held >= 52


@pytest.mark.parametrize(("counts", "least"), [((3, 3), 182), ((2, 4), 182), ((1, 6), 182)])
def test_an_interval_of_runs_holds_the_true_ratio(counts: tuple[int, int], least: int) -> None:
    random, held, truth = np.random.default_rng(3), 0, 1.1
    for _ in range(200):
        a, b = (
            (scale * np.exp(random.normal(0, 0.05, count))).tolist()
            for scale, count in zip((1.0, truth), counts, strict=True)
        )
        low, high = interval(resampling.of_runs(a, b))
        held += low <= truth <= high
    assert held >= least


def test_a_million_queries_cost_no_more_than_a_hundred() -> None:
    few, many = (timed(scattered(1, count)) for count in (100, 1_000_000))
    assert len(many.timeline["latency"]["ms"]) < 120
    narrow = interval(resampling.of_one_run(many, many, "latency_p90_ms"))
    wide = interval(resampling.of_one_run(few, few, "latency_p90_ms"))
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 20


def test_the_same_runs_have_the_same_interval_every_time() -> None:
    a, b = timed(scattered(1)), timed(scattered(2))
    again = [resampling.of_one_run(a, b, "latency_p90_ms") for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"query_count": None}, resampling.NOT_KEPT),
        ({"timeline": {}}, resampling.NOT_KEPT),
        ({"query_count": 30}, resampling.TOO_SHORT),
        ({"latency_p90_ms": 1e6}, resampling.TOO_SHORT),
    ],
)
def test_where_there_is_no_interval_it_is_said_why(changes: dict[str, Any], why: str) -> None:
    a = timed(scattered(1))
    found = resampling.of_one_run(a, replace(a, **changes), "latency_p90_ms")
    assert (found.interval, found.of) == (None, why)


def test_the_rate_of_a_run_of_few_spans_has_no_interval() -> None:
    a = timed(scattered(1, 5))
    assert resampling.of_one_run(a, a, "qps").of == resampling.TOO_SHORT


def test_runs_that_agree_to_the_last_digit_leave_no_room() -> None:
    found = resampling.of_runs([2.0, 2.0], [3.0, 3.0, 3.0])
    assert math.isclose(found.value, 1.5)
    assert interval(found) == (found.value, found.value)
    assert found.of == "2 and 3 runs"
