"""What `--gate` said of a case's runs, as a table."""

from collections.abc import Mapping

from bertsquad.report.exhibits import Table
from bertsquad.results.gate import GateVerdict
from bertsquad.results.result import Result


def table(results: Mapping[str, Result]) -> Table | None:
    """A row for each mode's run that the gate looked at; None where it looked at none."""
    seen = {mode: one.gate for mode, one in results.items() if one.gate is not None}
    if not seen:
        return None
    head = ("", "figure", "was", "median before", "good runs", "change", "band", "gate")
    return Table(head, [_row(mode, verdict) for mode, verdict in seen.items()])


def _row(mode: str, gate: GateVerdict) -> tuple[object, ...]:
    unit = "points" if gate.figure == "f1" else "%"

    def shown(value: float | None, form: str) -> str | None:
        return None if value is None else f"{value:{form}} {unit}"

    again = "" if gate.first_value is None else f", run again after {gate.first_value:.5g}"
    return (
        mode,
        gate.figure,
        gate.value,
        gate.baseline,
        gate.runs,
        shown(gate.change, "+.1f"),
        shown(gate.band, ".1f"),
        f"{gate.verdict}{again}",
    )
