"""Remove derived files, and downloaded ones too where that is asked for and agreed to."""

import argparse
import sys
from typing import Any

from bertsquad.assets import cache, cleaning
from bertsquad.assets.registry import Size
from bertsquad.console import echo
from bertsquad.errors import SuiteError

#: So many names of what `clean` left are shown.
_SHOWN = 5


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("clean", help="remove derived files: features, prepared models")
    made.set_defaults(run=_clean)
    downloads = "remove downloaded files too, once you have agreed"
    made.add_argument("--downloads", action="store_true", help=downloads)
    made.add_argument("--yes", action="store_true", help="agree now instead of being asked")


def _clean(given: argparse.Namespace) -> int:
    if given.downloads and not given.yes and not _agreed():
        echo("nothing was removed")
        return 1
    cleaned = [(cache.cache_folder(), cleaning.clean_cache())]
    if given.downloads:
        cleaned.append((cache.data_folder(), cleaning.clean_downloads()))
    for folder, done in cleaned:
        if folder in done.removed:
            echo(f"removed {folder} ({Size(sum(done.removed.values()))})")
        else:
            for path, size in done.removed.items():
                echo(f"removed {path} ({Size(size)})")
        if done.stayed:
            shown = [f"{path.relative_to(folder)} ({why})" for path, why in done.stayed[:_SHOWN]]
            more = len(done.stayed) - len(shown)
            others = f" and {more} more" if more else ""
            echo(f"left in {folder}: {', '.join(shown)}{others}")
        for sentence in done.failed:
            echo(sentence, file=sys.stderr)
    return 1 if any(done.failed for _, done in cleaned) else 0


def _agreed() -> bool:
    """Whether the downloaded files may go, as somebody at the terminal says.

    SuiteError where nobody is there to ask. Nobody is asked where there is nothing to remove.
    """
    found = cleaning.downloads()
    if not found:
        return True
    folder = cache.data_folder()
    count = f"{len(found)} file{'' if len(found) == 1 else 's'}"
    whole = f"{count} ({Size(sum(found.values()))})"
    if sys.stdin is None or not sys.stdin.isatty():
        raise SuiteError(
            f"{whole} would be removed from {folder}, and there is no terminal at which to ask: "
            "give --yes too if they may go"
        )
    for path, size in found.items():
        echo(f"{path} ({Size(size)})")
    try:
        answer = input(
            f"Remove {whole} from this folder? They are downloaded again when needed [y/N] "
        )
    except EOFError:
        echo("")
        return False
    return answer.strip().lower() in ("y", "yes")
