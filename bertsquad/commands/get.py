"""Print one figure of a case's newest run, and nothing else, for a script."""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertsquad.commands.show import RESULTS
from bertsquad.console import echo
from bertsquad.errors import SuiteError
from bertsquad.results import archive, columns, document, rows
from bertsquad.results.archive import Archive
from bertsquad.results.result import FAILED, Result
from bertsquad.scenarios import MODES

#: Which mode is meant where several have a figure: that which is run for its figures first.
_ORDER = sorted(MODES, key=("performance", "accuracy", "compliance").index)


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("get", help="print one figure of a case's newest run")
    made.set_defaults(run=_get)
    add = made.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help=RESULTS)
    add("case", metavar="CASE", help="the case, as in the brackets of the test's name")
    add("figure", metavar="FIGURE", help="a key of result.json, as qps, f1 or provenance.cores")
    mode = "the mode; else that which has the figure, performance before accuracy"
    add("--mode", choices=MODES, help=mode)


def _get(given: argparse.Namespace) -> int:
    read = archive.read(given.results)
    found = _value(read, given.case, given.figure, [given.mode] if given.mode else _ORDER)
    echo(found if isinstance(found, str) else json.dumps(found))
    for sentence in read.left_out:
        echo(f"left out: {sentence}", file=sys.stderr)
    return 0


def _value(read: Archive, case: str, figure: str, modes: list[str]) -> Any:
    """The figure of the newest run of the first of the modes that has it.

    SuiteError where none has: there is no such case or key, the figure has no meaning for the
    case, or a later run gave no result.
    """
    of_case = [one for one in read.results if one.case == case]
    lost = {one.mode: one for one in read.missing if (one.case, one.verdict) == (case, FAILED)}
    if not of_case and not lost:
        raise _no_such_case(case, read)
    newest = {one.mode: one for one in sorted(of_case, key=document.started)}
    documents = {mode: columns.short(newest[mode], [figure]) for mode in modes if mode in newest}
    known = False
    for mode, keys in documents.items():
        try:
            found = columns.value(keys, figure)
        except KeyError:
            continue
        known = True
        if found is None:
            continue
        if (failed := lost.get(mode)) is not None:
            raise SuiteError(
                f"{case} ({mode}) has no {figure}, since its latest run gave no result "
                f"({failed.reason}): run the case again"
            )
        _tell_machines(of_case, mode)
        return found
    ran = " and ".join([*documents, *(f"{mode} (without a result)" for mode in lost)])
    if known or not documents:
        raise SuiteError(
            f"{case} has no {figure}: its runs are of {ran}, where that has no value; "
            "docs/results.md says which have it"
        )
    raise columns.no_such(figure, documents.values())


def _tell_machines(of_case: Sequence[Result], mode: str) -> None:
    """Say of which machine the newest run is, where there are runs of several."""
    runs = sorted((one for one in of_case if one.mode == mode), key=document.started)
    if len(machines := rows.machines(runs[::-1])) > 1:
        others = "; ".join(machines[1:])
        echo(f"of the newest run, on {machines[0]}; there are runs on {others}", file=sys.stderr)


def _no_such_case(case: str, read: Archive) -> SuiteError:
    names = sorted({*(one.case for one in read.results), *(one.case for one in read.missing)})
    near = difflib.get_close_matches(case, names, 5) or names[:5]
    more = f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    return SuiteError(
        f"expected a case of these results, got {case!r}: there are {', '.join(near)}{more}"
    )
