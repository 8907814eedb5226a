"""Compare two sets of finished runs, B with A, case by case."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertsquad.commands.show import RESULTS
from bertsquad.console import echo
from bertsquad.errors import SuiteError
from bertsquad.results import archive, formats, resampling
from bertsquad.results.contrast import OFFERED, Change, Contrast, Fact, contrast, where
from bertsquad.results.names import shortened

_HEAD = ("case", "figure", "A", "B", "B / A", "95 % interval", "seen", "of")
_CSV = (
    *("case", "mode", "figure", "key", "unit", "a", "b", "ratio"),
    *("interval_low", "interval_high", "interval_of", "difference", "seen", "unlike"),
)
_FACTS = ("what differs", "A", "B", "in")
#: So many characters of a value of a fact are shown in a terminal; the other forms have all.
_WIDEST = 32
#: So many cases are named that only one side has.
_MOST = 5
#: What a reader of an interval could misunderstand.
_ONE_RUN = (
    "Intervals of one run each come from how its queries scatter and its speed drifted; how runs "
    "differ from each other isn't in them: repeat both, and they are of runs."
)
_TOO_SHORT = "Too short a run for an interval: a longer one (--min-duration-s) or repeats give it."
_F1 = "Of F1 there is the difference in points, B - A, and no ratio."
_OFFERED = "The QPS of Server is at most what was offered (--target-qps, or what a probe found)."


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("compare", help="compare two sets of finished runs, case by case")
    made.set_defaults(run=_compare)
    add = made.add_argument
    add("a", type=Path, metavar="A", help=f"what is compared with: {RESULTS}")
    add("b", type=Path, metavar="B", help="what is compared, from the same kinds of places")
    how = "table, md for a mail, csv or json for a program (default: %(default)s)"
    add("--format", choices=("table", "md", "csv", "json"), default="table", help=how)
    add("--case", metavar="TEXT", default="", help="only the cases whose names contain TEXT")
    for name in "AB":
        add(f"--case-{name.lower()}", metavar="TEXT", default="", help=f"the same for {name} alone")


def _compare(given: argparse.Namespace) -> int:
    if (given.a.resolve(), given.case_a) == (given.b.resolve(), given.case_b):
        raise SuiteError(
            f"A and B are both {given.a}: name two places with results, or two cases of one with "
            "--case-a and --case-b"
        )
    a, b = (archive.read([path]) for path in (given.a, given.b))
    found = contrast(a.of(given.case).of(given.case_a), b.of(given.case).of(given.case_b))
    echo(_text(found, str(given.a), str(given.b), given.format))
    for name, read in (("A", a), ("B", b)):
        for sentence in read.left_out:
            echo(f"left out of {name}: {sentence}", file=sys.stderr)
    return 0


def _text(found: Contrast, a: str, b: str, form: str) -> str:
    if form == "json":
        return formats.document({"A": a, "B": b, **dataclasses.asdict(found)})
    if form == "csv":
        return formats.comma_separated(_CSV, (_flat(found, one) for one in found.changes))
    make = formats.markdown if form == "md" else formats.aligned
    start = "- " if form == "md" else ""
    parts = [f"{start}A: {a}\n{start}B: {b}"]
    if found.changes:
        of_runs = any(_of_runs(one) for one in found.changes)
        width = len(_HEAD) if of_runs else len(_HEAD) - 1
        parts.append(make(_HEAD[:width], (_row(one)[:width] for one in found.changes)))
    if found.facts:
        parts.append(make(_FACTS, (_fact(one, found.common, form) for one in found.facts)))
    if notes := list(_notes(found)):
        parts.append("\n".join(f"{start}{note}" for note in notes))
    return "\n\n".join(parts)


def _row(one: Change) -> tuple[str | None, ...]:
    digits = 3 if one.key == "f1" else 2
    unit = " ms" if one.unit == "ms" else ""
    change = None if one.ratio is None else f"{one.ratio:.3f}"
    if one.difference is not None:
        change = f"{one.difference:+.3f}"
    interval = one.interval_of
    if one.interval is not None:
        interval = f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
    figures = f"{one.a:.{digits}f}", f"{one.b:.{digits}f}"
    of = one.interval_of if _of_runs(one) else None
    return (one.case, f"{one.figure}{unit}", *figures, change, interval, one.seen, of)


def _fact(one: Fact, common: list[str], form: str) -> tuple[str, str, str, str]:
    """A fact's row; a terminal has no room for a sentence beside another."""
    a, b = map(formats.cell, (one.a, one.b))
    short = shortened(a, _WIDEST), shortened(b, _WIDEST)
    if form == "table" and short[0] != short[1]:  # what differs is to be seen
        a, b = short
    return one.fact, a, b, where(one.where, common)


def _of_runs(one: Change) -> bool:
    """Whether an interval is of several runs."""
    return one.interval is not None and one.interval_of != resampling.ONE_RUN


def _flat(found: Contrast, one: Change) -> list[Any]:
    """A change as a row below _CSV."""
    row = dataclasses.asdict(one)
    row["interval_low"], row["interval_high"] = one.interval or (None, None)
    name = f"{one.case} ({one.mode})"
    row["unlike"] = "; ".join(why for why, names in found.unlike.items() if name in names)
    return [row[key] for key in _CSV]


def _notes(found: Contrast) -> Iterator[str]:
    for sentence, names in found.unlike.items():
        yield f"unlike runs, {where(names, found.common)}: {sentence} (in B, in A)"
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        yield from (f"only in {name}: {one}" for one in only[:_MOST])
        if len(only) > _MOST:
            yield f"only in {name}: {len(only) - _MOST} more"
    yield from found.notes
    if any(one.difference is not None for one in found.changes):
        yield _F1
    of = {one.interval_of for one in found.changes}
    if resampling.ONE_RUN in of:
        yield _ONE_RUN
    if resampling.TOO_SHORT in of:
        yield _TOO_SHORT
    if OFFERED in {one.seen for one in found.changes}:
        yield _OFFERED
