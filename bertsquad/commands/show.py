"""Show finished runs, a row a run: for the eye, a mail, a spreadsheet or a program."""

import argparse
import sys
from pathlib import Path
from typing import Any

from bertsquad.console import echo
from bertsquad.results import archive, columns, formats, rows
from bertsquad.results.result import FAILED, Missing, Result

#: What is read, as the help of each command says that reads results.
RESULTS = "folders that --output filled, JSON files of --benchmark-json, or folders of either"


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("show", help="show finished runs, a row a run, in a format")
    made.set_defaults(run=_show)
    add = made.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help=RESULTS)
    how = "table, md for a mail, csv, or jsonl: a result.json a line (default: %(default)s)"
    add("--format", choices=("table", "md", "csv", "jsonl"), default="table", help=how)
    keys = "keys of result.json, as case,qps,provenance.cores; csv has all that are one value"
    add("--columns", metavar="KEY[,KEY...]", default="", help=keys)
    add("--case", metavar="TEXT", default="", help="only the cases whose names contain TEXT")


def _show(given: argparse.Namespace) -> int:
    read = archive.read(given.results)
    shown = read.of(given.case)
    lost: list[Missing] = [one for one in shown.missing if one.verdict == FAILED]
    runs: list[Result | Missing] = [one for series in shown.series for one in series.runs]
    echo(_text([*runs, *lost], given.format, [key for key in given.columns.split(",") if key]))
    for sentence in read.left_out:
        echo(f"left out: {sentence}", file=sys.stderr)
    return 0


def _text(outcomes: list[Result | Missing], form: str, asked: list[str]) -> str:
    head: tuple[str, ...] = rows.HEAD
    if not asked and form in ("table", "md"):
        body = [rows.row(one) for one in outcomes]
    else:
        documents = [columns.short(one, asked) for one in outcomes]
        if not asked and form == "jsonl":
            return formats.lines_of(documents)
        head = tuple(asked) or columns.usual()
        body = [tuple(row) for row in columns.rows(documents, head)]
        if form == "jsonl":
            return formats.lines_of(dict(zip(head, row, strict=True)) for row in body)
    make = {"table": formats.aligned, "md": formats.markdown, "csv": formats.comma_separated}
    return make[form](head, body)
