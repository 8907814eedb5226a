"""`python -m bertsquad`: everything around the runs that pytest makes."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bertsquad import __version__
from bertsquad.assets import cache, cleaning, registry
from bertsquad.console import Progress, echo, style, take_any_text
from bertsquad.errors import SuiteError
from bertsquad.files import failure
from bertsquad.machine import gpus, hardware, provenance
from bertsquad.models.zoo import MODELS
from bertsquad.squad.datasets import DATASETS
from bertsquad.submission.evidence import GROUP_FORM, Refused
from bertsquad.termination import INTERRUPTED, Terminated, terminable
from bertsquad.worker.handle import try_devices


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    take_any_text(sys.stdout)
    given = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        with terminable():
            return run(given)
    except SuiteError as error:
        message = str(error)
    except OSError as error:
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

    fetch = commands.add_parser(
        "fetch", help="download and verify files, for a machine that will be offline"
    )
    fetch.set_defaults(run=lambda given: _fetch(given.names))
    names = (
        f"a model ({', '.join(MODELS)}), a data set ({', '.join(DATASETS)}) or a file of "
        "data_registry.txt (default: everything)"
    )
    fetch.add_argument("names", nargs="*", metavar="NAME", help=names)

    doctor = commands.add_parser("doctor", help="what this machine can run, and why not the rest")
    doctor.set_defaults(run=lambda given: _doctor())

    clean = commands.add_parser("clean", help="remove derived files: features, prepared models")
    clean.set_defaults(run=lambda given: _clean(given.downloads))
    clean.add_argument("--downloads", action="store_true", help="remove downloaded files too")

    submission = commands.add_parser(
        "submission", help="make a submitter's tree for MLPerf Inference from finished runs"
    )
    submission.set_defaults(run=_submission)
    add = submission.add_argument
    add("results", nargs="+", type=Path, metavar="DIR", help="a folder given to pytest's --output")
    answers = "what the machine can't say, written by the first call (default: %(default)s)"
    add("--answers", type=Path, default="submission.toml", metavar="FILE", help=answers)
    tree = "the folder to make (default: %(default)s)"
    add("--tree", type=Path, default="submission", metavar="DIR", help=tree)
    add("--session", metavar=GROUP_FORM, help="which runs, where the folders hold several")
    shortened = "take shortened runs, and mark the tree as not for submission"
    add("--shortened", action="store_true", help=shortened)

    report = commands.add_parser(
        "report", help="make one HTML page of finished runs, with plots and their history"
    )
    report.set_defaults(run=lambda given: _report(given.results, given.case, given.output))
    add = report.add_argument
    results = "folders that --output filled, JSON files of --benchmark-json, or folders of either"
    add("results", nargs="+", type=Path, metavar="RESULTS", help=results)
    case = "only the cases whose names contain TEXT; a page has plots of its first cases alone"
    add("--case", metavar="TEXT", default="", help=case)
    output = "the page to make (default: %(default)s)"
    add("-o", "--output", type=Path, default="report.html", metavar="FILE", help=output)
    return made


def _files(names: Sequence[str]) -> list[str]:
    """The registry names that models, data sets and file names stand for."""
    if not names:
        return list(registry.entries())
    files: list[str] = []
    for name in names:
        model = MODELS.get(name)
        dataset = DATASETS.get(model.dataset if model else name)
        if model and model.file:  # a random model is built, not fetched
            files.append(model.file)
        if dataset:
            # int8 models are calibrated
            files += filter(None, (dataset.file, dataset.calibration))
        elif name in registry.entries():
            files.append(name)
        else:
            known = ", ".join([*MODELS, *DATASETS, *registry.entries()])
            raise SuiteError(f"expected names among {known}; got {name!r}")
    return list(dict.fromkeys(files))


def _fetch(names: Sequence[str]) -> int:
    status = 0
    for name in _files(names):
        try:
            with Progress(style()) as progress:
                path = registry.fetch(name, show=progress.show)
            echo(f"{name}: {path}")
        except SuiteError as error:
            echo(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


def _doctor() -> int:
    echo(f"bertsquad {__version__}")
    echo("versions: " + ", ".join(f"{name} {v}" for name, v in provenance.versions().items()))
    echo(f"machine:  {hardware.cpu_name()}, {hardware.cores()} cores")
    echo(f"GPU:      {gpus.summary()}")
    echo(f"data:     {cache.data_folder()}")
    echo(f"cache:    {cache.cache_folder()}")
    echo("files:")
    for name in registry.entries():
        path = registry.path_of(name)
        try:
            here = registry.is_here(path)
            state = f"ok ({registry.fetch(name)})" if here else "not here (fetch gets it)"
        except SuiteError as error:
            state = str(error)
        echo(f"  {name}: {state}")
    echo("devices:")
    tried = try_devices()
    loaded = provenance.versions(tried.versions)
    for name, version in provenance.claimed(tried.versions).items():
        echo(f"  {name} {loaded[name]} is loaded, though {version} is installed by that name")
    for name, reason in tried.reasons.items():
        state = f"no: {reason}" if reason else f"ok ({', '.join(tried.precisions[name])})"
        echo(f"  {name}: {state}")
    return 0


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


def _report(sources: Sequence[Path], case: str, path: Path) -> int:
    from bertsquad.results import archive

    try:
        from bertsquad.report import page
    except ModuleNotFoundError as error:
        way = "a report needs the extra `report`: pip install -e '.[report]'"
        library = str(error.name).partition(".")[0]
        raise SuiteError(f"{library} is not installed, and {way}") from error
    read = archive.read(sources).of(case)
    size = page.write(read, path)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in page.lines(read, width):
        echo(line)
    echo("")
    echo(f"made {path} ({size / 1000:.0f} kB)")
    return 0


#: So many names of what `clean` left are shown.
_SHOWN = 5


def _clean(downloads: bool) -> int:
    cleaned = [(cache.cache_folder(), cleaning.clean_cache())]
    if downloads:
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


if __name__ == "__main__":
    sys.exit(main())
