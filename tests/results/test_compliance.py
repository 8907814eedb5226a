import numpy as np
import pytest

from bertsquad.devices import PRECISIONS
from bertsquad.results.compliance import TOLERANCE, Audited, Comparison, compare
from bertsquad.results.result import FAILED, PASSED

LOGITS = {n: np.linspace(n, n + 1, 12, dtype=np.float32).reshape(6, 2) for n in range(4)}


def test_every_precision_has_its_tolerance_and_fp32_the_strictest() -> None:
    assert set(TOLERANCE) == set(PRECISIONS)
    assert min(TOLERANCE, key=lambda precision: TOLERANCE[precision]) == "fp32"


def test_equal_responses_pass() -> None:
    comparison = compare(list(LOGITS.items()), LOGITS, 1e-3)
    assert comparison == Comparison(4, (), 0.0)
    assert Audited(comparison, 1.0, 1e-3).judge("mlperf", "case").word == PASSED


@pytest.mark.parametrize("position", [0, 5, 11])
def test_a_tampered_logit_is_found_wherever_it_stands(position: int) -> None:
    tampered = LOGITS[2].copy()
    tampered.flat[position] += 0.01
    comparison = compare([(2, tampered), (1, LOGITS[1])], LOGITS, TOLERANCE["fp32"])
    assert comparison.differing == (2,)
    verdict = Audited(comparison, 1.0, TOLERANCE["fp32"]).judge("quick", "minilm on cpu, fp32")
    assert verdict.word == FAILED
    assert "1 of 2" in verdict.reason
    assert "samples 2" in verdict.reason


def test_nan_another_length_and_an_unknown_sample_differ() -> None:
    nan = np.full((6, 2), np.nan, np.float32)
    sampled = [(0, nan), (1, LOGITS[1][:5]), (9, LOGITS[1])]
    assert compare(sampled, LOGITS, 1e-3).differing == (0, 1, 9)


def test_what_the_accuracy_run_was_not_asked_for_is_not_compared_and_that_is_said() -> None:
    accuracy = {sample: LOGITS[sample] for sample in (0, 1)}
    some = compare(list(LOGITS.items()), accuracy, 1e-3, asked=2)
    assert some == Comparison(2, (), 0.0, outside=2)
    verdict = Audited(some, 1.0, 1e-3).judge("quick", "case")
    assert verdict.word == PASSED
    assert "2 sampled responses equal" in verdict.reason
    assert "the samples of 2 more" in verdict.reason
    # A sample that it was asked for and did not answer is another matter.
    assert compare(list(LOGITS.items()), accuracy, 1e-3, asked=3).differing == (2,)


def test_a_run_without_a_response_to_compare_is_no_pass() -> None:
    none = compare([(3, LOGITS[3])], {0: LOGITS[0]}, 1e-3, asked=1)
    verdict = Audited(none, 1.0, 1e-3).judge("quick", "minilm on cpu")
    assert verdict.word == FAILED
    assert "none of the 1 sampled responses" in verdict.reason


def test_no_response_is_no_pass() -> None:
    assert Audited(compare([], LOGITS, 1e-3), 1.0, 1e-3).judge("quick", "case").word == FAILED


@pytest.mark.parametrize("ratio", [0.85, 1.15])
def test_speed_off_by_more_than_a_tenth_fails_under_mlperf_alone(ratio: float) -> None:
    comparison = compare(list(LOGITS.items()), LOGITS, 1e-3)
    assert Audited(comparison, ratio, 1e-3).judge("mlperf", "case").word == FAILED
    quick = Audited(comparison, ratio, 1e-3).judge("quick", "case")
    assert quick.word == PASSED
    assert f"{ratio:.3f}" in quick.reason


def test_a_speed_that_is_unknown_fails_under_mlperf() -> None:
    comparison = compare(list(LOGITS.items()), LOGITS, 1e-3)
    assert Audited(comparison, None, 1e-3).judge("mlperf", "case").word == FAILED
    assert Audited(comparison, None, 1e-3).judge("quick", "case").word == PASSED
