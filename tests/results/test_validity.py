"""What speaks against a run as an MLPerf result is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import LOSS, OFFICIAL, on_nodes

from bertsquad.loadgen.logs import Run
from bertsquad.results.result import (
    FAILED,
    PASSED,
)
from bertsquad.results.validity import judge_performance, objections
from bertsquad.rules import SEEDS

WHAT = "minilm on pocket, cpu, fp32"


@pytest.mark.parametrize(
    ("rules", "valid", "word"),
    [
        ("quick", True, PASSED),
        ("quick", False, PASSED),
        ("mlperf", True, PASSED),
        ("mlperf", False, FAILED),
    ],
)
def test_only_mlperf_rules_fail_an_invalid_run(rules: str, valid: bool, word: str) -> None:
    reasons = [] if valid else ["the latency bound was not kept", "too few queries"]
    verdict = judge_performance(rules, valid, reasons, WHAT)
    assert verdict.word == word
    assert ("INVALID" in verdict.reason) is not valid
    for part in [*reasons, *([] if valid else [WHAT])]:
        assert part in verdict.reason


def official_log(**changes: object) -> Run:
    """What LoadGen logs of a run that MLPerf would accept, as OFFICIAL's."""
    values: dict[str, object] = {
        **SEEDS,
        "effective_scenario": "Offline",
        "effective_test_mode": "PerformanceOnly",
        "result_validity": "VALID",
        "effective_min_duration_ms": 600_000,
        "effective_performance_sample_count": 10_833,
        "effective_accuracy_sample_count": 10_833,
        "effective_samples_per_query": 10_833,
    }
    return Run(Path("run"), values | changes, ())


def test_nothing_is_said_against_a_whole_run_under_mlperfs_rules() -> None:
    assert list(objections(OFFICIAL, official_log())) == []
    single = replace(OFFICIAL, scenario="singlestream")
    log = official_log(effective_scenario="SingleStream", effective_samples_per_query=1)
    assert list(objections(single, log)) == []
    accuracy = replace(OFFICIAL, mode="accuracy", f1_target=89.96526)
    assert list(objections(accuracy, official_log(effective_test_mode="AccuracyOnly"))) == []


@pytest.mark.parametrize(
    ("changed", "logged", "kind", "reason"),
    [
        ({"rules": "quick"}, {}, "size", "--rules quick"),
        ({"model": "minilm"}, {}, "division", "minilm is not MLPerf's model"),
        ({"dataset": "pocket"}, {}, "size", "run on pocket"),
        ({"scenario": "server"}, {"effective_scenario": "Server"}, "size", "no Server scenario"),
        ({"provenance": {"model_checksum": "0"}}, {}, "division", "checksum 0 isn't MLPerf's"),
        ({}, {"effective_min_duration_ms": 3000}, "size", "3000 ms, not 600000"),
        ({}, {"effective_performance_sample_count": 20}, "size", "fewer than 10833"),
        ({}, {"result_validity": "INVALID"}, "size", "INVALID"),
        ({}, {"effective_schedule_rng_seed": 7}, "log", "effective_schedule_rng_seed is 7"),
        ({}, {"effective_test_mode": "AccuracyOnly"}, "log", "effective_test_mode"),
        ({}, {"effective_scenario": "Server"}, "log", "effective_scenario is Server"),
        (
            {},
            {"effective_samples_per_query": 64},
            "size",
            "its query has fewer",
        ),
        (
            {"mode": "accuracy"},
            {"effective_test_mode": "AccuracyOnly", "effective_accuracy_sample_count": 20},
            "size",
            "20 samples were answered",
        ),
        (
            {"mode": "accuracy", "f1_target": 50.0},
            {"effective_test_mode": "AccuracyOnly"},
            "division",
            "F1 target 50.000",
        ),
    ],
)
def test_what_mlperf_would_object_to_is_said(
    changed: dict[str, Any], logged: dict[str, object], kind: str, reason: str
) -> None:
    (found,) = objections(replace(OFFICIAL, **changed), official_log(**logged))
    assert found.kind == kind
    assert reason in found.reason


@pytest.mark.parametrize("mode", ["performance", "accuracy"])
def test_a_run_on_a_cluster_is_objected_to_where_it_lost_a_node(mode: str) -> None:
    log = official_log()
    if mode == "accuracy":
        log = official_log(effective_test_mode="AccuracyOnly")
    result = on_nodes(replace(OFFICIAL, mode=mode))
    assert list(objections(result, log)) == []
    (found,) = objections(replace(result, nodes_lost=[LOSS]), log)
    assert (found.kind, found.reason) == ("system", str(LOSS))


def test_an_error_in_the_log_is_an_objection() -> None:
    log = replace(official_log(), errors=("LoadGen: it broke",))
    assert [found.kind for found in objections(OFFICIAL, log)] == ["log", "size"]
