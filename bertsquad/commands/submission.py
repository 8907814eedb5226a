"""Make a submitter's tree for MLPerf Inference from finished runs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from bertsquad.console import echo
from bertsquad.submission.evidence import GROUP_FORM, Refused


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser(
        "submission", help="make a submitter's tree for MLPerf Inference from finished runs"
    )
    made.set_defaults(run=_submission)
    add = made.add_argument
    add("results", nargs="+", type=Path, metavar="DIR", help="a folder given to pytest's --output")
    answers = "what the machine can't say, written by the first call (default: %(default)s)"
    add("--answers", type=Path, default="submission.toml", metavar="FILE", help=answers)
    tree = "the folder to make (default: %(default)s)"
    add("--tree", type=Path, default="submission", metavar="DIR", help=tree)
    add("--session", metavar=GROUP_FORM, help="which runs, where the folders hold several")
    shortened = "take shortened runs, and mark the tree as not for submission"
    add("--shortened", action="store_true", help=shortened)


def _submission(given: argparse.Namespace) -> int:
    from bertsquad.submission.tree import submit

    try:
        made = submit(given.results, given.answers, given.tree, given.session, given.shortened)
    except Refused as refusal:
        for reason in refusal.reasons:
            echo(f"refused: {reason}", file=sys.stderr)
        return 1
    for folder in made:
        echo(f"made {folder}")
    if given.shortened:
        echo("made from shortened runs: nothing in it may be submitted")
    return 0
