"""A and B side by side: what is faster, what isn't alike, and what only one of them has."""

from dataclasses import replace
from typing import Any

import pytest
from made import accuracy, compliance, performance, provenance

from bertsquad.errors import SuiteError
from bertsquad.results import contrast as module
from bertsquad.results import resampling
from bertsquad.results.archive import Archive, Lost
from bertsquad.results.contrast import Change, Contrast, contrast
from bertsquad.results.document import time_of
from bertsquad.results.result import FAILED, Result

PARTS = ("model", "dataset", "scenario", "device", "precision")


def offline(day: int, qps: float, **facts: Any) -> Result:
    made = provenance(day, **facts)
    return performance("offline", day, qps=qps, mlperf_metric_value=qps, provenance=made)


def stream(day: int, ms: float) -> Result:
    return performance("singlestream", day, mlperf_metric_value=ms, query_count=640)


def compared(a: list[Result], b: list[Result]) -> Contrast:
    return contrast(Archive(a), Archive(b))


def only(found: Contrast, key: str) -> Change:
    (change,) = [one for one in found.changes if one.key == key]
    return change


def test_a_rate_is_better_if_higher_and_a_latency_if_lower() -> None:
    faster = compared([offline(1, 30.0), stream(1, 80.0)], [offline(2, 60.0), stream(2, 20.0)])
    rate, latency = only(faster, "qps"), only(faster, "mlperf_metric_value")
    assert (rate.ratio, rate.seen) == (2.0, module.FASTER)
    assert (latency.ratio, latency.seen) == (0.25, module.FASTER)
    back = compared([offline(2, 60.0), stream(2, 20.0)], [offline(1, 30.0), stream(1, 80.0)])
    assert {one.seen for one in back.changes if "latency" not in one.key} == {module.SLOWER}


def test_equal_runs_show_no_difference() -> None:
    found = compared([offline(1, 30.0), stream(1, 80.0)], [offline(2, 30.0), stream(2, 80.0)])
    assert [one.seen for one in found.changes] == [module.NO_DIFFERENCE] * 3
    assert found.facts[0].fact == "git_revision"  # as the nights of these tests have it
    assert found.unlike == {} and found.only_a == found.only_b == []


def test_the_judged_latency_stands_with_the_plain_percentile_below() -> None:
    found = compared([stream(1, 80.0)], [stream(2, 80.0)])
    assert [one.figure for one in found.changes] == ["p90 judged", "p90"]


def test_runs_on_a_side_show_how_runs_differ() -> None:
    a = [offline(day, 30.0 + 0.3 * day) for day in (1, 2, 3)]
    found = only(compared(a, [offline(4, 31.0)]), "qps")
    assert found.interval_of == "3 and 1 runs" and found.seen == module.NO_DIFFERENCE
    assert found.a == pytest.approx(30.6, abs=0.01)
    assert only(compared(a, [offline(4, 40.0)]), "qps").seen == module.FASTER


def test_two_runs_beside_one_are_too_few_to_show_how_runs_differ() -> None:
    a = [offline(1, 30.0), offline(2, 40.0)]
    found = only(compared(a, [offline(3, 50.0)]), "qps")
    assert (found.a, found.ratio, found.interval_of) == (40.0, 1.25, resampling.ONE_RUN)
    twice = only(compared(a, [offline(3, 50.0), offline(4, 50.0)]), "qps")
    assert twice.interval_of == "2 and 2 runs" and twice.seen == module.NO_DIFFERENCE


def test_runs_that_are_unlike_the_newest_are_no_repeats_of_it() -> None:
    odd = performance("offline", 1, qps=5.0, sample_count=7)
    found = only(compared([odd, offline(2, 30.0)], [offline(3, 30.0)]), "qps")
    assert (found.a, found.interval_of) == (30.0, resampling.ONE_RUN)


def test_unlike_runs_are_shown_and_called_so() -> None:
    a, b = performance(day=1), performance(day=2, sample_count=20, target_source="option")
    found = compared([a, accuracy("server")], [b, accuracy("server", 2)])
    timed = [one for one in found.changes if one.mode == "performance"]
    assert {one.seen for one in timed} == {module.UNLIKE}
    assert all(one.ratio for one in timed)
    assert found.unlike == {"sample_count is 20 and was 494": [f"{a.case} (performance)"]}
    assert only(found, "f1").seen == module.EQUAL


def test_the_rate_of_server_is_called_what_it_is() -> None:
    one = only(compared([performance(day=1)], [performance(day=2, qps=40.0)]), "qps")
    assert (one.seen, one.interval) == (module.OFFERED, None)


def test_f1_has_a_difference_and_no_ratio() -> None:
    found = only(compared([accuracy()], [accuracy(day=2, f1=80.5)]), "f1")
    assert found.difference == pytest.approx(-3.0273) and found.ratio is None
    assert found.seen == module.LOWER


def test_what_differs_is_said_once_with_the_cases() -> None:
    versions = {"python": "3.11.7", "numpy": "2.5.0"}
    there = {"machine": "b", "machine_id": "0b", "versions": versions, "threads": 2}
    a = [offline(1, 30.0, machine="a", machine_id="0a", threads=1), stream(1, 80.0)]
    b = [offline(1, 31.0, **there, command="other", started_at="2026-11-02T00:00:00")]
    facts = {one.fact: one for one in compared(a, b).facts}
    assert set(facts) == {"machine", "versions.numpy", "threads"}
    assert facts["machine"].a.startswith("a (") and facts["machine"].b.startswith("b (")
    assert (facts["versions.numpy"].a, facts["versions.numpy"].b) == ("2.4.6", "2.5.0")
    assert facts["threads"].where == ("minilm-pocket-offline-cpu-fp32 (performance)",)


def test_what_only_one_side_has_is_named_with_the_reason() -> None:
    lost = Lost(
        stream(1, 1.0).case, "performance", FAILED, "it ended", "b.json", time_of("2026-11-09")
    )
    b = Archive([offline(2, 30.0), compliance()], [lost])
    found = contrast(Archive([offline(1, 30.0), stream(1, 80.0)]), b)
    assert found.only_a == [f"{lost.case} (performance): failed there: it ended"]
    assert found.only_b == ["minilm-pocket-offline-cpu-fp32 (compliance)"]


def test_a_later_run_without_a_result_is_said() -> None:
    at = time_of("2026-11-09")
    lost = Lost(offline(1, 1.0).case, "performance", FAILED, "it ended", "b.json", at)
    (note,) = contrast(Archive([offline(1, 30.0)]), Archive([offline(2, 30.0)], [lost])).notes
    assert "the latest run in B gave no result (it ended)" in note


def test_a_run_that_both_have_is_not_compared_with_itself() -> None:
    history, new = [offline(day, 30.0 + day) for day in (1, 2, 3)], offline(4, 32.0)
    found = compared([*history, new], [new])
    assert only(found, "qps").interval_of == "3 and 1 runs"
    assert found.notes == ["1 of the runs are in A and in B: they are left out of A"]
    assert only(compared([new], [*history, new]), "qps").interval_of == "1 and 3 runs"
    with pytest.raises(SuiteError, match="hold the same runs"):
        compared(history, history)


def test_no_common_case_is_refused_with_what_there_is() -> None:
    with pytest.raises(SuiteError, match="no case in common: A has minilm-pocket-offline") as error:
        compared([offline(1, 30.0)], [stream(1, 80.0), accuracy(), performance(), compliance()])
    assert "and 1 more" in str(error.value)


def test_a_figure_of_0_has_no_ratio() -> None:
    found = only(compared([offline(1, 0.0)], [offline(2, 30.0)]), "qps")
    assert (found.a, found.b, found.ratio, found.seen) == (0.0, 30.0, None, None)


def test_a_percentile_that_is_judged_at_one_side_alone_is_not_shown() -> None:
    found = compared([performance("singlestream", mlperf_metric_value=None)], [stream(2, 80.0)])
    assert [one.figure for one in found.changes] == ["p90"]


def other(of: Result, **parts: str) -> Result:
    """The result as if another model, device or precision had given it."""
    made = {key: parts.get(key, getattr(of, key)) for key in PARTS}
    case = "-".join(made.values())
    return replace(of, **made, case=case)


def test_where_no_case_is_in_both_those_are_compared_that_differ_in_precision() -> None:
    fp32 = [offline(1, 30.0), stream(1, 80.0), accuracy()]
    int8 = [other(one, precision="int8") for one in (offline(2, 60.0), stream(2, 40.0), accuracy())]
    found = compared(fp32, int8)
    assert found.common == [
        "minilm-pocket-offline-cpu-* (performance)",
        "minilm-pocket-offline-cpu-* (accuracy)",
        "minilm-pocket-singlestream-cpu-* (performance)",
    ]
    assert (only(found, "qps").ratio, only(found, "qps").seen) == (2.0, module.FASTER)
    assert only(found, "qps").case == "minilm-pocket-offline-cpu-*"
    assert ("precision", "fp32", "int8") in [(one.fact, one.a, one.b) for one in found.facts]
    assert found.unlike == {} and found.only_a == found.only_b == []
    assert any("differ in precision" in note for note in found.notes)


def test_as_little_as_possible_differs_between_cases_of_other_names() -> None:
    fp32 = offline(1, 30.0)
    by_device = other(offline(2, 45.0), device="openvino")
    by_both = other(offline(3, 90.0), device="openvino", precision="bf16")
    assert only(compared([fp32], [by_device, by_both]), "qps").b == 45.0
    assert only(compared([fp32], [by_both]), "qps").case == "minilm-pocket-offline-*"
    found = compared([other(fp32, model="mine", precision="int8"), fp32], [by_device])
    assert only(found, "qps").ratio == 1.5
    assert found.only_a == ["mine-pocket-offline-cpu-int8 (performance)"]


def test_another_model_is_other_work() -> None:
    mine = other(offline(2, 60.0, model_checksum="abc"), model="mine")
    found = compared([offline(1, 30.0, model_checksum="def")], [mine])
    assert only(found, "qps").seen == module.UNLIKE
    assert ("model", "minilm", "mine") in [(one.fact, one.a, one.b) for one in found.facts]


def test_where_several_cases_would_do_none_is_chosen() -> None:
    some = [other(offline(1, 30.0), precision=name) for name in ("int8", "bf16")]
    with pytest.raises(SuiteError, match="choose with --case-a and --case-b"):
        compared(some, [offline(2, 60.0)])
    with pytest.raises(SuiteError, match="no case in common"):
        compared([offline(1, 30.0)], [stream(2, 80.0)])
