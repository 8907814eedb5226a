"""Confidence bounds of a mean, by Student's t distribution."""

import math
from collections.abc import Sequence


def upper_bound(values: Sequence[float], confidence: float) -> float:
    """The one-sided upper confidence bound of the mean of two or more values (Student's t)."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean + student_t_quantile(confidence, n - 1) * math.sqrt(variance / n)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The two-sided 95 % confidence interval of the mean of F1 scores of 0 to 1, in per cent."""
    if len(values) < 2:
        return None
    high = upper_bound(values, 0.975)
    low = 2 * math.fsum(values) / len(values) - high
    return 100 * max(low, 0.0), 100 * min(high, 1.0)


def half_width(differences: Sequence[float], confidence: float) -> float:
    """How far the mean of two or more paired differences of F1 may be off, on one side.

    It is Student's t half-width, but never less than the share of questions that may be of a kind
    that none of these `n` shows: `1 - (1 - confidence) ** (1 / n)`, the exact binomial bound for
    none of n. Without it, few questions that are all answered alike would seem to prove that all
    others are, too.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    unseen: float = 1 - (1 - confidence) ** (1 / n)
    return max(upper_bound(differences, confidence) - mean, unseen)


def student_t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution above its median, by bisection."""
    low, high = 0.0, 1.0
    while student_t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if student_t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def student_t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for whole degrees of freedom, by the finite series.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    term = total = 1.0 if freedom % 2 == 0 else (math.cos(angle) if freedom > 1 else 0.0)
    for k in range(2 if freedom % 2 == 0 else 3, freedom - 1, 2):
        term *= cos2 * (k - 1) / k
        total += term
    if freedom % 2 == 0:
        return 0.5 + math.sin(angle) * total / 2
    return 0.5 + (angle + math.sin(angle) * total) / math.pi
