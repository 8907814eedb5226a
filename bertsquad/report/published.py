"""Published MLPerf figures of BERT-large on SQuAD v1.1, to stand beside one's own.

`published.csv` has a row for each submission. Its figures were read in the LoadGen summaries of
that submission: samples/s for Offline, completed samples/s for Server, and for SingleStream the
early-stopping estimate of the 90th percentile, in ms. A result's `mlperf_metric_value` is the same.
`cores` are the physical cores of the CPU that did the work, empty if a GPU did it; `precision` is
empty if the submission doesn't state it.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bertsquad.devices import GPUS
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.results.nodes import machines, physical_cores
from bertsquad.results.result import Result
from bertsquad.rules import CLOSED_MODELS
from bertsquad.scenarios import SCENARIOS

#: Where the logs of a submission are.
_SOURCE = (
    "https://github.com/mlcommons/inference_results_{round}/tree/main/{division}/{submitter}"
    "/results/{system}/bert-99"
)


_COLUMNS = set(
    "round division submitter system hardware software precision cores offline server "
    "singlestream".split()
)


@cache
def submissions() -> list[dict[str, str]]:
    """The rows of `published.csv`, an empty cell where one doesn't apply.

    Raises SuiteError where the file is damaged.
    """
    path = Path(__file__).with_name("published.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        for row in rows:
            if set(row) != _COLUMNS or not all(isinstance(cell, str) for cell in row.values()):
                raise ValueError("a row has other columns")
            for name in (*SCENARIOS, "cores"):
                float(row.get(name) or 0)
    except OSError as error:
        raise unreadable(path, error, "reinstall the suite") from error
    except (ValueError, csv.Error) as error:
        raise SuiteError(f"{path} is damaged ({error}): reinstall the suite") from error
    return rows


def why_not(result: Result) -> str | None:
    """Why no published figure can stand beside a result; None if some can."""
    if result.model not in CLOSED_MODELS:
        return f"{result.model} is not MLPerf's BERT-large"
    if result.dataset != "squad":
        return f"{result.dataset} is not SQuAD v1.1"
    if result.mode != "performance" or result.mlperf_metric_value is None:
        return "it has no MLPerf metric"
    if not any(one.get(result.scenario) for one in submissions()):
        return f"no figure of the scenario {result.scenario} is kept here"
    return None


@dataclass(frozen=True)
class Row:
    """A row of the table that compares a run with published figures.

    `cores` are those of the CPU that did the work, as far as they are known.
    """

    what: str
    hardware: str
    precision: str
    figure: float
    unit: str
    cores: int | None
    source: str | None = None

    @property
    def per_core(self) -> float | None:
        """A rate for each core; None for a latency."""
        return self.figure / self.cores if self.unit == "samples/s" and self.cores else None


def compare(result: Result) -> list[Row]:
    """A result and the published figures of its scenario, a row each; see `why_not` first."""
    unit = "samples/s" if SCENARIOS[result.scenario].has_rate else "ms"
    rows = [
        Row(
            "this run",
            machines(result),
            result.precision,
            result.mlperf_metric_value or 0.0,
            unit,
            physical_cores(result) if result.device not in GPUS else None,
        )
    ]
    for one in submissions():
        if figure := one.get(result.scenario):
            row = Row(
                f"{one['submitter']}, {one['round']} {one['division']}, {one['software']}",
                one["hardware"],
                one["precision"] or "not stated",
                float(figure),
                unit,
                int(one["cores"]) if one["cores"] else None,
                _SOURCE.format_map(one),
            )
            rows.append(row)
    return rows
