"""What a report shows of results: plots with their numbers, and verdicts in a word."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any

from bertsquad.loadgen.timeline import padding_share
from bertsquad.report import plots
from bertsquad.results import figures
from bertsquad.results.archive import Series
from bertsquad.results.document import started
from bertsquad.results.machines import Machine, machine_of
from bertsquad.results.nodes import machines
from bertsquad.results.result import LATENCIES, Result
from bertsquad.results.words import word
from bertsquad.scenarios import SCENARIOS, Scenario

_STARTED = "started (UTC)"

#: What can be told apart in a plot: so many runs of a history, so many cases side by side.
MOST_POINTS, MOST_ROWS = 300, 40


@dataclass(frozen=True)
class Table:
    """The numbers of a plot; the page aligns cells that are numbers to the right."""

    head: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Plot:
    """A plot, which `draw` makes as SVG, and its numbers.

    `note` says what a reader of the numbers could misunderstand, `legend` what one of the plot.
    """

    title: str
    draw: Callable[[], str]
    table: Table
    note: str = ""
    legend: str = ""


def brief(result: Result) -> str:
    """A result in a few words, for the list of verdicts."""
    figure, beside = figures.judged(result), figures.plain(result)
    if figure is None:
        count = result.compliance_responses
        return f"{count} response{'' if count == 1 else 's'}"
    margin = figures.f1_margin(result)
    said = f"no {figure.name}" if figure.value is None else figure.told(margin)
    if result.mode == "accuracy" and not result.whole:
        said += " (subset)"
    if beside is None or beside.value is None:
        return said
    return f"{said} (plain {beside})"


def logged(result: Result) -> list[tuple[float, float]]:
    """The percentiles in LoadGen's log, in per cent, and the latency of each, in ms."""
    found = ((percentile, getattr(result, field)) for percentile, field in LATENCIES)
    return [(percentile, ms) for percentile, ms in found if ms is not None]


def latency(anchor: str, result: Result) -> list[Plot]:
    """The percentile plot of a performance run, if its latencies were kept."""
    curve, loadgen = result.timeline.get("latency") or {}, dict(logged(result))
    if not curve.get("percentile") or not loadgen:
        return []
    bound = result.target_latency_ms if result.scenario == "server" else None
    draw = partial(plots.latency, f"{anchor}-latency", curve, logged(result), bound)
    own = dict(zip(curve["percentile"], curve["ms"], strict=True))
    rows: list[tuple[Any, ...]] = [(p, ms, own.get(p)) for p, ms in loadgen.items()]
    if bound is not None:
        rows.append(("bound", bound, None))
    if (figure := figures.judged(result)) is not None and figure.unit == "ms":
        rows.append((f"{figure.name} as MLPerf judges it", figure.value, None))
    rows += [(p, None, ms) for p, ms in own.items() if p not in loadgen]
    off_by = result.timeline.get("off_by_us")
    notes = []
    if off_by is not None:
        apart = f"{off_by:.0f} µs" if off_by < 1000 else f"{off_by / 1000:.1f} ms"
        notes.append(f"The suite's own clock is at most {apart} from LoadGen's log.")
    if result.scenario == "offline":
        queue = "In Offline all samples are issued at once, so a latency is a place in the queue."
        notes.append(queue)
    table = Table(("percentile", "LoadGen, ms", "own clock, ms"), rows)
    legend = "Points: LoadGen's log. Line: the suite's own clock."
    return [Plot("Latency", draw, table, " ".join(notes), legend)]


def course(anchor: str, result: Result, which: str) -> list[Plot]:
    """The throughput over a run, if its timeline was kept; `which` names the run in the title."""
    course = result.timeline.get("course") or {}
    rates, speeds = course.get("samples_per_s", []), course.get("tokens_per_s", [])
    if not rates:
        return []
    span = course["span_s"]
    rows = [
        (round(span * n, 3), round(span * (n + 1), 3), rate, speed)
        for n, (rate, speed) in enumerate(zip(rates, speeds, strict=True))
    ]
    draw = partial(plots.course, f"{anchor}-course", course, result.qps)
    table = Table(("from, s", "to, s", "samples/s", "tokens/s"), rows)
    note = "Tokens/s are padded ones while an instance calculates, the speed of the model."
    return [Plot(f"Throughput{which}", draw, table, note)]


def batches(anchor: str, result: Result, which: str) -> list[Plot]:
    """The sizes of a run's batches and their padding, if its timeline was kept."""
    sizes = result.timeline.get("batches") or []
    if not sizes:
        return []
    rows: list[tuple[Any, ...]] = []
    for one in sizes:
        tokens, padded = one["tokens"], one["padded_tokens"]
        share = round(100 * padding_share(tokens, padded), 2)
        rows.append((one["samples"], one["count"], tokens, padded, share))
    note = ""
    if result.padding_share is not None:
        note = f"{100 * result.padding_share:.1f} % of all tokens calculated were padding."
    table = Table(("samples", "batches", "tokens", "padded tokens", "padding, %"), rows)
    draw = partial(plots.batches, f"{anchor}-batches", sizes)
    return [Plot(f"Batches{which}", draw, table, note)]


def accuracy(anchor: str, result: Result, f1: float) -> Plot:
    """F1 against its target."""
    rows: list[tuple[Any, ...]] = [("F1, %", f1), ("exact match, %", result.exact_match)]
    if result.f1_interval is not None:
        rows += [("95 % interval from", result.f1_interval[0]), ("to", result.f1_interval[1])]
    if result.f1_target is not None:
        rows.append(("target", result.f1_target))
    if result.f1_upper_bound is not None:
        rows.append(("one-sided 99.9 % bound", result.f1_upper_bound))
    rows.append(("questions", result.question_count))
    if (beside := result.reference) is not None:
        rows += [
            (f"F1 of {beside.named} to them", beside.f1),
            ("paired difference to it", beside.difference),
            ("its one-sided 99.9 % half-width", beside.half_width),
            ("questions whose F1 differs", beside.differing),
        ]
    if result.questions_left_out:
        rows.append(("questions left out for calibration", result.questions_left_out))
    score = plots.Score("", f1, result.f1_interval, result.f1_target)
    draw = partial(plots.accuracy, f"{anchor}-f1", [score])
    legend = "The bar is the 95 % confidence interval."
    note = f"{result.question_count} questions."
    if not result.whole:
        note += " A subset fails only where its one-sided 99.9 % bound is under the target."
    return Plot("F1 against its target", draw, Table(("", "value"), rows), note, legend)


def history(name: str, series: Series) -> list[Plot]:
    """The figure that MLPerf judges, run by run, of the runs that are like the newest."""
    figure, beside = figures.judged(series.newest), figures.plain(series.newest)
    if figure is None:
        return []
    alike = [run for run in series.alike if getattr(run, figure.key) is not None]
    if len(alike) < 2:
        return []
    title = {"qps": "Throughput", "f1": "F1"}.get(figure.key, f"{figure.name} as MLPerf judges it")
    unit = "F1, %" if figure.key == "f1" else figure.unit
    points = [plots.Point(_label(run), getattr(run, figure.key)) for run in alike]
    target = series.newest.f1_target if figure.key == "f1" else None
    head: tuple[str, ...] = (_STARTED, "revision", unit)
    rows: list[tuple[Any, ...]] = []
    for run in alike:
        more = () if beside is None else (getattr(run, beside.key),)
        rows.append((_when(run), _revision(run), getattr(run, figure.key), *more))
    if beside is not None:
        head = (*head, f"plain {beside.name}, ms")
    draw = partial(plots.history, f"{name}-{figure.key}", points[-MOST_POINTS:], unit, target)
    legend = _drawn("newest", rows, MOST_POINTS, "runs")
    return [Plot(f"{title}, run by run", draw, Table(head, rows), legend=legend)]


def runs(series: Series) -> Table:
    """Every run of a case in a mode, also those that can't be compared with the newest."""
    head = (_STARTED, "revision", "result", "verdict", "rules", "samples", "CPU", "comparable")
    rows: list[tuple[Any, ...]] = []
    for run, comparable in zip(series.runs, series.comparable, strict=True):
        what = (brief(run), word(run).text, run.rules, run.sample_count)
        rows.append(
            (_when(run), _revision(run), *what, machines(run), "yes" if comparable else "no")
        )
    return Table(head, rows)


def _when(run: Result) -> str:
    return f"{started(run).astimezone(UTC):%Y-%m-%d %H:%M}"


def _revision(run: Result) -> str:
    return str(run.provenance.get("git_revision") or "none")


def _label(run: Result) -> str:
    """A run's label below an axis: its time and short revision, with a star if that was changed."""
    revision = _revision(run)
    star = "*" if revision.endswith("-dirty") else ""
    return f"{started(run).astimezone(UTC):%m-%d %H:%M}\n{revision[:7]}{star}"


def comparisons(series: Sequence[Series], names: Mapping[Machine, str]) -> list[Plot]:
    """The cases of each scenario side by side, and all F1; with machines' `names` if of several."""
    timed = [one.newest for one in series if one.mode == "performance"]
    scored = [one.newest for one in series if one.mode == "accuracy"]
    made = [plot for scenario in SCENARIOS.values() for plot in _speeds(timed, scenario, names)]
    found = [(_bar_name(run, run.case, names), run) for run in scored if run.f1 is not None]
    if len(found) > 1:
        scores = [plots.Score(name, r.f1 or 0.0, r.f1_interval, r.f1_target) for name, r in found]
        rows = [(name, r.f1, *(r.f1_interval or (None, None)), r.f1_target) for name, r in found]
        table = Table(("case", "F1, %", "95 % from", "to", "target"), rows)
        draw = partial(plots.accuracy, "compare-f1", scores[:MOST_ROWS])
        legend = _drawn("first", rows, MOST_ROWS, "cases")
        made.append(Plot("F1", draw, table, legend=legend))
    return made


def _bar_name(run: Result, case: str, names: Mapping[Machine, str]) -> str:
    """What a case is called beside others: with its machine, where there are several."""
    return case if len(names) < 2 else f"{names[machine_of(run)]}: {case}"


def _speeds(
    timed: Sequence[Result], scenario: Scenario, names: Mapping[Machine, str]
) -> list[Plot]:
    """The cases of one scenario, the fastest first; one without a figure is in the table alone."""
    found, without = [], []
    for run in timed:
        if run.scenario == scenario.name and (figure := figures.judged(run)) is not None:
            if figure.value is None:
                without.append(run)
            else:
                found.append((figure.value, run))
    if len(found) < 2:
        return []
    found.sort(key=lambda pair: pair[0], reverse=scenario.has_rate)
    best = found[0][0]
    unit = "samples/s" if scenario.has_rate else f"p{scenario.percentile}, ms"
    bars, rows = [], []
    for value, run in [*found, *((None, run) for run in without)]:
        case = run.case.replace(f"-{run.scenario}-", "-", 1)  # the title says the scenario
        name = _bar_name(run, case, names)
        if value is not None:
            bars.append(plots.Bar(name, value, "" if run.loadgen_valid else word(run).text))
        share = round(value / best, 4) if value is not None and best else None
        beside = () if scenario.has_rate else (getattr(figures.plain(run), "value", None),)
        rows.append((name, value, *beside, share, word(run).text, run.sample_count))
    said = f"{unit}; {'more' if scenario.has_rate else 'less'} is better"
    draw = partial(plots.comparison, f"compare-{scenario.name}", bars[:MOST_ROWS], said)
    plain = () if scenario.has_rate else ("plain, ms",)
    table = Table(("case", unit, *plain, "of the best", "verdict", "samples"), rows)
    legend = _drawn("best", bars, MOST_ROWS, "cases")
    return [Plot(scenario.loadgen_name, draw, table, legend=legend)]


def _drawn(which: str, rows: Sequence[Any], most: int, of: str) -> str:
    """What is said of a plot that would show more rows than can be told apart."""
    if len(rows) <= most:
        return ""
    return f"The {which} {most} of {len(rows):,} {of} are drawn; the numbers are of all."
