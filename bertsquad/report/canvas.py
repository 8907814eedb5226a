"""What every plot is drawn on: its size and style, and the words that stand in it."""

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bertsquad.report.svg import GRID, INK, MARK, MUTED

#: Width of every plot, and height of most, in points (the unit of font sizes).
WIDTH, HEIGHT = 440, 250

#: How plots look. What has a colour has a stand-in for it, which becomes a name afterwards.
_STYLE = Path(__file__).with_name("plots.mplstyle")
_COLOURS: dict[Any, Any] = {
    "text.color": INK,
    "grid.color": GRID,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), MUTED),
}


def short(text: str, most: int) -> str:
    """A text of at most so many characters; a longer one ends in an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def drawing() -> Any:
    """A context in which plots have their style."""
    return matplotlib.rc_context(_COLOURS, _STYLE)


def one_plot(height: float) -> tuple[Figure, Axes]:
    """A figure of one plot, so many points high."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def two_plots() -> tuple[Figure, Axes, Axes]:
    """A figure of two plots, one above the other, with one x axis."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for axes in (upper, lower):
        axes.grid(axis="y")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: figure_of(value))
    return figure, upper, lower


def figure_of(value: float) -> str:
    """A figure short enough for a plot: four digits, with a comma between thousands."""
    if value == 0 or not 1e-3 <= abs(value) < 1e9:
        return f"{value:.3g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def say(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """Write text beside a point, `offset` points to the right and up."""
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **{"fontsize": 9.5, **style})


def level(axes: Axes, value: float, text: str) -> None:
    """Draw a dashed line across, with text on it at the right."""
    axes.axhline(value, color=MARK, linewidth=1.4, linestyle="--")
    across = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "color": MARK}
    say(axes, text, (1, value), (-2, 3), **across)
