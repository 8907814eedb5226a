"""Results as rows for people: what each run is of, its figures and its verdict in a word."""

from collections.abc import Sequence
from datetime import UTC

from bertsquad.results.document import started
from bertsquad.results.figures import Figure, judged, plain
from bertsquad.results.machines import machine_of
from bertsquad.results.result import FAILED, Missing, Result

HEAD = ("case", "mode", "result", "beside", "samples", "verdict", "started (UTC)", "machine")


def row(outcome: Result | Missing) -> tuple[object, ...]:
    """A run as a row below HEAD."""
    if not isinstance(outcome, Result):
        return (outcome.case, outcome.mode, *[None] * 3, outcome.verdict, None, None)
    beside = plain(outcome)
    return (
        outcome.case,
        outcome.mode,
        _shown(outcome),
        beside if beside is None or beside.value is None else str(beside),
        outcome.sample_count,
        word(outcome),
        f"{started(outcome).astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        machine_of(outcome).name or machine_of(outcome).hardware,
    )


def _shown(result: Result) -> str | None:
    figure: Figure | None = judged(result)
    if figure is None:
        return f"{result.compliance_responses} responses"
    return None if figure.value is None else str(figure)


def word(result: Result) -> str:
    """A result's verdict in a word: LoadGen's own for a performance run that didn't fail."""
    if result.verdict == FAILED or result.mode != "performance":
        return result.verdict
    return "VALID" if result.loadgen_valid else "INVALID"


def machines(results: Sequence[Result]) -> list[str]:
    """The machines of results, each once, as people call them."""
    return list(dict.fromkeys(str(machine_of(one)) for one in results))
