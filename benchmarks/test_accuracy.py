"""F1 on SQuAD, asserted."""

import pytest

from bertsquad.suite.cases import Case
from bertsquad.suite.harness import RunCase


@pytest.mark.accuracy
def test_accuracy(case: Case, run: RunCase) -> None:
    """Each sample answered once; F1 must reach its share of the reference.

    By default the streams and Server answer a subset, judged beside known answers to it.
    """
    result = run(case, "accuracy")
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
