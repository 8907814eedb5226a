"""The nodes of a cluster in a run: what each is and did, and its throughput over the run."""

import itertools
import statistics
from collections import Counter
from functools import partial
from typing import Any

from bertsquad.report import plots
from bertsquad.report.canvas import figure_of
from bertsquad.report.exhibits import Plot, Table
from bertsquad.results.result import Result

_HEAD = (
    *("node", "CPU", "cores", "GPUs", "memory", "peak memory", "instances x threads"),
    *("samples", "share, %", "busy, %", "lost"),
)


def table(result: Result) -> Table:
    """A row for each node that began a run: its hardware, what it answered, how it was lost."""
    lost = {one.node: f"at {one.second:.1f} s: {one.cause}" for one in result.nodes_lost}
    rows: list[tuple[Any, ...]] = []
    for node in result.nodes:
        gpus = ", ".join(f"{count} x {name}" for name, count in Counter(node.gpus).items())
        memory, peak = _in_gib(node.memory_bytes), _in_gib(node.peak_memory_bytes)
        division = f"{node.instances} x {node.threads}"
        shares = round(100 * node.share, 2), round(100 * node.busy_share, 2)
        what = node.node, node.cpu, node.cores, gpus or None, memory, peak, division
        rows.append((*what, node.samples, *shares, lost.get(node.node)))
    return Table(_HEAD, rows)


def _in_gib(count: int | None) -> str | None:
    return f"{count / 2**30:.1f} GiB" if count else None


def throughput(anchor: str, result: Result, which: str) -> list[Plot]:
    """The throughput of each node over a run, if it was kept; `which` names the run."""
    span_s = (result.timeline.get("course") or {}).get("span_s")
    lost = {one.node: one.second for one in result.nodes_lost}
    courses = [
        plots.Course(node.node, node.samples_per_s, lost.get(node.node))
        for node in result.nodes
        if node.samples_per_s
    ]
    if not courses or span_s is None:
        return []
    per_span = list(zip(*(one.rates for one in courses), strict=True))
    if len(courses) <= plots.MOST_NODES:
        draw = partial(plots.nodes, f"{anchor}-nodes", span_s, courses)
        head = [course.label for course in courses]
        numbers = per_span
        fastest = figure_of(max(map(max, per_span)))
        legend = f"All nodes to one scale; the highest rate is {fastest} samples/s."
    else:
        draw = partial(plots.many_nodes, f"{anchor}-nodes", span_s, courses)
        head = ["slowest", "median", "fastest"]
        numbers = [(min(rates), statistics.median(rates), max(rates)) for rates in per_span]
        legend = f"Band: the slowest to the fastest of {len(courses)} nodes. Line: their median."
    edges = [round(span_s * n, 3) for n in range(len(numbers) + 1)]
    rows = [(*span, *rates) for span, rates in zip(itertools.pairwise(edges), numbers, strict=True)]
    shown = Table(("from, s", "to, s", *head), rows)
    return [Plot(f"Throughput of the nodes{which}", draw, shown, "In samples/s.", legend)]
