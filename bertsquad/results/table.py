"""What the terminal shows of a session: the header before it, the table and the advice after it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bertsquad.results.advice import advise
from bertsquad.results.result import FAILED, PASSED, RESULT, SKIPPED, Row
from bertsquad.scenarios import SCENARIOS

COLUMNS = ("case", "mode", "result", "target", "p50/p90/p99 ms", "time", "provider", "verdict")

_PADDED = "run padded to its fixed length, which costs more than twice the work"

#: How pytest's terminal marks a line, such as `{"red": True}`.
Markup = Mapping[str, bool]


def lines(rows: Sequence[Row], width: int | None = None) -> Iterator[tuple[str, Markup]]:
    """Everything that the terminal shows after a session, with its markup.

    `width` is that of the terminal, None where lines may be of any length.
    """
    run = [row for row in rows if row["verdict"] != SKIPPED]
    if run:
        shown = table(run, width)
        height = 1 if len(shown) == len(run) + 1 else 2
        markups = [{}, *(_markup(row) for row in run for _ in range(height))]
        yield from zip(shown, markups[-len(shown) :], strict=True)
        yield "", {}
    for line in remarks(rows):
        yield line, {}
    folders = [Path(row["run_dir"]) for row in run if "run_dir" in row]
    if written := {str(folder.parent) for folder in folders if (folder / RESULT).is_file()}:
        command = ["python", "-m", "bertsquad", "report", *sorted(written), "-o", "report.html"]
        yield f"A page of these results: {shlex.join(command)}", {}


def table(results: Sequence[Row], width: int | None = None) -> list[str]:
    """The lines of an aligned table, header first, one row a result.

    Where that is wider than `width` there is no header, and two lines a result. A row is
    `Result.as_dict()`, or case, mode, verdict and reason alone of a case that failed without a
    result.
    """
    rows = [COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    if width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        return [line for row in rows[1:] for line in _stacked(row)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _stacked(row: tuple[str, ...]) -> Iterator[str]:
    case, mode, result, target, percentiles, *others, verdict = row
    yield f"{case}  {mode}  {verdict}"
    told = [result, f"target {target}", f"p50/p90/p99 {percentiles} ms", *others]
    empty = ["-", "target -", "p50/p90/p99 - ms", "-", "-"]
    parts = [part for part, nothing in zip(told, empty, strict=True) if part != nothing]
    yield f"    {', '.join(parts)}"


def _markup(row: Row) -> Markup:
    if row["verdict"] == FAILED:
        return {"red": True}
    plain = row["verdict"] == PASSED and row["loadgen_valid"] is not False
    return {} if plain else {"yellow": True}


def remarks(rows: Sequence[Row]) -> list[str]:
    """Below the table: what is no plain success, what to do about it, and what was not run.

    Lines of the same cure stand together above it, which is a line that starts with an arrow.
    """
    results = [row for row in rows if "provider" in row]
    by_cure: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda one: one["verdict"] != FAILED):
        who = f"{result['case']}, {result['mode']}"
        for advice in advise(result):
            by_cure.setdefault(advice.cure, []).append(f"{who}: {advice.matter}")
    by_cure = dict(sorted(by_cure.items(), key=lambda pair: pair[0] == ""))
    found = []
    for cure, matters in by_cure.items():
        found += [*dict.fromkeys(matters), *([f"  -> {cure}"] if cure else [])]
    return [*found, *_of_models(results), *_of_session(results), *_not_run(rows)]


def _of_models(results: Sequence[Row]) -> Iterator[str]:
    notes = {(r["model"], r["provenance"]["model_preparation"]) for r in results}
    for model, note in sorted(notes):
        if "(rebuilt, since" in note:
            yield f"{model}: {note}"
    for model in sorted({model for model, note in notes if "padded" in note}):
        yield f"{model}: {_PADDED}"


def _of_session(results: Sequence[Row]) -> Iterator[str]:
    sizes = {(r["dataset"], r["sample_count"], r["dataset_samples"]) for r in results}
    for dataset, count, samples in sorted(sizes):
        if count < samples:
            yield f"{dataset}: a subset, {count:,} of {samples:,} samples"
            yield "  -> --dataset-size all runs them all"
    if results and not all(result["mlperf_valid"] for result in results):
        yield "Not valid MLPerf results: see invalid_reasons in each result.json."
        if any(result["rules"] != "mlperf" for result in results):
            yield "  -> --rules mlperf runs by MLPerf's own constants, ten minutes a case or more"


def _not_run(rows: Sequence[Row]) -> Iterator[str]:
    by_reason: dict[str, list[Row]] = {}
    for row in rows:
        if row["verdict"] == SKIPPED:
            by_reason.setdefault(row["reason"], []).append(row)
    for reason, skipped in by_reason.items():
        if len(skipped) == 1:
            yield f"{skipped[0]['case']}, {skipped[0]['mode']}: not run: {reason}"
        else:
            yield f"{len(skipped)} cases not run: {reason}"


def _cells(result: Row) -> tuple[str, ...]:
    if "provider" not in result:  # it failed before there was anything to show
        return (result["case"], result["mode"], *["-"] * (len(COLUMNS) - 3), result["verdict"])
    figure, target, verdict = _FIGURES[result["mode"]](result)
    percentiles = "-"
    if result["mode"] == "performance" and result["scenario"] != "offline":
        percentiles = "/".join(
            _number(result[key], 1)
            for key in ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
        )
    provider = result["provider"].removesuffix("ExecutionProvider")
    time = f"{result['run_time_s']:.1f} s"
    return (result["case"], result["mode"], figure, target, percentiles, time, provider, verdict)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(result: Row) -> tuple[str, str, str]:
    size = f"{result['question_count']} questions"
    if result["sample_count"] < result["dataset_samples"]:
        size = f"subset, {size}"
    return (
        "-"
        if result["f1"] is None
        else f"F1 {result['f1']:.3f}, EM {_number(result['exact_match'], 3)}",
        "-" if result["f1_target"] is None else f"F1 {result['f1_target']:.3f}",
        f"{result['verdict']} ({size})",
    )


def _performance(result: Row) -> tuple[str, str, str]:
    """The figure that MLPerf judges the scenario by, or of a stream its percentile as measured."""
    percentile = SCENARIOS[result["scenario"]].percentile
    figure = (
        f"{_number(result['qps'], 2)} QPS"
        if percentile is None
        else f"p{percentile} {_number(result[f'latency_p{percentile}_ms'], 2)} ms"
    )
    parts = []
    if result["target_qps"] is not None:
        parts.append(f"{result['target_qps']:.2f} QPS")
    if result["target_latency_ms"] is not None:
        parts.append(f"{result['target_latency_ms']:.1f} ms")
    verdict = "VALID" if result["loadgen_valid"] else "INVALID"
    if result["loadgen_valid"] and result["verdict"] == FAILED:
        verdict = "VALID, failed"
    return figure, f"{', '.join(parts)} ({result['target_source']})", verdict


def _compliance(result: Row) -> tuple[str, str, str]:
    figure = (
        f"{result['compliance_responses']} responses, off by "
        f"{result['compliance_largest_difference']:.1g} at most"
    )
    told = f"TEST01, speed x {_number(result['compliance_speed_ratio'], 3)}"
    if result["loadgen_valid"] is False:
        told += ", INVALID"
    return figure, "-", f"{result['verdict']} ({told})"


_FIGURES = {"accuracy": _accuracy, "performance": _performance, "compliance": _compliance}
