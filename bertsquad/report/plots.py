"""Plots of results, each an `<svg>` element with ids that begin with its `name`.

A plot takes its colours from the page that it stands on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from bertsquad.loadgen.timeline import padding_share
from bertsquad.report.canvas import (
    HEIGHT,
    drawing,
    figure_of,
    level,
    one_plot,
    say,
    short,
    two_plots,
)
from bertsquad.report.svg import BAND, DATA, MARK, MUTED, inline

#: More points of a line than these have no marks of their own, which would cover each other.
MOST_MARKS = 60

#: So many nodes have a row each in a plot.
MOST_NODES = 12


@dataclass(frozen=True)
class Bar:
    """A case in a comparison; one with an `objection` in a word is hatched."""

    label: str
    value: float
    objection: str = ""


@dataclass(frozen=True)
class Score:
    """An F1 with its 95 % interval and target, all in per cent; `label` may be empty."""

    label: str
    f1: float
    interval: Sequence[float] | None
    target: float | None


@dataclass(frozen=True)
class Point:
    """A run in a history: its value, and its label below the axis."""

    label: str
    value: float


@dataclass(frozen=True)
class Course:
    """A node's samples/s span by span, and the second at which it was lost, None if it wasn't."""

    label: str
    rates: Sequence[float]
    lost_s: float | None = None


def latency(
    name: str,
    curve: Mapping[str, Sequence[float]],
    logged: Sequence[tuple[float, float]],
    bound_ms: float | None = None,
) -> str:
    """A percentile plot with a logarithmic tail: 0, 90, 99, 99.9 stand equally far apart.

    `curve` is a timeline's, in per cent and ms; `logged` are the (percentile, ms) of LoadGen's
    log, which are drawn as points; `bound_ms` is drawn as a line.
    """
    with drawing():
        figure, axes = one_plot(HEIGHT)
        places = [_nines(percentile) for percentile in curve["percentile"]]
        right = max([2.0, *places, *(_nines(percentile) for percentile, _ in logged)])
        top = max([*curve["ms"], *(ms for _, ms in logged), bound_ms or 0.0, 1e-9])
        axes.fill_between(places, curve["ms"], color=BAND, linewidth=0)
        axes.plot(places, curve["ms"], color=DATA, linewidth=2)
        for percentile, ms in logged:
            at = _nines(percentile)
            axes.plot([at, at], [0, ms], color=MARK, linewidth=0.8, linestyle=":")
            axes.plot([at], [ms], "o", color=MARK, markersize=5)
            # There is room to the right and below, but not at the right edge or near the axis.
            above = at > 0.8 * right or ms < 0.25 * top
            style = {"ha": "right", "va": "bottom"} if above else {"ha": "left", "va": "top"}
            text = f"p{percentile:g}\n{figure_of(ms)}"
            say(axes, text, (at, ms), (-5, 3) if above else (6, -5), linespacing=1.1, **style)
        if bound_ms is not None:
            axes.axhline(bound_ms, color=MARK, linewidth=1.4, linestyle="--")
            # Where the curve leaves room: at the left above it, at the right below it.
            above = bound_ms > logged[len(logged) // 2][1] if logged else True
            place, offset, side = (0, 4, "left") if above else (1, -4, "right")
            across = {"xycoords": axes.get_yaxis_transform(), "ha": side, "color": MARK}
            say(axes, f"bound {figure_of(bound_ms)} ms", (place, bound_ms), (offset, 3), **across)
        ticks = [0.0, *(float(nines) for nines in range(1, math.floor(right + 1e-9) + 1))]
        axes.xaxis.set_major_locator(FixedLocator([*ticks[:1], _nines(50.0), *ticks[1:]]))
        axes.set_xticklabels(["0", "50", *(_percent(nines) for nines in ticks[1:])])
        axes.set_xlim(0, right * 1.03)
        axes.set_ylim(0, top * 1.22)
        axes.set_xlabel("percentile, with a logarithmic tail")
        axes.set_ylabel("latency, ms")
        axes.yaxis.set_major_formatter(lambda value, _: figure_of(value))
        axes.grid(axis="y")
        text = ", ".join(f"p{percentile:g} {figure_of(ms)} ms" for percentile, ms in logged)
        bound = "" if bound_ms is None else f"; the bound is {figure_of(bound_ms)} ms"
        return inline(figure, name, f"Latency by percentile: {text}{bound}")


def course(name: str, digest: Mapping[str, Any], qps: float | None) -> str:
    """Samples/s span by span, with LoadGen's rate; below it the speed of the calculation itself."""
    with drawing():
        figure, rate, speed = two_plots()
        edges = [digest["span_s"] * n for n in range(len(digest["samples_per_s"]) + 1)]
        rate.stairs(digest["samples_per_s"], edges, fill=True, color=BAND)
        rate.stairs(digest["samples_per_s"], edges, baseline=None, color=DATA, linewidth=1.6)
        speed.stairs(digest["tokens_per_s"], edges, baseline=None, color=DATA, linewidth=1.6)
        if qps is not None:
            level(rate, qps, f"LoadGen: {figure_of(qps)}/s")
        rate.set_ylim(0, max([*digest["samples_per_s"], qps or 0.0, 1e-9]) * 1.25)
        rate.set_ylabel("samples/s")
        speed.set_ylim(0, max([*digest["tokens_per_s"], 1e-9]) * 1.25)
        speed.set_ylabel("tokens/s")
        speed.set_xlim(0, max(edges[-1], 1e-9))
        speed.set_xlabel("seconds into the run")
        figure.align_ylabels()
        text = f"Throughput over {figure_of(edges[-1])} s"
        return inline(figure, name, text if qps is None else f"{text}, {figure_of(qps)}/s")


def nodes(name: str, span_s: float, courses: Sequence[Course]) -> str:
    """A row a node: its samples/s span by span, all to one scale, and where it was lost."""
    with drawing():
        figure, axes = one_plot(44 + 38 * len(courses))
        edges, tallest = _edges(span_s, courses), _tallest(courses)
        for n, one in enumerate(courses):
            heights = [-n + 0.6 * rate / tallest for rate in one.rates]
            axes.stairs(heights, edges, baseline=-n, fill=True, color=BAND)
            axes.stairs(heights, edges, baseline=None, color=DATA, linewidth=1.2)
            above = {"xycoords": axes.get_yaxis_transform()}
            told = f"{short(one.label, 40)}: {figure_of(fmean(one.rates))}/s"
            say(axes, told, (0, -n + 0.64), (1, 1), **above)
            if one.lost_s is not None:
                axes.plot([one.lost_s] * 2, [-n, -n + 0.62], color=MARK, linewidth=2)
                lost = f"lost at {figure_of(one.lost_s)} s"
                say(axes, lost, (1, -n + 0.64), (-2, 1), ha="right", color=MARK, **above)
        axes.set_ylim(-len(courses) + 0.9, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return _of_nodes(figure, axes, name, edges, courses)


def many_nodes(name: str, span_s: float, courses: Sequence[Course]) -> str:
    """A band from the slowest node to the fastest and their median, where there are many.

    A dotted line stands where one was lost; all of `courses` have equally many spans.
    """
    with drawing():
        figure, axes = one_plot(HEIGHT)
        edges = _edges(span_s, courses)
        spans = list(zip(*(one.rates for one in courses), strict=True))
        lowest, highest, middle = ([of(span) for span in spans] for of in (min, max, median))
        axes.stairs(highest, edges, baseline=lowest, fill=True, color=BAND)
        axes.stairs(middle, edges, baseline=None, color=DATA, linewidth=1.6)
        for second in sorted({one.lost_s for one in courses if one.lost_s is not None}):
            axes.axvline(second, color=MARK, linewidth=1.4, linestyle=":")
        axes.set_ylim(0, 1.1 * _tallest(courses))
        axes.set_ylabel("samples/s of a node")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: figure_of(value))
        axes.grid(axis="y")
        return _of_nodes(figure, axes, name, edges, courses)


def _of_nodes(
    figure: Figure, axes: Axes, name: str, edges: Sequence[float], courses: Sequence[Course]
) -> str:
    """What the two plots of nodes have in common: their x axis, and what they say."""
    lost = sorted((one.lost_s, one.label) for one in courses if one.lost_s is not None)
    axes.set_xlim(0, max([edges[-1], *(second for second, _ in lost), 1e-9]))
    axes.set_xlabel("seconds into the run")
    text = f"Throughput of {len(courses)} nodes over {figure_of(edges[-1])} s"
    gone = [f"; {label} was lost at {figure_of(second)} s" for second, label in lost[:MOST_NODES]]
    return inline(figure, name, text + "".join(gone))


def _edges(span_s: float, courses: Sequence[Course]) -> list[float]:
    return [span_s * n for n in range(len(courses[0].rates) + 1)]


def _tallest(courses: Sequence[Course]) -> float:
    return max([*(rate for one in courses for rate in one.rates), 1e-9])


def batches(name: str, sizes: Sequence[Mapping[str, int]]) -> str:
    """How many batches had how many samples; below it the padding among their tokens."""
    with drawing():
        figure, count, padding = two_plots()
        places = [one["samples"] for one in sizes]
        width = 0.8 if len(places) > 1 else 0.4
        count.bar(places, [one["count"] for one in sizes], width, color=DATA)
        shares = [100 * padding_share(one["tokens"], one["padded_tokens"]) for one in sizes]
        padding.bar(places, shares, width, color=MARK)
        count.set_ylabel("batches")
        if not any(shares):
            middle = {"xycoords": "axes fraction", "ha": "center", "va": "center"}
            say(padding, "no padding", (0.5, 0.5), (0, 0), color=MUTED, **middle)
        padding.set_ylabel("padding, %")
        padding.set_ylim(0, max([*shares, 1.0]) * 1.15)
        padding.set_xlabel("samples in a batch")
        room = max(1.0, *(0.01 * abs(place) for place in places))
        padding.set_xlim(min(places) - room, max(places) + room)
        padding.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        count.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        figure.align_ylabels()
        total = sum(one["count"] for one in sizes)
        text = f"{total:.0f} batches of {min(places)} to {max(places)} samples, and their padding"
        return inline(figure, name, text)


def accuracy(name: str, scores: Sequence[Score]) -> str:
    """A row a case: F1 in per cent as a point, its 95 % interval as a bar, its target as a tick.

    A target that all cases share is one line through all rows.
    """
    with drawing():
        figure, axes = one_plot(74 + 38 * len(scores))
        targets = [score.target for score in scores if score.target is not None]
        shown = [end for score in scores for end in (score.f1, *(score.interval or ()))]
        low, high = min([*shown, *targets]), max([*shown, *targets])
        for row, score in enumerate(scores):
            if score.interval is not None:
                axes.plot(
                    score.interval, [-row] * 2, color=BAND, linewidth=8, solid_capstyle="butt"
                )
                for end in score.interval:
                    axes.plot([end] * 2, [-row - 0.15, -row + 0.15], color=DATA, linewidth=1.6)
            axes.plot([score.f1], [-row], "o", color=DATA, markersize=7)
            if len(set(targets)) > 1 and score.target is not None:
                axes.plot([score.target] * 2, [-row - 0.3, -row + 0.3], color=MARK, linewidth=1.6)
            end = max([score.f1, *(score.interval or ())])
            say(axes, f"{score.f1:.2f}", (end, -row), (7, 0), va="center")
            across = {"xycoords": axes.get_yaxis_transform()}
            say(axes, short(score.label, 60), (0, -row + 0.28), (0, 0), **across)
        if len(set(targets)) == 1:
            axes.axvline(targets[0], color=MARK, linewidth=1.4, linestyle="--")
            upward = {"xycoords": axes.get_xaxis_transform(), "va": "top", "color": MARK}
            say(axes, f"target {targets[0]:.2f}", (targets[0], 1), (5, 0), **upward)
        room = max(high - low, 1.0, 0.01 * high) * 0.25
        axes.set_xlim(max(low - room, -5.0), high + 1.6 * room)
        axes.set_ylim(-len(scores) + 0.35, 0.95)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("F1, %")
        return inline(figure, name, "; ".join(map(_said, scores)))


def _said(score: Score) -> str:
    text = f"{score.label} F1 {score.f1:.2f}".strip()
    if score.interval is not None:
        text += f", 95 % interval {score.interval[0]:.2f} to {score.interval[1]:.2f}"
    return text + ("" if score.target is None else f", target {score.target:.2f}")


def comparison(name: str, bars: Sequence[Bar], unit: str) -> str:
    """A bar a case, in the order given, with its value; those with an objection are marked."""
    with drawing():
        figure, axes = one_plot(44 + 38 * len(bars))
        places = [-float(n) for n in range(len(bars))]
        most = max([*(bar.value for bar in bars), 1e-9])
        for place, bar in zip(places, bars, strict=True):
            style: dict[str, Any] = {"color": BAND if bar.objection else DATA}
            if bar.objection:
                style |= {"hatch": "////", "edgecolor": DATA, "linewidth": 1}
            axes.barh(place, bar.value, 0.42, **style)
            say(axes, short(bar.label, 60), (0, place + 0.24), (1, 3.5))
            value = figure_of(bar.value) + (f" ({bar.objection})" if bar.objection else "")
            say(axes, value, (bar.value, place), (4, 0), va="center")
        axes.set_xlim(0, most * 1.28)
        axes.set_ylim(-len(bars) + 0.55, 0.75)
        axes.set_yticks([])
        axes.set_xlabel(unit)
        axes.grid(axis="x")
        axes.xaxis.set_major_formatter(lambda value, _: figure_of(value))
        text = "; ".join(f"{short(bar.label, 60)} {figure_of(bar.value)}" for bar in bars)
        return inline(figure, name, f"{unit}: {text}")


def history(name: str, points: Sequence[Point], unit: str, target: float | None = None) -> str:
    """A value run by run, the oldest first, with the runs' labels below it."""
    with drawing():
        figure, axes = one_plot(190)
        places = list(range(len(points)))
        values = [point.value for point in points]
        marker = "o" if len(points) <= MOST_MARKS else ""
        axes.plot(places, values, color=DATA, linewidth=1.8, marker=marker, markersize=5)
        shown = [*values, *(() if target is None else (target,))]
        if target is not None:
            level(axes, target, f"target {figure_of(target)}")
        room = max(max(shown) - min(shown), 0.02 * max(map(abs, shown)), 1e-9) * 0.3
        axes.set_ylim(min(shown) - room, max(shown) + room)
        axes.set_xlim(-0.4, len(points) - 0.6)
        step = math.ceil(len(points) / 5)
        labelled = sorted(places[::-step])  # counted from the newest, which has a label always
        axes.xaxis.set_major_locator(FixedLocator(labelled))
        axes.set_xticklabels([points[place].label for place in labelled], fontsize=9)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylabel(unit)
        axes.grid(axis="y")
        text = f"{unit} of {len(points)} runs, {figure_of(values[0])} to {figure_of(values[-1])}"
        return inline(figure, name, text)


def _nines(percentile: float) -> float:
    """The place of a percentile under 100 on the axis: 0, 1, 2, 3 for 0, 90, 99, 99.9."""
    return max(0.0, -math.log10(1 - percentile / 100))


def _percent(nines: float) -> str:
    """The percentile at a place of that axis."""
    return f"{100 - 100 * 10**-nines:.10g}"
