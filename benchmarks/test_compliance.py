"""MLPerf's TEST01: a performance run must answer as the accuracy run does, and as fast."""

import pytest

from bertsquad.suite.cases import Case
from bertsquad.suite.harness import RunCase


@pytest.mark.compliance
def test_compliance(case: Case, run: RunCase) -> None:
    """Responses are asserted always, the speed under `--rules mlperf`."""
    result = run(case, "compliance")
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
