"""What the page shows of the gate."""

from dataclasses import replace

from made import accuracy, performance

from bertsquad.report.gate import table
from bertsquad.report.page import render
from bertsquad.results.archive import Archive
from bertsquad.results.gate import GateVerdict

LOST = GateVerdict(
    *("failed", "qps", 90.5, 100.0, 10, -9.5, 5.0, 2.0, 0.0, 91.0),
    reason="gate: QPS 90.5 is 9.5 % under the median of 10 good runs, 100 (band 5.0 %)",
)
KEPT = GateVerdict("passed", "f1", 83.527, 83.527, 10, 0.0, 0.2, 0.0, 0.0)


def test_a_row_says_what_was_compared_with_what() -> None:
    found = table(
        {"accuracy": replace(accuracy(), gate=KEPT), "performance": performance("offline")}
    )
    assert found is not None
    (row,) = found.rows
    assert row == ("accuracy", "f1", 83.527, 83.527, 10, "+0.0 points", "0.2 points", "passed")
    assert len(found.head) == len(row)
    assert table({"performance": performance("offline")}) is None
    first = table(
        {
            "performance": replace(
                performance("offline"), gate=GateVerdict("no baseline", "qps", 9.0)
            )
        }
    )
    assert first is not None
    assert first.rows[0][3:] == (None, 0, None, None, "no baseline")


def test_the_page_shows_that_a_case_failed_by_the_gate_and_by_how_much() -> None:
    page = render(
        Archive([replace(performance("offline"), gate=LOST), replace(accuracy(), gate=KEPT)])
    )
    assert "The gate: compared with the runs before" in page
    assert "failed, run again after 91" in page
    assert "-9.5 %" in page
    assert "9.5 % under the median of 10 good runs, 100" in page
    assert "--gate-accept" in page
