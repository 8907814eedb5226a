"""LoadGen's settings that a user.conf may change and that change the work of a run or its metric.

They are named as in a user.conf and have its units. Targets, duration and buffer are no part of
them: a result has fields for these.
"""

from collections.abc import Mapping
from typing import Any

from bertsquad.rules import QUICK_QUERIES
from bertsquad.scenarios import SCENARIOS

#: Where LoadGen's log has each of them.
_LOGGED = {
    "samples_per_query": "effective_samples_per_query",
    "target_latency_percentile": "effective_target_latency_percentile",
    "coalesce_queries": "requested_server_coalesce_queries",
    "max_async_queries": "effective_max_async_queries",
    "performance_issue_unique": "effective_performance_issue_unique",
    "performance_issue_same": "effective_performance_issue_same",
    "performance_issue_same_index": "effective_performance_issue_same_index",
    "sample_concatenate_permutation": "effective_sample_concatenate_permutation",
    "accuracy_log_sampling_target": "effective_accuracy_log_sampling_target",
    "min_query_count": "effective_min_query_count",
    "max_query_count": "effective_max_query_count",
    "max_duration": "effective_max_duration_ms",
}
#: Those that every scenario has, with LoadGen's own value for BERT: 0 is no, or no limit.
_OF_ALL = {
    "performance_issue_unique": 0,
    "performance_issue_same": 0,
    "performance_issue_same_index": 0,
    "sample_concatenate_permutation": 0,
    "accuracy_log_sampling_target": 0,
    "max_query_count": 0,
    "max_duration": 0,
}
#: Those that a scenario has beside them.
_OF_ONE: Mapping[str, Mapping[str, float]] = {
    "offline": {},
    "singlestream": {"target_latency_percentile": 90},
    "multistream": {"samples_per_query": 8, "target_latency_percentile": 99},
    "server": {"target_latency_percentile": 99, "coalesce_queries": 0, "max_async_queries": 0},
}


def usual(scenario: str, rules: str) -> dict[str, float]:
    """Each setting of a scenario as it is without a user.conf.

    The least number of queries is there under `quick` alone: under `mlperf` nobody may change it.
    """
    if scenario not in SCENARIOS:
        return {}
    queries = {"min_query_count": QUICK_QUERIES[scenario]} if rules == "quick" else {}
    if scenario == "offline":  # whose one query has as many samples as LoadGen finds right
        queries = {}
    return {**_OF_ALL, **_OF_ONE[scenario], **queries}


def effective(scenario: str, mode: str, rules: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Each setting as a timed run had it; `values` are those of LoadGen's log."""
    found = {
        key: _plain(key, values[_LOGGED[key]])
        for key in usual(scenario, rules)
        if _LOGGED[key] in values
    }
    if mode == "compliance":  # where the audit decides what is logged
        found.pop("accuracy_log_sampling_target", None)
    return normal(found)


def normal(settings: Mapping[str, float]) -> dict[str, float]:
    """Settings without what has no effect: which sample is repeated where none is."""
    found = dict(settings)
    if not found.get("performance_issue_same"):
        found["performance_issue_same_index"] = 0
    return found


def changed(scenario: str, rules: str, settings: Mapping[str, float]) -> dict[str, float]:
    """Those of a run's settings that aren't as they are without a user.conf."""
    before = usual(scenario, rules)
    return {key: value for key, value in settings.items() if value != before.get(key, value)}


def _plain(key: str, logged: Any) -> float:
    """A value of the log as a user.conf has it."""
    if key == "target_latency_percentile":  # a share there
        per_cent = round(100 * logged, 9)
        return int(per_cent) if per_cent == int(per_cent) else per_cent
    return int(logged)
