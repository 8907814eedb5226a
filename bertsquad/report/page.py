"""One HTML page about finished runs: verdicts, plots with their numbers, history, environment.

Needs the extra `report`. The headline figures are from LoadGen's log. The distributions, the course
of a run and its batches aren't in that log: the SUT measured them with its own clock.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import jinja2

from bertsquad import __version__
from bertsquad.errors import SuiteError
from bertsquad.files import unwritable, write_whole
from bertsquad.report import exhibits, gate, links, nodes, published
from bertsquad.report.canvas import figure_of
from bertsquad.report.circumstances import environments, is_number, made
from bertsquad.report.exhibits import Plot, Table
from bertsquad.report.links import Link
from bertsquad.results import remarks, words
from bertsquad.results.advice import advise
from bertsquad.results.archive import Archive, Lost, Series
from bertsquad.results.document import started
from bertsquad.results.machines import Machine, labels
from bertsquad.results.newest import named, newest_of
from bertsquad.results.nodes import machines
from bertsquad.results.result import FAILED, Result
from bertsquad.results.words import KINDS, Word
from bertsquad.scenarios import MODES, SCENARIOS

#: Marks a page as one of ours, since only such a file may be overwritten.
GENERATOR = "bertsquad report"

#: So many cases have plots, since a plot takes a tenth of a second. The others have its numbers.
DRAWN_CASES = 24


@dataclass(frozen=True)
class Figure:
    """A headline figure, with LoadGen's value to the last digit."""

    label: str
    value: float
    unit: str
    note: str = ""


@dataclass
class CaseView:
    """What the page says of one case, in all of its modes.

    `tables` are shown at once, `details` where a reader opens them. `machine` is what its machine
    is called where the page has several.
    """

    name: str
    anchor: str
    machine: str = ""
    chips: dict[str, Word] = field(default_factory=dict)
    brief: dict[str, str] = field(default_factory=dict)
    what: str = ""
    figures: list[Figure] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    details: list[tuple[str, Table]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    run_dir: str = ""

    @property
    def bad(self) -> bool:
        """Whether the case failed in any mode, or is INVALID for more than being short or slow."""
        return any(chip.kind == "bad" for chip in self.chips.values())


def write(archive: Archive, path: Path) -> int:
    """Write the page of what was read into a file, whole or not at all; its size in bytes.

    SuiteError if another file is there, or if it can't be written.
    """
    try:
        _check_target(path)
        page = render(archive, path).encode("utf-8")
        write_whole(path, lambda file: file.write_bytes(page))
    except OSError as error:
        raise unwritable(path, error, "choose another with -o") from error
    return len(page)


def _check_target(path: Path) -> None:
    """SuiteError if there is a file that is no report."""
    if not path.exists() and not path.is_symlink():
        return
    way = "choose another file with -o"
    if not path.is_file() or path.is_symlink():
        raise SuiteError(f"{path} is not a plain file, so no report is written over it: {way}")
    with path.open("rb") as file:
        if GENERATOR.encode() not in file.read(1000):
            raise SuiteError(f"{path} is there already and is no report of this suite: {way}")


def render(archive: Archive, path: Path | None = None) -> str:
    """The whole page as HTML, with links as they are right in the file `path`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {"figure": figure_of, "cell": _cell, "text": _text}
    environment.filters |= filters
    environment.tests["figure"] = is_number
    series = archive.series
    newest = [one.newest for one in series]
    failed = [one for one in archive.missing if one.verdict == FAILED]
    names = labels(archive.machines)
    cases = _cases(series, failed, path, names)
    chips = sorted((chip for case in cases for chip in case.chips.values()), key=_gravity)
    return environment.get_template("page.html").render(
        generator=GENERATOR,
        version=__version__,
        modes=[mode for mode in MODES if any(mode in case.chips for case in cases)],
        cases=cases,
        drawn=DRAWN_CASES,
        verdicts=sorted(cases, key=lambda case: not case.bad),
        counts=list(Counter(chips).items()),
        period=_period(newest),
        machines=list(dict.fromkeys(map(machines, newest)) if len(names) < 2 else map(str, names)),
        mlperf_valid=sum(one.mlperf_valid for one in newest),
        shown=len(newest),
        failed=_failed(newest, failed),
        remarks=remarks.advice([one for one in newest_of(archive) if one not in failed]),
        left_out=archive.left_out,
        comparisons=exhibits.comparisons(series, names),
        published=_published(newest),
        environments=environments(newest),
        runs=sum(len(one.runs) for one in series),
    )


def _cell(value: Any) -> str:
    """A cell of a table: numbers to ten digits, which is all that LoadGen logs."""
    if value is None:
        return "-"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _text(table: Table) -> str:
    """A table as lines of cells between tabs, which a browser takes in far faster than a table."""
    rows = [table.head, *table.rows]
    return "\n".join("\t".join(_cell(cell).replace("\t", " ") for cell in row) for row in rows)


def _gravity(chip: Word) -> tuple[int, str]:
    """The key that sorts verdicts, the worst first."""
    return KINDS.index(chip.kind), chip.text


def _period(newest: Sequence[Result]) -> str:
    """The days of the first and the last run, or the one day of all."""
    days = {f"{started(one).astimezone(UTC):%Y-%m-%d}" for one in newest}
    return f"{min(days)} to {max(days)}" if len(days) > 1 else "".join(days)


def _failed(newest: Sequence[Result], missing: Sequence[Lost]) -> dict[str, list[str]]:
    """Why cases failed: each reason, and the cases that failed for it."""
    reasons = [(one.failure, one) for one in newest] + [(one.reason, one) for one in missing]
    found: dict[str, list[str]] = {}
    for reason, one in reasons:
        if reason is not None:
            found.setdefault(reason, []).append(f"{one.case} ({one.mode})")
    return found


def _cases(
    series: Sequence[Series],
    missing: Sequence[Lost],
    path: Path | None,
    names: Mapping[Machine, str],
) -> list[CaseView]:
    """A view for each case on each machine, as `series` has them; those without a result last."""
    by_case: dict[tuple[str, str], dict[str, Series]] = {}
    for runs in series:
        by_case.setdefault((runs.case, named(runs.machine, names)), {})[runs.mode] = runs
    lost: list[tuple[tuple[str, str], Lost]] = []
    for one in missing:
        # Of a run whose machine isn't known the only one is meant that has the case, if one is.
        places = [place for place in by_case if place[0] == one.case]
        known = one.machine is not None or len(places) != 1
        lost.append(((one.case, named(one.machine, names)) if known else places[0], one))
    views: dict[tuple[str, str], CaseView] = {}
    for case, machine in dict.fromkeys([*by_case, *(place for place, _ in lost)]):
        word = re.sub(r"[^A-Za-z0-9]+", "-", case).strip("-")
        anchor = f"case-{len(views) + 1}-{word[:60]}"
        views[case, machine] = CaseView(case, anchor, machine)
    for place, modes in by_case.items():
        _fill(views[place], modes, path)
    for place, one in lost:
        view = views[place]
        before = "; its figures are of the run before" if one.mode in view.chips else ""
        view.sentences.append(f"{one.mode}: {one.reason} ({one.source}){before}")
        view.chips[one.mode] = words.word(one)
        view.brief[one.mode] = "no result"
    return list(views.values())


def _fill(view: CaseView, modes: dict[str, Series], path: Path | None) -> None:
    newest = {mode: one.newest for mode, one in modes.items()}
    any_one = next(iter(newest.values()))
    view.what = (
        f"{any_one.model} on {any_one.dataset}, {SCENARIOS[any_one.scenario].loadgen_name}, "
        f"{any_one.device}, {any_one.precision}"
    )
    for mode, result in newest.items():
        view.chips[mode] = words.word(result)
        view.brief[mode] = exhibits.brief(result)
        for advice in advise(result):
            cure = f" \N{RIGHTWARDS ARROW} {advice.cure}" if advice.cure else ""
            view.sentences.append(f"{mode}: {advice.matter}{cure}")
    accuracy, performance, compliance = (newest.get(mode) for mode in MODES)
    if performance is not None:
        view.figures += _speed_figures(performance)
        view.plots += exhibits.latency(view.anchor, performance)
    timed = performance or accuracy or any_one
    which = "" if timed is performance else f" of the {timed.mode} run"
    view.plots += exhibits.course(view.anchor, timed, which)
    view.plots += nodes.throughput(view.anchor, timed, which)
    view.plots += exhibits.batches(view.anchor, timed, which)
    if accuracy is not None:
        view.links, view.run_dir = links.answers(accuracy, path), accuracy.run_dir
    if accuracy is not None and accuracy.f1 is not None:
        view.figures += _f1_figures(accuracy)
        view.plots.append(exhibits.accuracy(view.anchor, accuracy, accuracy.f1))
    for one in modes.values():
        if one.mode != "compliance":  # its speed is that of the performance run
            view.plots += exhibits.history(f"{view.anchor}-{one.mode}", one)
        if len(one.runs) > 1:
            view.details.append((f"All {one.mode} runs", exhibits.runs(one)))
    if gated := gate.table(newest):
        view.tables.append(("The gate: compared with the runs before", gated))
    for mode, result in newest.items():
        if result.nodes:
            tables = view.tables if result is timed else view.details
            tables.append((f"Nodes of the {mode} run", nodes.table(result)))
    if compliance is not None:
        view.details.append(("Compliance: MLPerf's TEST01", _compliance(compliance)))
    for mode, result in newest.items():
        view.details.append((f"How the {mode} run was made", made(result)))


def _speed_figures(result: Result) -> list[Figure]:
    """LoadGen's own figures of a performance run."""
    found = []
    if result.qps is not None:
        target = "" if result.target_qps is None else figure_of(result.target_qps)
        note = f"target {target} ({result.target_source})" if target else ""
        found.append(Figure("throughput", result.qps, "samples/s", note))
    elif result.mlperf_metric_value is not None:
        percentile = SCENARIOS[result.scenario].percentile
        note = f"p{percentile} as MLPerf judges it: early stopping's estimate"
        found.append(Figure("latency", result.mlperf_metric_value, "ms", note))
    if result.scenario != "offline":
        found += [Figure(f"p{percent:g}", ms, "ms") for percent, ms in exhibits.logged(result)]
    return found


def _f1_figures(result: Result) -> list[Figure]:
    note = "no target" if result.f1_target is None else f"target {result.f1_target:.2f}"
    figures = [Figure("F1", result.f1 or 0.0, "%", note)]
    if result.exact_match is not None:
        figures.append(Figure("exact match", result.exact_match, "%"))
    note = f"{result.no_answer_count} questions, null threshold {result.null_threshold}"
    best = f"null threshold {result.best_null_threshold}"
    version_2 = (
        ("F1 with an answer", result.f1_has_answer, ""),
        ("F1 without one", result.f1_no_answer, note),
        ("highest F1", result.best_f1, best),
    )
    figures += [Figure(name, f1, "%", said) for name, f1, said in version_2 if f1 is not None]
    return figures


def _compliance(result: Result) -> Table:
    return Table(
        ("", "value"),
        [
            ("verdict", result.verdict),
            ("reason", result.reason),
            ("responses compared", result.compliance_responses),
            ("largest difference", result.compliance_largest_difference),
            ("speed against the run without audit", result.compliance_speed_ratio),
        ],
    )


def _published(newest: Sequence[Result]) -> dict[str, Any]:
    """Tables of published figures beside those of runs, and why other runs have none."""
    reasons = [(run, published.why_not(run)) for run in newest if run.mode == "performance"]
    tables = [(run, published.compare(run)) for run, reason in reasons if reason is None]
    return {"tables": tables, "reasons": list(dict.fromkeys(why for _, why in reasons if why))}
