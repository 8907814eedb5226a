"""Results as rows for people: what each run is of, its figures and its verdict in a word."""

from collections.abc import Sequence
from datetime import UTC

from bertsquad.results.document import started
from bertsquad.results.figures import judged, plain
from bertsquad.results.machines import machine_of
from bertsquad.results.result import Missing, Result
from bertsquad.results.words import word

HEAD = ("case", "mode", "result", "beside", "samples", "verdict", "started (UTC)", "machine")


def row(outcome: Result | Missing) -> tuple[object, ...]:
    """A run as a row below HEAD."""
    if not isinstance(outcome, Result):
        return (outcome.case, outcome.mode, *[None] * 3, word(outcome).text, None, None)
    beside = plain(outcome)
    return (
        outcome.case,
        outcome.mode,
        _shown(outcome),
        beside if beside is None or beside.value is None else str(beside),
        outcome.sample_count,
        word(outcome).text,
        f"{started(outcome).astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        machine_of(outcome).name or machine_of(outcome).hardware,
    )


def _shown(result: Result) -> str | None:
    figure = judged(result)
    if figure is None:
        count = result.compliance_responses
        return f"{count} response{'' if count == 1 else 's'}"
    return None if figure.value is None else str(figure)


def machines(results: Sequence[Result]) -> list[str]:
    """The machines of results, each once, as people call them."""
    return list(dict.fromkeys(str(machine_of(one)) for one in results))
