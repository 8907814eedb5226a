"""What came of each case, carried by pytest's reports to the end of the pytest session."""

from typing import Any

import pytest

from bertsquad import typed
from bertsquad.results.result import FAILED, SKIPPED, Missing, Outcome, Result

#: The result of an item's case, which its report carries on.
RESULT = pytest.StashKey[Result]()


def attach(report: Any, item: pytest.Item, case: str, mode: str) -> None:
    """Let an item's report carry what came of its case, also from a worker of pytest-xdist.

    It is carried as plain values, which is what pytest-xdist can send.
    """
    outcome: Outcome | None = None
    if report.when == "call" and RESULT in item.stash:
        outcome = item.stash[RESULT]
    elif report.skipped:
        outcome = Missing(case, mode, SKIPPED, report.longrepr[2].removeprefix("Skipped: "))
    elif report.failed and report.when == "call":
        outcome = Missing(case, mode, FAILED, str(report.longrepr))
    if outcome is not None:
        report.bertsquad = type(outcome).__name__, outcome.as_dict()


def carried(terminalreporter: Any) -> list[Outcome]:
    """What came of the cases of a pytest session, in the order in which they began."""
    reports = [
        report
        for reports in (terminalreporter.stats.values() if terminalreporter else ())
        for report in reports
        if hasattr(report, "bertsquad")
    ]
    kinds: dict[str, type[Result] | type[Missing]] = {"Result": Result, "Missing": Missing}
    found = []
    for report in sorted(reports, key=lambda report: report.start):
        kind, values = report.bertsquad
        found.append(typed.build(kinds[kind], values))
    return found
