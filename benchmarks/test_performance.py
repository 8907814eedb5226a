"""QPS and latency under LoadGen, recorded."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bertsquad.suite.cases import Case
from bertsquad.suite.harness import RunCase
from bertsquad.suite.replay import query_seconds, replay, replay_timer


@pytest.mark.performance
@pytest.mark.benchmark(timer=replay_timer)
def test_performance(case: Case, run: RunCase, benchmark: BenchmarkFixture) -> None:
    """LoadGen's figures become pytest-benchmark's; INVALID fails under `--rules mlperf`."""
    result = run(case, "performance")
    benchmark.group = case.scenario
    benchmark.params = benchmark.params | case.params  # JSON can hold no Case
    benchmark.extra_info.update(result.as_dict())
    replay(benchmark, query_seconds(result))
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
