"""The table of published figures: each cell is what its column says."""

import re

import pytest

from bertsquad.devices import PRECISIONS
from bertsquad.report.published import submissions
from bertsquad.scenarios import SCENARIOS

NUMBER = r"\d+(\.\d+)?"

#: What a cell of each column looks like.
COLUMNS = {
    "round": r"v\d\.\d",
    "division": "closed|open",
    "submitter": r"\w+",
    "system": r"[\w.-]+",
    "hardware": r"(NVIDIA|AMD|\d x Intel) [\w .+]+(, \d+ cores)?",
    "software": r"[\w' ,.]+",
    "precision": f"({'|'.join(PRECISIONS)})?",
    "cores": r"(\d+)?",
    **dict.fromkeys(("offline", "server", "singlestream"), f"({NUMBER})?"),
}


@pytest.mark.parametrize("row", submissions(), ids=lambda row: row["system"])
def test_every_cell_is_what_its_column_says(row: dict[str, str]) -> None:
    assert list(row) == list(COLUMNS)  # no cell too many and none too few
    for column, form in COLUMNS.items():
        assert re.fullmatch(form, row[column]), column
    figures = [float(row[name]) for name in COLUMNS if name in SCENARIOS and row[name]]
    assert figures and min(figures) > 0
    # The hardware says the cores that a rate is divided by; a GPU has none.
    stated = re.search(r", (\d+) cores$", row["hardware"])
    assert row["cores"] == (stated[1] if stated else "")
    assert (row["cores"] == "") == row["hardware"].startswith("NVIDIA")


def test_no_submission_is_listed_twice() -> None:
    listed = [(one["round"], one["submitter"], one["system"]) for one in submissions()]
    assert len(set(listed)) == len(listed) > 0
