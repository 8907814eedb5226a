"""The newest run of each case in each mode, machine by machine."""

from collections.abc import Iterator, Mapping, Sequence

from bertsquad.results import remarks, table
from bertsquad.results.archive import Archive, Lost, Series
from bertsquad.results.machines import Machine, labels, machine_of
from bertsquad.results.result import FAILED, SKIPPED, Outcome, Result
from bertsquad.results.table import Line


def newest_of(archive: Archive) -> list[Outcome]:
    """The newest of each series: its result, or that it failed later without a result."""
    failed = [one for one in archive.missing if one.verdict == FAILED]
    series = [one for one in archive.series if not any(_of_series(lost, one) for lost in failed)]
    return [*(one.newest for one in series), *archive.missing]


def _of_series(lost: Lost, series: Series) -> bool:
    """Whether a run without a result was one of a series, as far as is known."""
    same = (lost.mode, lost.case) == (series.mode, series.case)
    return same and lost.machine in (None, series.machine)


def lines(archive: Archive, width: int | None = None) -> list[Line]:
    """What the terminal shows of the newest runs: the remarks, and the table last."""
    rows = newest_of(archive)
    left_out = [f"left out: {sentence}" for sentence in archive.left_out]
    told = [*left_out, *remarks.remarks(rows)]
    shown = [row for row in rows if row.verdict != SKIPPED]
    made: list[Line] = [(one, {}) for line in told for one in table.wrapped(line, width)]
    for machine, some in _by_machine(shown, labels(archive.machines)):
        heading: list[Line] = [(f"On {machine}:", {})] if machine else []
        made += [("", {}), *heading, *table.table(some, width)]
    return made


def _by_machine(
    outcomes: Sequence[Outcome], names: Mapping[Machine, str]
) -> Iterator[tuple[str, list[Outcome]]]:
    """The outcomes of each machine, with its name where there are several machines."""
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        machine = machine_of(one) if isinstance(one, Result) else None
        if isinstance(one, Lost):
            machine = one.machine
        found.setdefault(named(machine, names), []).append(one)
    yield from found.items()


def named(machine: Machine | None, names: Mapping[Machine, str]) -> str:
    """What a machine is called on a page of several; nothing on one of a single machine."""
    if len(names) < 2:
        return ""
    return "a machine that isn't known" if machine is None else names[machine]
