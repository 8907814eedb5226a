"""F1 on SQuAD, asserted."""

import pytest

from bertsquad.suite.cases import Case
from bertsquad.suite.harness import RunCase


@pytest.mark.accuracy
def test_accuracy(case: Case, run: RunCase) -> None:
    """All samples answered once; F1 must reach its share of the reference."""
    result = run(case, "accuracy")
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
