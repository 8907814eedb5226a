"""What the terminal shows of finished cases: a table, and below it what to do."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertsquad.results.advice import advise
from bertsquad.results.result import FAILED, LATENCIES, PASSED, RESULT, SKIPPED, Outcome, Result
from bertsquad.scenarios import SCENARIOS

COLUMNS = ("case", "mode", "result", "target", "p50/p90/p99 ms", "time", "provider", "verdict")

#: Of so many cases each has a line of its own, where the same is to be said of them.
MOST_NAMED = 5

_PADDED = "run padded to its fixed length, which costs more than twice the work"

#: How pytest's terminal marks a line, such as `{"red": True}`.
Markup = Mapping[str, bool]


def lines(outcomes: Sequence[Outcome], width: int | None = None) -> Iterator[tuple[str, Markup]]:
    """Everything that the terminal shows after a pytest session, with its markup.

    `width` is that of the terminal, None where lines may be of any length.
    """
    run = [one for one in outcomes if one.verdict != SKIPPED]
    if run:
        yield from _table(run, width)
        yield "", {}
    for line in remarks(outcomes):
        yield line, {}
    folders = [Path(one.run_dir) for one in run if isinstance(one, Result)]
    if written := {str(folder.parent) for folder in folders if (folder / RESULT).is_file()}:
        command = ["python", "-m", "bertsquad", "report", *sorted(written), "-o", "report.html"]
        yield f"A page of these results: {shlex.join(command)}", {}


def table(outcomes: Sequence[Outcome], width: int | None = None) -> list[str]:
    """The lines of an aligned table, header first, one row a case.

    Where that is wider than `width` there is no header, and two lines a case.
    """
    return [line for line, _ in _table(outcomes, width)]


def _table(outcomes: Sequence[Outcome], width: int | None) -> Iterator[tuple[str, Markup]]:
    rows = [_cells(one) for one in outcomes]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    if width is None or sum(widths) + 2 * len(widths) - 2 <= width:
        yield _aligned(COLUMNS, widths), {}
        for one, row in zip(outcomes, rows, strict=True):
            yield _aligned(row, widths), _markup(one)
        return
    for one, row in zip(outcomes, rows, strict=True):
        for line in _stacked(row):
            yield line, _markup(one)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()


def _stacked(row: tuple[str, ...]) -> tuple[str, str]:
    case, mode, figure, target, percentiles, time, provider, verdict = row
    parts = [figure] if figure != "-" else []
    parts += [f"target {target}"] if target != "-" else []
    parts += [f"p50/p90/p99 {percentiles} ms"] if percentiles != "-" else []
    parts += [one for one in (time, provider) if one != "-"]
    return f"{case}  {mode}  {verdict}", f"    {', '.join(parts)}"


def _markup(outcome: Outcome) -> Markup:
    if outcome.verdict == FAILED:
        return {"red": True}
    invalid = isinstance(outcome, Result) and outcome.loadgen_valid is False
    return {"yellow": True} if invalid or outcome.verdict != PASSED else {}


@dataclass(frozen=True)
class Remark:
    """What there is to say below the table, and the cure that its lines share, if there is one."""

    lines: tuple[str, ...]
    cure: str = ""


def remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of `advice`; a cure is a line that starts with an arrow."""
    found = []
    for one in advice(outcomes):
        found += [*one.lines, *([f"  -> {one.cure}"] if one.cure else [])]
    return found


def advice(outcomes: Sequence[Outcome]) -> list[Remark]:
    """What is no plain success, what to do about it, and what was not run."""
    results = [one for one in outcomes if isinstance(one, Result)]
    by_cure: dict[str, list[tuple[str, Result]]] = {}
    for result in sorted(results, key=lambda one: one.verdict != FAILED):
        for found in advise(result):
            by_cure.setdefault(found.cure, []).append((found.matter, result))
    made = [Remark(tuple(grouped(found)), cure) for cure, found in by_cure.items()]
    made.sort(key=lambda remark: remark.cure == "")  # those without a cure come last
    return [
        *made,
        *_of_versions(results),
        *_of_models(results),
        *_of_pytest_session(results),
        *_not_run(outcomes),
    ]


def _of_versions(results: Sequence[Result]) -> Iterator[Remark]:
    found = set()
    for result in results:
        claimed, versions = map(result.provenance.get, ("versions_claimed", "versions"))
        if isinstance(claimed, dict) and isinstance(versions, dict):
            found |= {(name, str(one), str(versions.get(name))) for name, one in claimed.items()}
    for name, known, version in sorted(found):
        line = f"{name} {version} ran, though {known} is installed by that name"
        yield Remark((line,), f"pip install --force-reinstall {name} brings one version of it")


def grouped(matters: Sequence[tuple[str, Outcome]]) -> list[str]:
    """A line for each case and what there is to say of it, or one for many of which it is the same.

    The table above has a row for each.
    """
    cases_of: dict[str, dict[str, None]] = {}
    for matter, one in matters:
        cases_of.setdefault(matter, {})[f"{one.case}, {one.mode}"] = None
    found = []
    for matter, names in cases_of.items():
        cases = list(names)
        if len(cases) > MOST_NAMED:
            cases = [f"{'; '.join(cases[:3])} and {len(cases) - 3:,} more"]
        found += [f"{case}: {matter}" for case in cases]
    return found


def _of_models(results: Sequence[Result]) -> Iterator[Remark]:
    rebuilt, padded = set(), set()
    for result in results:
        facts = result.provenance
        if why := facts.get("model_rebuilt"):
            how = facts["model_preparation"]
            rebuilt.add(f"{result.model}: {how} (rebuilt, since the cached copy was {why})")
        if facts.get("model_padded_to"):
            padded.add(f"{result.model}: {_PADDED}")
    return (Remark((line,)) for line in [*sorted(rebuilt), *sorted(padded)])


def _of_pytest_session(results: Sequence[Result]) -> Iterator[Remark]:
    sizes = {(one.dataset, one.sample_count, one.dataset_samples) for one in results}
    for dataset, count, samples in sorted(sizes):
        if count < samples:
            line = f"{dataset}: a subset, {count:,} of {samples:,} samples"
            yield Remark((line,), "--dataset-size all runs them all")
    left_out = {(one.dataset, one.questions_left_out) for one in results if one.questions_left_out}
    for dataset, questions in sorted(left_out):
        line = f"{dataset}: without {questions:,} of its questions, which int8 is calibrated with"
        yield Remark((line,), "--calibration FILE gives others")
    if results and not all(result.mlperf_valid for result in results):
        cure = ""
        if any(result.rules != "mlperf" for result in results):
            cure = "--rules mlperf runs by MLPerf's own constants, ten minutes a case or more"
        line = "Not valid MLPerf results: see invalid_reasons in each result.json."
        yield Remark((line,), cure)


def _not_run(outcomes: Sequence[Outcome]) -> Iterator[Remark]:
    by_reason: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if one.verdict == SKIPPED:
            by_reason.setdefault(one.reason, []).append(one)
    for reason, skipped in by_reason.items():
        if len(skipped) == 1:
            yield Remark((f"{skipped[0].case}, {skipped[0].mode}: not run: {reason}",))
        else:
            yield Remark((f"{len(skipped)} cases not run: {reason}",))


def _cells(outcome: Outcome) -> tuple[str, ...]:
    if not isinstance(outcome, Result):
        nothing = ["-"] * (len(COLUMNS) - 3)
        return (outcome.case, outcome.mode, *nothing, outcome.verdict)
    result = outcome
    figure, target, verdict = _FIGURES[result.mode](result)
    percentiles = "-"
    if result.mode == "performance" and result.scenario != "offline":
        shown = [getattr(result, name) for percentile, name in LATENCIES if percentile < 99.9]
        percentiles = "/".join(_number(value, 1) for value in shown)
    provider = result.provider.removesuffix("ExecutionProvider")
    if result.nodes:
        provider += f", {result.number_of_nodes} node{'s' if result.number_of_nodes > 1 else ''}"
    time = f"{result.run_time_s:.1f} s"
    return (result.case, result.mode, figure, target, percentiles, time, provider, verdict)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(result: Result) -> tuple[str, str, str]:
    size = f"{result.question_count} questions"
    if result.no_answer_count:
        size += f", {result.no_answer_count} without an answer"
    if not result.whole:
        size = f"subset, {size}"
    figure = "-"
    if result.f1 is not None:
        figure = f"F1 {result.f1:.3f}, EM {_number(result.exact_match, 3)}"
    target = "-" if result.f1_target is None else f"F1 {result.f1_target:.3f}"
    return figure, target, f"{result.verdict} ({size})"


def _performance(result: Result) -> tuple[str, str, str]:
    """QPS, or a stream's latency at the percentile by which MLPerf judges it."""
    percentile = SCENARIOS[result.scenario].percentile
    if percentile is None:
        figure = f"{_number(result.qps, 2)} QPS"
    else:
        latency_ms = getattr(result, dict(LATENCIES)[percentile])
        figure = f"p{percentile} {_number(latency_ms, 2)} ms"
    targets = []
    if result.target_qps is not None:
        targets.append(f"{result.target_qps:.2f} QPS")
    if result.target_latency_ms is not None:
        targets.append(f"{result.target_latency_ms:.1f} ms")
    verdict = "VALID" if result.loadgen_valid else "INVALID"
    if result.loadgen_valid and result.verdict == FAILED:
        verdict = "VALID, failed"
    return figure, f"{', '.join(targets)} ({result.target_source})", verdict


def _compliance(result: Result) -> tuple[str, str, str]:
    off_by = result.compliance_largest_difference or 0.0
    figure = f"{result.compliance_responses} responses, off by {off_by:.1g} at most"
    told = f"TEST01, speed x {_number(result.compliance_speed_ratio, 3)}"
    if result.loadgen_valid is False:
        told += ", INVALID"
    return figure, "-", f"{result.verdict} ({told})"


_FIGURES = {"accuracy": _accuracy, "performance": _performance, "compliance": _compliance}
