"""What two runs lose against each other on the same questions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.results.reference import BUNDLED, FEWEST, MOST_TOLD, Difference, Pair, compare
from bertsquad.results.statistics import half_width

SHARE = st.floats(0, 1)


def pair(*f1: float, whole_f1: float | None = 83.5) -> Pair:
    return Pair(BUNDLED, "minilm", {f"q{n}": one for n, one in enumerate(f1)}, whole_f1)


def test_the_difference_is_taken_from_what_the_reference_has_on_the_whole() -> None:
    found = compare(pair(1.0, 1.0, 0.5, 0.0, 1.0), ["q0", "q2", "q3"], [1.0, 0.0, 0.2])
    assert found is not None
    assert (found.questions, found.differing) == (3, 2)
    assert found.first == [Difference("q2", 0.5, 0.0), Difference("q3", 0.0, 0.2)]
    assert found.f1 == pytest.approx(50)
    assert found.difference == pytest.approx(10)
    assert found.estimate == pytest.approx(73.5)


def test_where_the_whole_is_unknown_the_same_questions_count() -> None:
    found = compare(pair(1.0, 0.5, whole_f1=None), ["q0", "q1"], [0.5, 0.5])
    assert found is not None
    assert found.estimate == pytest.approx(50)


def test_a_question_that_the_reference_lacks_leaves_nothing_to_compare() -> None:
    assert compare(pair(1.0, 1.0), ["q0", "q1", "q2"], [1.0, 1.0, 1.0]) is None
    assert compare(pair(1.0, 1.0), ["q0"], [1.0]) is None


def test_few_of_many_differences_are_named() -> None:
    count = 3 * MOST_TOLD
    found = compare(pair(*[1.0] * count), [f"q{n}" for n in range(count)], [0.0] * count)
    assert found is not None
    assert (found.differing, len(found.first)) == (count, MOST_TOLD)


def test_the_half_width_is_student_s() -> None:
    # 17 differences, of which 8 are a whole answer: 3.686 is the quantile of 16 degrees.
    values = [-1.0] * 8 + [0.0] * 9
    deviation = math.sqrt((8 * (9 / 17) ** 2 + 9 * (8 / 17) ** 2) / 16)
    assert half_width(values, 0.999) == pytest.approx(3.686 * deviation / math.sqrt(17), rel=1e-3)


@pytest.mark.parametrize(("count", "least"), [(2, 0.9684), (17, 0.3339), (91, 0.0731)])
def test_equal_differences_leave_open_what_none_of_so_many_can_show(
    count: int, least: float
) -> None:
    for value in (0.0, -1.0, 0.3):
        assert half_width([value] * count, 0.999) == pytest.approx(least, abs=1e-4)


@given(st.lists(st.tuples(SHARE, SHARE), min_size=FEWEST, max_size=40))
def test_figures_are_finite_and_the_surer_bound_is_the_wider(
    rated: list[tuple[float, float]],
) -> None:
    own, theirs = zip(*rated, strict=True)
    ids = [f"q{n}" for n in range(len(rated))]
    found = compare(pair(*theirs), ids, own)
    assert found is not None
    assert 0 < found.half_width_95 < found.half_width < math.inf
    assert -100 <= found.difference <= 100
    assert found.estimate <= found.bound or found.bound == 100
    assert found.likely_bound <= found.bound
