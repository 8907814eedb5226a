"""How a case is judged, and what its `result.json` holds."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import OFFICIAL

from bertsquad.errors import SuiteError
from bertsquad.loadgen.logs import Run
from bertsquad.results.accuracy import judge_f1
from bertsquad.results.result import (
    FAILED,
    NO_TARGET,
    PASSED,
    RESULT,
    UNDECIDED,
    load,
    repeat_command,
)
from bertsquad.results.statistics import student_t_cdf, student_t_quantile, upper_bound
from bertsquad.results.validity import judge_performance, objections
from bertsquad.rules import SEEDS
from bertsquad.suite import options
from bertsquad.suite.options import OPTIONS

WHAT = "minilm on pocket, cpu, fp32"


#: Critical values of Student's t, one-sided, from NIST's e-Handbook, 1.3.6.7.2.
PROBABILITIES = (0.90, 0.95, 0.975, 0.99, 0.995, 0.999)
TABLE = {
    1: (3.078, 6.314, 12.706, 31.821, 63.657, 318.313),
    2: (1.886, 2.920, 4.303, 6.965, 9.925, 22.327),
    3: (1.638, 2.353, 3.182, 4.541, 5.841, 10.215),
    4: (1.533, 2.132, 2.776, 3.747, 4.604, 7.173),
    5: (1.476, 2.015, 2.571, 3.365, 4.032, 5.893),
    10: (1.372, 1.812, 2.228, 2.764, 3.169, 4.143),
    19: (1.328, 1.729, 2.093, 2.539, 2.861, 3.579),
    30: (1.310, 1.697, 2.042, 2.457, 2.750, 3.385),
    60: (1.296, 1.671, 2.000, 2.390, 2.660, 3.232),
    100: (1.290, 1.660, 1.984, 2.364, 2.626, 3.174),
    10_000: (1.282, 1.645, 1.960, 2.326, 2.576, 3.090),
}


@pytest.mark.parametrize("freedom", TABLE)
def test_students_quantiles_are_those_of_the_published_table(freedom: int) -> None:
    quantiles = [student_t_quantile(probability, freedom) for probability in PROBABILITIES]
    assert quantiles == pytest.approx(TABLE[freedom], rel=4e-4)


@given(st.integers(1, 300), st.floats(0, 50))
def test_students_distribution_is_symmetric(freedom: int, t: float) -> None:
    assert student_t_cdf(0.0, freedom) == pytest.approx(0.5)
    assert student_t_cdf(t, freedom) + student_t_cdf(-t, freedom) == pytest.approx(1.0)


def test_the_upper_bound_is_the_mean_plus_students_share_of_its_error() -> None:
    # Mean 0.8125, standard error 0.119678; three degrees of freedom.
    assert upper_bound([0.5, 1.0, 1.0, 0.75], 0.95) == pytest.approx(
        0.8125 + 2.353 * 0.119678, 1e-4
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_the_upper_bound_lies_above_the_mean_and_rises_with_confidence(values: list[float]) -> None:
    mean = sum(values) / len(values)
    bounds = [upper_bound(values, confidence) for confidence in (0.9, 0.99, 0.999)]
    assert bounds == sorted(bounds)
    assert bounds[0] >= mean or bounds[0] == pytest.approx(mean)


@pytest.mark.parametrize(("f1", "word"), [(90.0, PASSED), (89.965, PASSED), (89.964, FAILED)])
def test_the_whole_data_set_must_reach_the_target(f1: float, word: str) -> None:
    # The questions' spread would excuse a subset; it doesn't excuse the whole.
    verdict, bound = judge_f1(f1, 89.965, [0.0, 1.0] * 50, subset=False, what=WHAT)
    assert (verdict.word, bound) == (word, None)
    for part in (f"F1 {f1:.3f}", "target of 89.965", "100 questions", WHAT):
        assert part in verdict.reason


def test_a_subset_passes_as_long_as_its_bound_reaches_the_target() -> None:
    values = [1.0] * 14 + [0.0] * 6
    verdict, bound = judge_f1(70.0, 89.965, values, subset=True, what=WHAT)
    assert verdict.word == PASSED
    assert bound is not None
    assert bound == 100.0  # F1 can't be above it, wherever Student's bound may lie
    for part in ("subset", "F1 70.000", "99.9 %", "20 questions", "89.965", WHAT):
        assert part in verdict.reason


def test_a_subset_fails_once_its_bound_is_under_the_target() -> None:
    values = [0.5] * 19 + [0.7]
    expected = 100 * upper_bound(values, 0.999)
    assert expected < 60
    for target, word in ((expected + 1e-6, FAILED), (expected - 1e-6, PASSED)):
        verdict, bound = judge_f1(51.0, target, values, subset=True, what=WHAT)
        assert verdict.word == word
        assert bound == pytest.approx(expected)
        assert f"{expected:.3f}" in verdict.reason


def test_a_subset_of_equal_answers_is_judged_by_their_common_score() -> None:
    assert judge_f1(100.0, 99.0, [1.0] * 20, True, WHAT)[0].word == PASSED
    assert judge_f1(0.0, 1.0, [0.0] * 20, True, WHAT)[0].word == FAILED


@pytest.mark.parametrize("values", [[], [0.0]])
def test_fewer_than_two_questions_of_a_subset_give_no_verdict(values: list[float]) -> None:
    verdict, bound = judge_f1(0.0, 89.965, values, subset=True, what=WHAT)
    assert (verdict.word, bound) == (UNDECIDED, None)
    assert verdict.reason.startswith("subset: ")


@pytest.mark.parametrize("subset", [True, False])
def test_without_a_reference_f1_there_is_no_target(subset: bool) -> None:
    verdict, bound = judge_f1(12.5, None, [0.1, 0.15], subset, WHAT)
    assert (verdict.word, bound) == (NO_TARGET, None)
    assert "F1 12.500" in verdict.reason


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


def test_an_error_in_the_log_is_an_objection() -> None:
    log = replace(official_log(), errors=("LoadGen: it broke",))
    assert [found.kind for found in objections(OFFICIAL, log)] == ["log", "size"]


def test_a_result_is_read_back_or_named(tmp_path: Path) -> None:
    result = replace(OFFICIAL, run_dir=str(tmp_path))
    with pytest.raises(SuiteError, match=r"result\.json can't be read"):
        load(tmp_path)
    result.save()
    assert load(tmp_path) == result
    whole = (tmp_path / RESULT).read_text(encoding="utf-8")
    for text, complaint in (
        (whole.replace('"schema_version": 1', '"schema_version": 99'), "schema version 99"),
        (whole[:100], "not a whole result"),
        (whole.replace('"case"', '"kase"'), "not a whole result"),
        ("[]", "not a whole result"),
    ):
        (tmp_path / RESULT).write_text(text, encoding="utf-8")
        with pytest.raises(SuiteError, match=complaint):
            load(tmp_path)


def test_padding_and_memory_are_kept_and_may_be_unknown(tmp_path: Path) -> None:
    for share, memory in ((0.25, 2**30), (0.0, None), (None, None)):
        result = replace(
            OFFICIAL, run_dir=str(tmp_path), padding_share=share, peak_memory_bytes=memory
        )
        result.save()
        document = json.loads((tmp_path / RESULT).read_bytes())
        assert (document["padding_share"], document["peak_memory_bytes"]) == (share, memory)
        assert load(tmp_path) == result


def test_only_a_failed_result_has_a_failure() -> None:
    for word in (PASSED, UNDECIDED, NO_TARGET):
        assert replace(OFFICIAL, verdict=word, reason="because").failure is None
    assert replace(OFFICIAL, verdict=FAILED, reason="because").failure == "because"


def test_a_result_is_saved_as_whole_json(tmp_path: Path) -> None:
    result = replace(OFFICIAL, run_dir=str(tmp_path), reason="F1 zu niedrig « né »", f1=1 / 3)
    result.save()
    (file,) = tmp_path.iterdir()
    assert file.name == RESULT
    text = file.read_text(encoding="utf-8")
    assert json.loads(text) == result.as_dict()
    assert text.endswith("}\n")
    assert "« né »" in text
    assert json.loads(text)["schema_version"] == 1


def test_saving_replaces_what_was_there_before(tmp_path: Path) -> None:
    long = replace(OFFICIAL, run_dir=str(tmp_path), reason="x" * 10_000)
    long.save()
    replace(long, reason="short").save()
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_bytes())["reason"] == "short"


def test_a_result_that_cannot_be_json_leaves_the_old_one_whole(tmp_path: Path) -> None:
    result = replace(OFFICIAL, run_dir=str(tmp_path))
    result.save()
    before = (tmp_path / RESULT).read_bytes()
    with pytest.raises(TypeError):
        replace(result, provenance={"path": tmp_path}).save()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def repeated(**changes: Any) -> list[str]:
    """The words of the line that runs a case again."""
    facts = {"model_path": None, "user_conf": None, "instances": 2, "threads": 4}
    facts |= {"batch_tokens": 1536} | changes.pop("provenance", {})
    return shlex.split(repeat_command(replace(OFFICIAL, **changes, provenance=facts)))


def test_a_line_that_repeats_a_case_names_its_test_and_what_it_was_run_with() -> None:
    words = repeated(target_qps=12.5, min_duration_s=600.0, buffer_size=10_833)
    test = "benchmarks/test_performance.py::test_performance[bert_large-squad-offline-cpu-fp32]"
    assert words[:2] == ["pytest", test]
    assert " ".join(words[2:]) == (
        "--model bert_large --dataset squad --device cpu --precision fp32 --rules mlperf "
        "--instances 2 --threads 4 --batch-tokens 1536 --min-duration-s 600.0 --target-qps 12.5"
    )


def test_a_line_that_repeats_a_quick_case_names_its_size() -> None:
    assert repeated(rules="quick", buffer_size=10_833)[-4:] == (
        "--dataset-size all --buffer-size 10833".split()
    )
    subset = repeated(rules="quick", sample_count=20, mode="accuracy", accuracy_target=99.9)
    assert subset[-4:] == "--accuracy-target 99.9 --dataset-size 20".split()


def test_a_line_that_repeats_a_case_quotes_the_users_own_paths() -> None:
    facts = {"model_path": "/my models/it's.onnx", "user_conf": {"file": "/a b/user.conf"}}
    words = repeated(provenance=facts, target_latency_ms=0.1)
    for flag, value in (
        ("--model", "/my models/it's.onnx"),
        ("--user-conf", "/a b/user.conf"),
        ("--target-latency-ms", "0.1"),
    ):
        assert words[words.index(flag) + 1] == value


@pytest.mark.parametrize("rules", ["quick", "mlperf"])
def test_a_line_that_repeats_a_case_is_one_that_the_options_take(rules: str) -> None:
    words = repeated(rules=rules, buffer_size=10_833, min_duration_s=600.0, target_qps=1e-3)[2:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    fields = {o.flag: (o.field, o.parse(given[o.flag])) for o in OPTIONS if o.flag in given}
    repeats = {option.field for option in OPTIONS if option.repeats}
    assert set(fields) == set(given)
    options.build({f: [value] if f in repeats else value for f, value in fields.values()})
