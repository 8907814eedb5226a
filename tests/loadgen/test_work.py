"""What of a run's settings changes its work is told as a user.conf has it."""

from typing import Any

import pytest

from bertsquad.loadgen import work
from bertsquad.scenarios import SCENARIOS

LOG: dict[str, Any] = {
    "effective_samples_per_query": 2,
    "effective_target_latency_percentile": 0.9990000000000001,
    "requested_server_coalesce_queries": True,
    "effective_max_async_queries": 1,
    "effective_performance_issue_unique": False,
    "effective_performance_issue_same": False,
    "effective_performance_issue_same_index": 5,
    "effective_sample_concatenate_permutation": False,
    "effective_accuracy_log_sampling_target": 4096,
    "effective_min_query_count": 64,
    "effective_max_query_count": 10,
    "effective_max_duration_ms": 0,
}


def test_a_log_is_told_in_the_units_of_a_user_conf() -> None:
    found = work.effective("multistream", "performance", "quick", LOG)
    assert found["samples_per_query"] == 2
    assert found["target_latency_percentile"] == 99.9
    assert found["performance_issue_same"] == 0
    assert found["performance_issue_same_index"] == 0  # which nothing repeats
    assert found["min_query_count"] == 64
    assert "coalesce_queries" not in found
    assert all(type(value) in (int, float) for value in found.values())
    assert work.effective("server", "performance", "mlperf", LOG)["coalesce_queries"] == 1
    assert work.effective("offline", "performance", "quick", {}) == {
        "performance_issue_same_index": 0
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_an_audit_logs_is_no_setting_of_the_users(scenario: str) -> None:
    assert "accuracy_log_sampling_target" in work.effective(scenario, "performance", "quick", LOG)
    assert "accuracy_log_sampling_target" not in work.effective(
        scenario, "compliance", "quick", LOG
    )


def test_only_what_differs_from_a_run_without_a_user_conf_is_changed() -> None:
    usual = work.usual("multistream", "quick")
    assert work.changed("multistream", "quick", usual) == {}
    assert work.changed("multistream", "quick", usual | {"samples_per_query": 2}) == {
        "samples_per_query": 2
    }
    assert work.changed("multistream", "quick", {}) == {}
