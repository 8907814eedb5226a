"""The gate's decision, on figures replayed night by night."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.results.gate import (
    FAILED,
    NO_BASELINE,
    PASSED,
    RUNS,
    GateVerdict,
    Measure,
    decide,
)

#: A night's figure, each time it is drawn.
Draw = Callable[[], float]


def qps(value: float) -> Measure:
    return Measure("qps", "QPS", value, higher_is_better=True)


def p99(value: float) -> Measure:
    return Measure("latency_p99_ms", "p99", value, higher_is_better=False)


def f1(value: float, least: float = 0.1) -> Measure:
    return Measure("f1", "F1", value, higher_is_better=True, least=least)


def replay(
    nights: Sequence[Draw], kind: Callable[[float], Measure] = qps, band: float = 5.0
) -> list[GateVerdict]:
    """The verdict of each night: a miss is run again once, and no failed night is in a baseline."""
    good: list[float] = []
    verdicts: list[GateVerdict] = []
    for draw in nights:
        failed_last = bool(verdicts) and verdicts[-1].failed
        verdict = decide(kind(draw()), good, band, failed_last)
        if verdict.failed:
            verdict = decide(kind(draw()), good, band, failed_last)
        verdicts.append(verdict)
        if not verdict.failed:
            good.append(verdict.value)
    return verdicts


def words(verdicts: Sequence[GateVerdict]) -> list[str]:
    return [one.verdict for one in verdicts]


def still(value: float) -> Draw:
    return lambda: value


def uniform(level: float, seed: int, per_cent: float = 4.0) -> Draw:
    rng = random.Random(seed)
    return lambda: level * (1 + rng.uniform(-per_cent, per_cent) / 100)


def normal(level: float, seed: int, per_cent: float = 4.0) -> Draw:
    """Nearly all within so many per cent: that is two standard deviations."""
    rng = random.Random(seed)
    return lambda: level * (1 + rng.gauss(0, per_cent / 2) / 100)


@pytest.mark.parametrize("before", [1, 2, 5, 10, 30])
def test_a_loss_that_stays_fails_every_night(before: int) -> None:
    slower = replay([still(100.0)] * before + [still(90.0)] * 40)
    assert words(slower) == [NO_BASELINE] + [PASSED] * (before - 1) + [FAILED] * 40
    later = replay([still(100.0)] * before + [still(110.0)] * 40, p99)
    assert words(later)[before:] == [FAILED] * 40


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_a_loss_that_stays_fails_every_night_on_a_machine_with_noise(
    noise: float, seed: int
) -> None:
    before, after = uniform(100.0, seed, noise), uniform(90.0, seed, noise)
    assert words(replay([before] * 12 + [after] * 20))[12:] == [FAILED] * 20


@pytest.mark.parametrize("kind", [qps, p99])
@pytest.mark.parametrize("noise", [uniform, normal])
def test_noise_of_four_per_cent_never_fails_from_the_first_night_on(
    noise: Callable[[float, int], Draw], kind: Callable[[float], Measure]
) -> None:
    for seed in range(200):
        assert FAILED not in words(replay([noise(31.4, seed)] * 30, kind)), seed


def test_a_99th_percentile_that_grows_by_15_per_cent_fails() -> None:
    *_, last = replay([still(80.0)] * 10 + [still(92.0)], p99)
    assert last.failed
    assert last.reason == (
        "gate: p99 92 is 15.0 % over the median of 10 good runs, 80 (band 5.0 %)"
    )


def test_what_is_better_passes_and_becomes_the_baseline_in_time() -> None:
    verdicts = replay([still(100.0)] * 10 + [still(130.0)] * 12 + [still(115.0)])
    assert words(verdicts)[1:-1] == [PASSED] * 21
    assert verdicts[-1].failed
    assert verdicts[-1].baseline == 130.0


def test_a_slow_loss_fails_before_it_has_grown_to_twice_the_band() -> None:
    for loss in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0):
        level, nights = 100.0, []
        for _ in range(300):
            nights.append(still(level))
            level *= 1 - loss / 100
        verdicts = replay([still(100.0)] * 15 + nights)
        first = words(verdicts).index(FAILED)
        assert verdicts[first].value > 88.0, loss
        assert set(words(verdicts)[first:]) == {FAILED}


def test_a_slow_loss_is_told_as_one() -> None:
    creeping = [100 * 0.998**night for night in range(60)]
    verdicts = replay([still(100.0)] * 15 + [still(one) for one in creeping])
    first = verdicts[words(verdicts).index(FAILED)]
    assert "has crept to 5." in first.reason
    assert "the best median of 10 good runs" in first.reason


def test_a_smaller_band_is_what_a_quiet_machine_can_have() -> None:
    quiet = [still(100.0)] * 30
    assert words(replay([*quiet, still(97.0)], band=2.0))[-1] == FAILED
    assert words(replay([*quiet, still(99.0)], band=2.0))[-1] == PASSED
    loud = [uniform(100.0, 3)] * 30
    last = replay([*loud, still(97.0)], band=2.0)[-1]
    assert not last.failed
    assert last.band == last.noise
    assert last.band is not None
    assert 5 < last.band < 9


def test_after_a_failed_night_noise_is_half_an_excuse() -> None:
    draw = uniform(100.0, 3)
    history = [draw() for _ in range(30)]
    doubtful = qps(94.0)
    assert not decide(doubtful, history).failed
    assert decide(doubtful, history, failed_last=True).failed


def test_a_drop_of_f1_is_judged_in_points_and_by_one_question() -> None:
    history = [83.527] * 5
    assert not decide(f1(83.44), history).failed
    lost = decide(f1(83.40), history, band=50.0)
    assert lost.failed
    assert lost.reason == (
        "gate: F1 83.4 is 0.1 points under the median of 5 good runs, 83.527 (band 0.1 points)"
    )
    assert not decide(f1(80.0, least=5.9), history).failed
    assert decide(f1(77.0, least=5.9), history).failed
    assert not decide(f1(99.0), history).failed


rates = st.floats(0.01, 1e6)


@given(st.lists(rates, max_size=40), rates, st.floats(0.1, 99), st.booleans())
def test_what_is_no_worse_than_all_before_never_fails_unless_it_crept(
    history: list[float], value: float, band: float, failed_last: bool
) -> None:
    best = max([value, *history])
    assert not decide(qps(best), history[-RUNS:], band, failed_last).failed
    verdict = decide(qps(value), history, band, failed_last)
    assert (verdict.verdict == NO_BASELINE) == (not history)
    assert verdict.band is None or failed_last or verdict.band >= band


@given(st.lists(rates, min_size=1, max_size=40), rates, st.floats(1.01, 4))
def test_the_scale_of_a_figure_makes_no_difference(
    history: list[float], value: float, factor: float
) -> None:
    one = decide(qps(value), history)
    other = decide(qps(value * factor), [factor * past for past in history])
    assert one.change == pytest.approx(other.change, abs=1e-6)
    assert one.band == pytest.approx(other.band)
