from collections.abc import Callable

import pytest

from bertsquad.errors import SuiteError
from bertsquad.suite import parsers


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (parsers.count, ("0", "-1", "1.5", "", "ten", "nan")),
        (parsers.tokens, ("383", "1", "0", "-384", "384.0", "many")),
        (parsers.size, ("0", "-20", "ALL", "everything")),
        (parsers.positive, ("0", "-1", "nan", "inf", "-inf", "1e999", "", "fast")),
        (parsers.per_cent, ("0", "-99", "100.1", "99%", "0.885", "0.99", "1", "1.0")),
        (parsers.choice("cpu", "cuda"), ("gpu3", "CPU", "", "cpu ")),
    ],
)
def test_a_bad_value_is_quoted_in_one_line(
    parse: Callable[[str], object], texts: tuple[str, ...]
) -> None:
    for text in texts:
        with pytest.raises(SuiteError) as caught:
            parse(text)
        assert repr(text) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_budget_smaller_than_a_sample_says_how_large_a_sample_is() -> None:
    with pytest.raises(SuiteError) as caught:
        parsers.tokens("383")
    assert str(caught.value) == (
        "expected at least 384, the tokens of the longest sample, got '383'"
    )
