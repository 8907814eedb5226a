"""`--require`: a case that must run fails where it would be skipped, and isn't left out unseen."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from bertsquad.results.result import Outcome
from bertsquad.scenarios import MODES
from bertsquad.suite.cases import collect
from bertsquad.suite.options import Options


def enforce(report: Any, case: str, options: Options) -> None:
    """Let a required case whose test was skipped, at whatever step, fail with the same reason."""
    if report.skipped and case in options.required:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        report.outcome, report.when = "failed", "call"
        report.longrepr = f"{case} is required, but would be skipped: {reason}"


def unmet(outcomes: Sequence[Outcome], options: Options) -> Iterator[str]:
    """A sentence for each required case of which no test ran."""
    ran = {one.case for one in outcomes}
    there = {case.id for mode in MODES for case in collect(options, mode)}
    for case in options.required:
        if case in ran:
            continue
        why = "none was selected (-k, -m), or the pytest session ended before"
        if case not in there:
            close = get_close_matches(case, sorted(there), n=1)
            meant = (
                f"did you mean {close[0]}?" if close else f"found {', '.join(sorted(there)[:3])}"
            )
            why = f"--model, --device and the like make no such case ({meant})"
        yield f"--require {case}: no test of it ran: {why}"
