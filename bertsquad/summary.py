"""What the terminal shows of a session: the header before it and the table after it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertsquad import assets, machine
from bertsquad.cases import Case, collect
from bertsquad.datasets import DATASETS
from bertsquad.estimates import estimate_s
from bertsquad.options import Options

COLUMNS = (
    "case",
    "mode",
    "F1 / QPS / p90",
    "target",
    "p50/p90/p99 ms",
    "time",
    "provider",
    "verdict",
)

_PADDED = "run padded to its fixed length, which costs more than twice the work"

Row = Mapping[str, Any]


def header(options: Options) -> list[str]:
    """What is under test: versions, machine, models, data sets, folders, rules."""
    cases = collect(options)
    models = {case.model.name: case.model.description for case in cases}
    datasets = {case.dataset: DATASETS[case.dataset].description for case in cases}
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    return [
        f"versions: {versions}",
        f"machine: {machine.cpu_name()}, {machine.cores()} cores; "
        f"GPU: {', '.join(machine.gpu_names()) or 'none'}",
        *(f"model {name}: {text}" for name, text in models.items()),
        *(f"data set {name}: {text}" for name, text in datasets.items()),
        f"folders: data {assets.data_folder()}, cache {assets.cache_folder()}, "
        f"output {options.output}",
        f"rules: {options.rules}",
    ]


def workload(chosen: Sequence[tuple[Case, str]], options: Options) -> str:
    """How many (case, mode) pairs are to run, and how long that may take."""
    seconds = sum(estimate_s(case, mode, options) for case, mode in chosen)
    time = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return f"{len(chosen)} cases to run, about {time} on this machine if their files can be had"


def table(results: Sequence[Row]) -> list[str]:
    """The lines of an aligned table, header first, one row a result.

    A row is `Result.as_dict()`, or case, mode, verdict and reason alone of a case that failed
    without a result.
    """
    rows = [COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def remarks(results: Sequence[Row]) -> list[str]:
    """Below the table: why a result is no plain success, one line each."""
    lines = []
    results = [result for result in results if "provider" in result]
    for result in results:
        if (
            result["verdict"] != "passed"
            or result["f1_upper_bound"] is not None
            or result["loadgen_valid"] is False
        ):
            lines.append(f"{result['case']}: {result['reason']}")
        lines += [f"{result['case']}, {result['mode']}: {one}" for one in result["warnings"]]
    notes = {(r["model"], r["provenance"]["model_preparation"]) for r in results}
    lines += [f"{model}: {note}" for model, note in sorted(notes) if "(rebuilt, since" in note]
    padded = {r["model"] for r in results if "padded" in r["provenance"]["model_preparation"]}
    lines += [f"{model}: {_PADDED}" for model in sorted(padded)]
    if results and not all(result["mlperf_valid"] for result in results):
        lines.append("Not valid MLPerf results: see invalid_reasons in each result.json.")
    return lines


def _cells(result: Row) -> tuple[str, ...]:
    if "provider" not in result:  # it failed before there was anything to show
        return (result["case"], result["mode"], *["-"] * (len(COLUMNS) - 3), result["verdict"])
    provider = result["provider"].removesuffix("ExecutionProvider")
    head, tail = (result["case"], result["mode"]), (f"{result['run_time_s']:.1f} s", provider)
    if result["mode"] == "accuracy":
        size = f"{result['question_count']} questions"
        if result["sample_count"] < result["dataset_samples"]:
            size = f"subset, {size}"
        return (
            *head,
            "-"
            if result["f1"] is None
            else f"F1 {result['f1']:.3f}, EM {result['exact_match']:.3f}",
            "-" if result["f1_target"] is None else f"F1 {result['f1_target']:.3f}",
            "-",
            *tail,
            f"{result['verdict']} ({size})",
        )
    if result["mode"] == "compliance":
        ratio = result["compliance_speed_ratio"]
        return (
            *head,
            f"{result['compliance_responses']} responses, off by "
            f"{result['compliance_largest_difference']:.1g} at most",
            "-",
            "-",
            *tail,
            f"{result['verdict']} (TEST01, speed x {'-' if ratio is None else f'{ratio:.3f}'})",
        )
    percentiles = "/".join(
        "-" if result[key] is None else f"{result[key]:.1f}"
        for key in ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
    )
    return (
        *head,
        f"{result['qps']:.2f} QPS" if result["qps"] else f"p90 {result['latency_p90_ms']:.2f} ms",
        _target(result),
        "-" if result["scenario"] == "offline" else percentiles,
        *tail,
        "VALID" if result["loadgen_valid"] else "INVALID",
    )


def _target(result: Row) -> str:
    parts = []
    if result["target_qps"] is not None:
        parts.append(f"{result['target_qps']:.2f} QPS")
    if result["target_latency_ms"] is not None:
        parts.append(f"{result['target_latency_ms']:.1f} ms")
    return f"{', '.join(parts)} ({result['target_source']})"
