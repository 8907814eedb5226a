"""Make one HTML page of finished runs, with plots and their history."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from bertsquad.console import echo
from bertsquad.errors import SuiteError
from bertsquad.results import archive, newest


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser(
        "report", help="make one HTML page of finished runs, with plots and their history"
    )
    made.set_defaults(run=_report)
    add = made.add_argument
    results = "folders that --output filled, JSON files of --benchmark-json, or folders of either"
    add("results", nargs="+", type=Path, metavar="RESULTS", help=results)
    case = "only the cases whose names contain TEXT; a page has plots of its first cases alone"
    add("--case", metavar="TEXT", default="", help=case)
    output = "the page to make (default: %(default)s)"
    add("-o", "--output", type=Path, default="report.html", metavar="FILE", help=output)


def _report(given: argparse.Namespace) -> int:
    try:
        from bertsquad.report import page
    except ModuleNotFoundError as error:
        way = "a report needs the extra `report`: pip install -e '.[report]'"
        library = str(error.name).partition(".")[0]
        raise SuiteError(f"{library} is not installed, and {way}") from error
    read = archive.read(given.results).of(given.case)
    size = page.write(read, given.output)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line, _ in newest.lines(read, width):
        echo(line)
    echo("")
    echo(f"made {given.output} ({size / 1000:.0f} kB)")
    return 0
