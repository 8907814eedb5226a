"""What of a user.conf ends a run before it has what it needs."""

import math
from dataclasses import replace

import pytest
from made import OFFLINE, SERVER, STREAM

from bertsquad.loadgen.logs import Cause
from bertsquad.results import limits
from bertsquad.results.limits import Need
from bertsquad.results.result import Result

#: 5 queries a second over 2 s.
RAN = replace(STREAM, run_time_s=2.0, query_count=10, min_duration_s=2.0, min_query_count=4)


def lacking(result: Result, needed: int) -> Result:
    return replace(result, invalid_causes=[Cause("early_stopping", "too few", 10, needed)])


def test_a_run_needs_its_own_minima_and_what_early_stopping_wants() -> None:
    assert limits.need(RAN) == Need(10, 2.0)
    assert limits.need(lacking(RAN, 64)) == Need(64, 12.8)
    assert limits.need(lacking(RAN, 64), slack=1.25) == Need(80, 16.0)
    # Without slack, where its least number of queries is enough.
    assert limits.need(lacking(replace(RAN, min_query_count=64), 64), 1.25) == Need(64, 12.8)
    assert limits.need(replace(RAN, query_count=None)) == Need(4, 2.0)


def test_server_has_the_rate_that_was_asked_for() -> None:
    assert limits.rate(replace(SERVER, target_qps=50.0, query_count=1)) == 50.0
    assert limits.rate(RAN) == 5.0
    assert limits.rate(replace(RAN, query_count=None)) is None


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, []),
        ({"max_query_count": 0, "max_duration": 0}, []),  # no limits
        ({"max_query_count": 64}, []),
        ({"max_query_count": 63}, ["max_query_count"]),
        ({"max_duration": 12_800}, []),
        ({"max_duration": 12_799, "max_query_count": 1}, ["max_query_count", "max_duration"]),
        ({"performance_issue_unique": 1}, ["performance_issue_unique"]),
        ({"performance_issue_same": 1}, []),
    ],
)
def test_what_is_below_the_need_is_in_the_way(settings: dict[str, float], keys: list[str]) -> None:
    assert limits.in_the_way(replace(lacking(RAN, 64), settings=settings)) == keys


def test_a_limit_that_loadgen_names_is_in_the_way_of_an_older_result_too() -> None:
    ended = replace(RAN, invalid_causes=[Cause("max_async_queries", "too many")])
    assert limits.in_the_way(ended) == ["max_async_queries"]


def test_no_sample_twice_bounds_a_run_by_the_samples_of_its_buffer() -> None:
    eight: dict[str, float] = {"performance_issue_unique": 1, "samples_per_query": 8}
    ran = replace(RAN, scenario="multistream", buffer_size=494, settings=eight)
    assert limits.below(ran, Need(61, 1.0)) == []
    assert limits.below(ran, Need(62, 1.0)) == ["performance_issue_unique"]


def test_an_offline_query_is_ended_by_nothing_and_made_small_by_no_sample_twice() -> None:
    everything: dict[str, float] = {
        "max_query_count": 1,
        "max_duration": 1,
        "performance_issue_unique": 1,
    }
    ran = replace(OFFLINE, settings=everything)
    assert limits.below(ran, Need(math.inf, math.inf)) == ["performance_issue_unique"]


def test_a_number_may_be_raised_and_unique_samples_can_only_go() -> None:
    assert limits.removal(["max_duration"]) == "take max_duration out of the user.conf, or raise it"
    both = limits.removal(["max_query_count", "max_duration"])
    assert both == "take max_query_count and max_duration out of the user.conf, or raise them"
    only = limits.removal(["performance_issue_unique"])
    assert only == "take performance_issue_unique out of the user.conf"
