"""What came of each case, carried by pytest's reports to the end of the pytest session."""

import time
from typing import Any

import pytest

from bertsquad import typed
from bertsquad.results.result import (
    FAILED,
    SKIPPED,
    Missing,
    Outcome,
    Result,
    flat_properties,
)

#: The result of an item's case, which its report carries on.
_RESULT = pytest.StashKey[Result]()

#: What pytest says of a test; other words are those of plugins that will run it again.
_FINAL = ("passed", "failed", "skipped")


def keep(item: pytest.Item, result: Result) -> None:
    """Keep the result of an item's case for its report and for JUnit."""
    item.stash[_RESULT] = result
    item.user_properties.extend(flat_properties(result))


def forget(item: pytest.Item) -> None:
    """Forget what an earlier attempt of the item gave, where a plugin runs it again."""
    if _RESULT in item.stash:
        earlier = list(flat_properties(item.stash[_RESULT]))
        item.user_properties[:] = [one for one in item.user_properties if one not in earlier]
        del item.stash[_RESULT]


def shorten(report: Any, call: pytest.CallInfo[None]) -> None:
    """Let the report on a case that fails by a sentence hold that alone."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, pytest.fail.Exception) and not error.pytrace:
        report.longrepr = str(report.longrepr)


def attach(report: Any, item: pytest.Item, case: str, mode: str) -> None:
    """Let an item's report carry what came of its case, also from a worker of pytest-xdist.

    It is carried as plain values, which is what pytest-xdist can send.
    """
    outcome: Outcome | None = None
    if report.when == "call" and _RESULT in item.stash:
        outcome = item.stash[_RESULT]
    elif report.skipped:
        outcome = Missing(case, mode, SKIPPED, report.longrepr[2].removeprefix("Skipped: "))
    elif report.failed and report.when == "call":
        outcome = Missing(case, mode, FAILED, str(report.longrepr))
    if outcome is not None:
        report.bertsquad = type(outcome).__name__, outcome.as_dict()


def attach_crash(report: Any, case: str, mode: str) -> None:
    """Let the report on an xdist worker that has died carry that its case failed."""
    outcome = Missing(case, mode, FAILED, str(report.longrepr))
    report.start = time.time()  # no report says when the case began
    report.bertsquad = type(outcome).__name__, outcome.as_dict()


def carried(terminalreporter: Any) -> list[Outcome]:
    """What came of the cases of a pytest session, in the order in which they began.

    An attempt that a plugin repeats, as pytest-rerunfailures does, is none of them.
    """
    reports = [report for report in _reports(terminalreporter) if report.outcome in _FINAL]
    kinds: dict[str, type[Result] | type[Missing]] = {"Result": Result, "Missing": Missing}
    found = []
    for report in sorted(reports, key=lambda report: report.start):
        kind, values = report.bertsquad
        found.append(typed.build(kinds[kind], values))
    return found


def repeated(terminalreporter: Any) -> list[dict[str, Any]]:
    """What attempts gave, as plain values, that a plugin has repeated."""
    reports = _reports(terminalreporter)
    return [report.bertsquad[1] for report in reports if report.outcome not in _FINAL]


def _reports(terminalreporter: Any) -> list[Any]:
    """The reports of a pytest session that carry what came of a case."""
    return [
        report
        for reports in (terminalreporter.stats.values() if terminalreporter else ())
        for report in reports
        if hasattr(report, "bertsquad")
    ]
