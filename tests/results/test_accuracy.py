"""F1 must reach its target, and a subset must not be judged by luck."""

import pytest

from bertsquad.results.accuracy import judge_f1
from bertsquad.results.result import (
    FAILED,
    NO_TARGET,
    PASSED,
    UNDECIDED,
)
from bertsquad.results.statistics import upper_bound

WHAT = "minilm on pocket, cpu, fp32"


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
