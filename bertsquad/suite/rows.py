"""What a session's reports carry to its end: a row for every case, run, failed or skipped."""

from typing import Any

import pytest

from bertsquad.results.result import FAILED, SKIPPED, Result, Row

#: The result of an item's case, which its report carries on.
RESULT = pytest.StashKey[Result]()


def attach(report: Any, item: pytest.Item, case: str, mode: str) -> None:
    """Let an item's report carry its row, also from a worker of pytest-xdist.

    A row is `Result.as_dict()`, or case, mode, verdict and reason alone of what has no result.
    """
    if report.when == "call" and RESULT in item.stash:
        report.bertsquad = item.stash[RESULT].as_dict()
    elif report.skipped:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        report.bertsquad = {"case": case, "mode": mode, "verdict": SKIPPED, "reason": reason}
    elif report.failed and report.when == "call":
        reason = str(report.longrepr)
        report.bertsquad = {"case": case, "mode": mode, "verdict": FAILED, "reason": reason}


def carried(terminalreporter: Any) -> list[Row]:
    """The rows of a session's reports, in the order in which the cases began."""
    reports = [
        report
        for reports in (terminalreporter.stats.values() if terminalreporter else ())
        for report in reports
        if hasattr(report, "bertsquad")
    ]
    return [report.bertsquad for report in sorted(reports, key=lambda report: report.start)]
