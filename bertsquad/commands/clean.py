"""Remove derived files, and downloaded ones too where that is asked for."""

import argparse
import sys
from typing import Any

from bertsquad.assets import cache, cleaning
from bertsquad.console import echo

#: So many names of what `clean` left are shown.
_SHOWN = 5


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("clean", help="remove derived files: features, prepared models")
    made.set_defaults(run=_clean)
    made.add_argument("--downloads", action="store_true", help="remove downloaded files too")


def _clean(given: argparse.Namespace) -> int:
    cleaned = [(cache.cache_folder(), cleaning.clean_cache())]
    if given.downloads:
        cleaned.append((cache.data_folder(), cleaning.clean_downloads()))
    for folder, done in cleaned:
        if folder in done.removed:
            echo(f"removed {folder}")
        else:
            for path in done.removed:
                echo(f"removed {path}")
        if done.stayed:
            shown = [f"{path.relative_to(folder)} ({why})" for path, why in done.stayed[:_SHOWN]]
            more = len(done.stayed) - len(shown)
            others = f" and {more} more" if more else ""
            echo(f"left in {folder}: {', '.join(shown)}{others}")
        for sentence in done.failed:
            echo(sentence, file=sys.stderr)
    return 1 if any(done.failed for _, done in cleaned) else 0
