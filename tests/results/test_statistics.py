"""Confidence bounds are those of the published tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.results.statistics import student_t_cdf, student_t_quantile, upper_bound

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
