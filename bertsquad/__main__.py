"""`python -m bertsquad`: everything around the runs that pytest makes."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from bertsquad import __version__
from bertsquad.commands import clean, compare, doctor, fetch, get, report, show, submission
from bertsquad.console import drop, echo, flush, take_any_text
from bertsquad.errors import SuiteError
from bertsquad.files import failure
from bertsquad.termination import INTERRUPTED, Terminated, terminable

#: The commands, in the order in which the help names them.
COMMANDS = (fetch, doctor, clean, submission, report, show, get, compare)

#: The status of a program that SIGPIPE ends, which says the same to a shell.
UNREAD = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    take_any_text(sys.stdout)
    given = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        with terminable():
            status = run(given)
            flush(sys.stdout)
            return status
    except SuiteError as error:
        message = str(error)
    except BrokenPipeError:  # who read the output has seen enough, as `head` has
        drop(sys.stdout)
        return UNREAD
    except OSError as error:
        drop(sys.stdout)
        message = str(failure(error))
    except Terminated as error:
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    echo(f"python -m bertsquad {given.command}: {message}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it parses has the command's function as `run`."""
    made = argparse.ArgumentParser(prog="python -m bertsquad", description=__doc__)
    made.add_argument("--version", action="version", version=f"bertsquad {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
