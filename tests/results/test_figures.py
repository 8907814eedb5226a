from dataclasses import replace

import pytest
from made import accuracy, performance

from bertsquad.results.figures import judged, plain


@pytest.mark.parametrize(
    ("scenario", "shown", "beside"),
    [
        ("offline", "31.42 QPS", "None"),
        ("singlestream", "p90 81.23 ms", "p90 "),
        ("multistream", "p99 81.23 ms", "p99 "),
        ("server", "31.42 QPS", "p99 "),
    ],
)
def test_a_timed_run_is_judged_by_what_mlperf_judges_it_by(
    scenario: str, shown: str, beside: str
) -> None:
    made = performance(scenario)
    assert str(judged(made)) == shown
    assert str(plain(made)).startswith(beside)


def test_the_judged_figure_of_an_accuracy_run_is_f1() -> None:
    made = replace(accuracy("offline"), f1=90.1234)
    assert str(judged(made)) == "F1 90.123"
    assert plain(made) is None


def test_a_figure_that_there_is_not_is_a_dash() -> None:
    assert str(judged(replace(accuracy("offline"), f1=None))) == "-"
    assert judged(replace(performance("offline"), mode="compliance")) is None


@pytest.mark.parametrize("scenario", ["offline", "singlestream", "multistream", "server"])
def test_a_figure_names_the_field_that_it_is_of(scenario: str) -> None:
    made = performance(scenario)
    for figure in (judged(made), plain(made)):
        assert figure is None or figure.value == getattr(made, figure.key)
