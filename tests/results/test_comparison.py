"""What makes two results unlike is found and named."""

from typing import Any

import pytest
from compared import FIGURES, SERVER, changed

from bertsquad.results.comparison import differences
from bertsquad.results.result import SCHEMA_VERSION


@pytest.mark.parametrize(
    "free",
    [
        {"qps": 1.0},
        {"target_qps": 7.0},
        {"provenance__instances": 1, "provenance__threads": 2, "provenance__cores": 96},
        {"provenance__versions": {"onnxruntime": "2"}},
    ],
)
def test_what_a_user_compares_makes_no_runs_unlike(free: dict[str, Any]) -> None:
    assert differences(changed(FIGURES, **free), FIGURES) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "compliance"),
        ("scenario", "singlestream"),
        ("device", "openvino"),
        ("precision", "int8"),
        ("rules", "mlperf"),
        ("sample_count", 20),
        ("dataset_samples", 10_833),
        ("buffer_size", 100),
        ("min_duration_s", 600.0),
        ("provenance__model_checksum", "another"),
        ("provenance__dataset_checksum", "another"),
    ],
)
def test_runs_of_other_size_precision_data_or_rules_are_unlike(key: str, value: Any) -> None:
    (sentence,) = differences(changed(FIGURES, **{key: value}), FIGURES)
    was = str(FIGURES["provenance"].get(key[12:]) if "__" in key else FIGURES[key])
    for part in (key.rpartition("__")[2], str(value), was):
        assert part in sentence


def test_another_number_of_nodes_makes_runs_unlike_and_earlier_results_have_one() -> None:
    two, one = changed(FIGURES, number_of_nodes=2), changed(FIGURES, number_of_nodes=1)
    assert differences(two, one) == ["number_of_nodes is 2 and was 1"]
    assert differences(two, FIGURES) == ["number_of_nodes is 2 and was 1"]
    assert differences(one, two) == ["number_of_nodes is 1 and was 2"]
    assert differences(one, FIGURES) == differences(two, two) == []


def test_every_difference_is_named() -> None:
    other = changed(FIGURES, rules="mlperf", sample_count=10_833, min_duration_s=600.0)
    assert differences(other, FIGURES) == [
        "rules is mlperf and was quick",
        "sample_count is 10833 and was 494",
        "min_duration_s is 600.0 and was 3.0",
    ]


def test_servers_rate_is_free_only_where_a_probe_found_both() -> None:
    given = changed(SERVER, target_source="option")
    assert differences(changed(SERVER, target_qps=38.0), SERVER) == []
    assert differences(given, SERVER) == []  # the same rate, whoever said it
    assert differences(changed(given, target_qps=10.0), SERVER) == [
        "target_qps is 10.0 and was 40.0"
    ]
    assert differences(changed(given, target_qps=10.0), given) != []
    assert differences(changed(SERVER, target_qps=10.0), given) != []


def test_servers_bound_counts_and_others_latencies_do_not() -> None:
    assert differences(changed(SERVER, target_latency_ms=200.0), SERVER) == [
        "target_latency_ms is 200.0 and was 130.0"
    ]
    stream = changed(FIGURES, scenario="singlestream", target_latency_ms=8.0)
    assert differences(changed(stream, target_latency_ms=9.0), stream) == []


TWO = {"samples_per_query": 2, "target_latency_percentile": 99}


def test_settings_of_a_user_conf_that_change_the_work_are_compared() -> None:
    stream = changed(FIGURES, scenario="multistream")
    two = changed(stream, settings=TWO)
    assert differences(two, two) == []
    assert differences(two, stream) == ["samples_per_query is 2 and was 8"]
    # What older results lack was as it is without a user.conf.
    usual = changed(stream, settings=TWO | {"samples_per_query": 8})
    assert differences(usual, stream) == differences(stream, usual) == []
    assert differences(stream, two) == ["samples_per_query is 8 and was 2"]
    same = changed(FIGURES, settings={"performance_issue_same": 1, "max_duration": 50})
    assert differences(FIGURES, same) == [
        "performance_issue_same is 0 and was 1",
        "max_duration is 0 and was 50",
    ]
    assert differences(FIGURES, changed(FIGURES, settings="many")) == []


def test_an_older_schema_or_another_suite_is_named_as_such() -> None:
    older = changed(FIGURES, schema_version=0, sample_count=1)
    assert differences(FIGURES, older) == [f"schema_version is {SCHEMA_VERSION} and was 0"]
    assert differences(FIGURES, {}) == ["that is no result of this suite"]
    assert differences(FIGURES, changed(FIGURES, buffer_size=None)) == [
        "buffer_size (494) isn't in the earlier results"
    ]


def test_scores_by_another_null_threshold_are_unlike() -> None:
    silent, bold = (changed(FIGURES, mode="accuracy", null_threshold=one) for one in (0.0, 2.5))
    assert differences(bold, silent) == ["null_threshold is 2.5 and was 0.0"]
    assert differences(silent, silent) == []
