"""What the terminal shows of finished cases: what to do, and below it the table, a row a case."""

import shlex
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertsquad.results import figures, names, words
from bertsquad.results.figures import Figure
from bertsquad.results.remarks import remarks
from bertsquad.results.result import RESULT, SKIPPED, Outcome, Result
from bertsquad.results.words import Word

COLUMNS = ("case", "F1", "MLPerf judges", "plain", "verdict", "TEST01")

#: No row is wider, however wide the terminal is: it is to be pasted into a mail.
MOST = 100

#: Stands in a cell of which there is nothing to show.
NOTHING = "-"

#: The mode whose verdict has a column of its own, since it audits another run.
AUDIT = "compliance"

#: How pytest's terminal marks a line, such as `{"red": True}`.
Markup = Mapping[str, bool]
Line = tuple[str, Markup]

_COLOURS: dict[str, Markup] = {
    "good": {"green": True},
    "warn": {"yellow": True},
    "slow": {"purple": True},
    "bad": {"red": True},
    "plain": {},
}


def lines(
    outcomes: Sequence[Outcome], width: int | None = None, skips: bool = True
) -> Iterator[Line]:
    """Everything that the terminal shows after a pytest session, the table last.

    `width` is that of the terminal, None where there is none. Without `skips`, nothing is said of
    what was not run.
    """
    for line in remarks(outcomes, skips):
        yield from ((one, {}) for one in wrapped(line, width))
    run = [one for one in outcomes if one.verdict != SKIPPED]
    folders = [Path(one.run_dir) for one in run if isinstance(one, Result)]
    if written := {str(folder.parent) for folder in folders if (folder / RESULT).is_file()}:
        command = ["python", "-m", "bertsquad", "report", *sorted(written), "-o", "report.html"]
        yield f"A page of these results: {shlex.join(command)}", {}
    if run:
        yield "", {}
        yield from table(run, width)


def wrapped(line: str, width: int | None) -> list[str]:
    """A line as lines that a terminal of this width doesn't break within a word."""
    if width is None:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line,
        min(width, MOST),
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


@dataclass(frozen=True)
class _Row:
    """What there is to say of a case, in all of its modes: its cells but the name, and its kind."""

    case: str
    nodes: str
    cells: tuple[str, ...]
    kind: str


#: Rows below what their names have in common, if that stands above them.
_Group = tuple[str, Sequence[tuple[str, _Row]]]


def table(outcomes: Sequence[Outcome], width: int | None = None) -> list[Line]:
    """The lines of an aligned table, header first: one row a case, in the order of their names.

    A column in which no row has anything is left out. Where whole names leave no room for the
    figures, what they have in common stands above the rows; where there is no room for a row
    either, it takes two lines.
    """
    by_case: dict[str, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: names.place(one.case, "")):
        by_case.setdefault(one.case, []).append(one)
    rows = [_row(case, found) for case, found in by_case.items()]
    room = min(width or MOST, MOST)
    layouts: tuple[Callable[[Sequence[_Row]], list[_Group]], ...] = (
        lambda rows: [("", [(row.case, row) for row in rows])],
        lambda rows: _grouped(rows, lambda row: names.parts(row.case)[0]),
        lambda rows: _grouped(rows, lambda row: names.parts(row.case)[:2]),
    )
    for layout in layouts:
        groups = layout(rows)
        made = list(_aligned(groups, room))
        if all(len(line) <= room for line, _ in made):
            return made
    return [line for row in rows for line in _stacked(row, room)]


def _grouped(rows: Sequence[_Row], key: Callable[[_Row], object]) -> list[_Group]:
    groups: dict[object, list[_Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    made: list[_Group] = []
    for found in groups.values():
        cases = [row.case for row in found]
        own = names.labels(cases)
        labelled = [(own[row.case] or names.parts(row.case)[1], row) for row in found]
        made.append((names.pattern(cases), labelled))
    return made


def _aligned(groups: Sequence[_Group], room: int) -> Iterator[Line]:
    rows = [(label + row.nodes, *row.cells) for _, found in groups for label, row in found]
    used = [n for n in range(len(COLUMNS)) if n == 0 or any(row[n] != NOTHING for row in rows)]
    widths = [max(len(row[n]) for row in (COLUMNS, *rows)) for n in used]

    def line(row: Sequence[str]) -> str:
        cells = (row[n].ljust(width) for n, width in zip(used, widths, strict=True))
        return "  ".join(cells).rstrip()

    yield line(COLUMNS), {"bold": True}
    for common, found in groups:
        if common:
            yield f"{names.shortened(common, room - 1)}:", {}
        for label, row in found:
            yield line((label + row.nodes, *row.cells)), _COLOURS[row.kind]


def _stacked(row: _Row, room: int) -> Iterator[Line]:
    """A row without a header: the name and the verdict, and below them the figures."""
    f1, judged, plain, verdict, audit = row.cells
    said = [verdict, f"TEST01 {audit}"]
    verdicts = ", ".join(one for one in said if not one.endswith(NOTHING))
    shown = [f"F1 {f1}", judged, f"plain {plain}"]
    name = names.shortened(row.case + row.nodes, max(room - len(verdicts) - 2, room // 2))
    yield f"{name}  {verdicts}", _COLOURS[row.kind]
    if found := ", ".join(one for one in shown if not one.endswith(NOTHING)):
        yield f"    {found}", _COLOURS[row.kind]


def _row(case: str, outcomes: Sequence[Outcome]) -> _Row:
    """A case's row. Of several results of a mode it shows the median, ± half of their spread."""
    modes: dict[str, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: names.place(case, one.mode)):
        modes.setdefault(one.mode, []).append(one)
    verdicts = {mode: words.worst(map(words.word, found)) for mode, found in modes.items()}
    results = [one for one in outcomes if isinstance(one, Result)]
    scored = [one for one in results if one.mode == "accuracy"]
    timed = [one for one in results if one.mode == "performance"]
    f1, spread = _median(map(figures.judged, scored))
    margins = [one for one in (spread, *map(figures.f1_margin, scored)) if one is not None]
    judged, margin = _median(map(figures.judged, timed))
    plain, _ = _median(map(figures.plain, timed))
    cells = (
        f1.number(max(margins, default=None)) if f1 else NOTHING,
        judged.told(margin) if judged else NOTHING,
        str(plain).removesuffix(" ms") if plain else NOTHING,
        _verdict({mode: one for mode, one in verdicts.items() if mode != AUDIT}) or NOTHING,
        verdicts[AUDIT].text if AUDIT in verdicts else NOTHING,
    )
    count = max((one.number_of_nodes for one in results if one.nodes), default=0)
    nodes = f" ({count} node{'s' if count > 1 else ''})" if count else ""
    return _Row(case, nodes, cells, words.worst(verdicts.values()).kind)


def _verdict(verdicts: Mapping[str, Word]) -> str:
    """The words on F1 and on the speed; beside another, a bad one of F1 says that it is of it.

    One that is said of both, as of a case that could not run, stands once.
    """
    if len({one.text for one in verdicts.values()}) == 1:
        return next(iter(verdicts.values())).text
    said = [
        f"F1 {one.text}"
        if len(verdicts) > 1 and (mode, one.kind) == ("accuracy", "bad")
        else one.text
        for mode, one in verdicts.items()
    ]
    return ", ".join(said)


def _median(found: Iterable[Figure | None]) -> tuple[Figure | None, float | None]:
    """The median of some figures, and half of their spread; None where there is but one."""
    shown = [one for one in found if one is not None]
    values = [one.value for one in shown if one.value is not None]
    if not values:
        return None, None
    spread = (max(values) - min(values)) / 2
    return replace(shown[0], value=statistics.median(values)), spread if len(values) > 1 else None
