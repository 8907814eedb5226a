"""Plots are whole SVG that says what it shows, in colours that the page gives."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import timeline

from bertsquad.report import plots, svg
from bertsquad.report.canvas import figure_of

SVG = "{http://www.w3.org/2000/svg}"
DIGEST = timeline().digest()
LOGGED = ((50.0, 44.5), (90.0, 80.0), (99.0, 120.25), (99.9, 131.75))

COURSES = [plots.Course(f"10.0.0.{n}", [n + 1.0, n + 2.0, n * 1.5, n + 2.5]) for n in range(1, 41)]

#: A plot of each kind.
KINDS: dict[str, Callable[[], str]] = {
    "latency": lambda: plots.latency("one", DIGEST["latency"], LOGGED, 130.0),
    "course": lambda: plots.course("one", DIGEST["course"], 31.4159),
    "batches": lambda: plots.batches("one", DIGEST["batches"]),
    "accuracy": lambda: plots.accuracy(
        "one", [plots.Score("some-case", 83.53, (80.4, 86.6), 82.69)]
    ),
    "comparison": lambda: plots.comparison(
        "one", [plots.Bar("some-case", 31.4), plots.Bar("other-case", 12.5, "short")], "QPS"
    ),
    "nodes": lambda: plots.nodes("one", 1.5, [*COURSES[:1], replace(COURSES[1], lost_s=7.25)]),
    "many_nodes": lambda: plots.many_nodes("one", 1.5, [replace(COURSES[1], lost_s=2), *COURSES]),
    "history": lambda: plots.history(
        "one", [plots.Point(f"11-0{n}\nrev{n}", 80.0 + n) for n in range(4)], "F1", 79.5
    ),
}
SAID = {
    "nodes": ("2 nodes over 6 s", "10.0.0.2 was lost at 7.25 s"),
    "many_nodes": ("41 nodes over 6 s", "10.0.0.2 was lost at 2 s"),
    "latency": ("p99 120.2 ms", "p99.9 131.8 ms", "bound is 130 ms"),
    "course": ("31.42/s",),
    "batches": ("213 batches of 1 to 5 samples",),
    "accuracy": ("some-case F1 83.53", "80.40 to 86.60", "target 82.69"),
    "comparison": ("some-case 31.4", "other-case 12.5"),
    "history": ("4 runs, 80 to 83",),
}
SHOWN = {
    "nodes": ("10.0.0.1: 2.5/s", "10.0.0.2: 3.625/s", "lost at 7.25 s", "seconds into the run"),
    "many_nodes": ("samples/s of a node", "seconds into the run"),
    "latency": ("p50", "120.2", "131.8", "bound 130 ms", "90", "99", "99.9"),
    "course": ("LoadGen: 31.42/s", "samples/s", "tokens/s"),
    "batches": ("batches", "padding, %"),
    "accuracy": ("83.53", "target 82.69", "some-case"),
    "comparison": ("31.4", "12.5 (short)", "some-case", "other-case"),
    "history": ("11-00", "rev3", "target 79.5"),
}


def texts(drawn: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_plot_says_in_words_what_it_shows(kind: str) -> None:
    root = ElementTree.fromstring(KINDS[kind]())
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    for part in SAID[kind]:
        assert part in root.get("aria-label", "")


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_text_in_the_pages_font(kind: str) -> None:
    drawn = KINDS[kind]()
    shown = " | ".join(texts(drawn))
    for part in SHOWN[kind]:
        assert part in shown
    assert "font-family" not in drawn


@pytest.mark.parametrize("kind", KINDS)
def test_every_colour_is_the_pages_to_choose(kind: str) -> None:
    drawn = KINDS[kind]()
    assert not re.search(r"#[0-9a-f]{6}", drawn.replace("#one-", ""))
    names = set(re.findall(r"var\(--plot-([a-z]+)\)", drawn))
    assert {"data", "muted"} <= names <= set(svg.NAMES.values())


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_plots_own_and_all_that_is_referred_to_is_there(kind: str) -> None:
    drawn = KINDS[kind]()
    ids = re.findall(r' id="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    assert all(one.startswith("one-") for one in ids)
    used = re.findall(r'href="#([^"]+)"', drawn) + re.findall(r"url\(#([^)]+)\)", drawn)
    assert set(used) == set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plot_loads_nothing_brings_no_style_and_is_the_same_each_time(kind: str) -> None:
    drawn = KINDS[kind]()
    assert "<style" not in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert drawn == KINDS[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plot_can_stand_alone(kind: str) -> None:
    drawn = pictures.alone(KINDS[kind]())
    root = ElementTree.fromstring(drawn)
    assert root.get("width") == "440"
    style = root.findtext(f"{SVG}style", "")
    assert set(re.findall(r"var\((--plot-\w+)\)", drawn)) <= set(re.findall(r"--plot-\w+", style))


def places(drawn: str) -> dict[str, tuple[float, float]]:
    """Where each text stands; of two that are the same, the one on the axis below."""
    found: dict[str, tuple[float, float]] = {}
    for text in ElementTree.fromstring(drawn).iter(f"{SVG}text"):
        if "x" in text.attrib:
            at = float(text.attrib["x"]), float(text.attrib["y"])
            found.setdefault("".join(text.itertext()), at)
    return found


def marks(drawn: str) -> list[tuple[float, float]]:
    """Where the points stand that LoadGen logged."""
    return [
        (float(use.attrib["x"]), float(use.attrib["y"]))
        for use in ElementTree.fromstring(drawn).iter(f"{SVG}use")
        if "fill: var(--plot-mark)" in use.get("style", "")
    ]


def test_the_tail_of_the_percentile_plot_is_logarithmic() -> None:
    at = places(KINDS["latency"]())
    steps = [right - left for left, right in pairwise(at[p][0] for p in ("0", "90", "99", "99.9"))]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.1)


def test_loadgens_percentiles_stand_where_their_figures_are() -> None:
    drawn = KINDS["latency"]()
    at = places(drawn)
    found = marks(drawn)
    assert len(found) == len(LOGGED)
    for (x, _), percentile in zip(found, ("50", "90", "99", "99.9"), strict=True):
        assert x == pytest.approx(at[percentile][0], abs=0.1)
    heights = [found[0][1] - y for _, y in found]
    expected = [ms - LOGGED[0][1] for _, ms in LOGGED]
    scale = heights[-1] / expected[-1]
    assert heights == pytest.approx([scale * ms for ms in expected], abs=0.05)
    per_ms = (at["100"][1] - at["150"][1]) / 50
    assert scale == pytest.approx(per_ms, rel=1e-2)


def test_a_run_of_few_queries_still_has_its_marks() -> None:
    curve = timeline(3).digest()["latency"]
    drawn = plots.latency("one", curve, LOGGED, None)
    assert len(marks(drawn)) == len(LOGGED)
    assert "bound" not in drawn


def test_a_target_that_differs_is_drawn_row_by_row() -> None:
    scores = [plots.Score("a", 83.0, None, 82.0), plots.Score("b", 90.0, (88.0, 91.0), 89.0)]
    drawn = plots.accuracy("one", scores)
    assert "target" not in " ".join(texts(drawn))
    assert "target 82.00" in drawn
    assert "target 89.00" in drawn


@pytest.mark.parametrize(
    "text", ["$\\frac{$", "$x_1$", "<b>&\"'", "日本語 ✓", "a" * 500, "-->", "%s {0} \\", "]]>"]
)
def test_any_text_can_stand_in_a_plot(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [
            plots.comparison("one", [plots.Bar(text, 1.0)], text),
            plots.history("one", [plots.Point(text, 1.0), plots.Point(text, 2.0)], text),
            plots.accuracy("one", [plots.Score(text, 80.0, None, None)]),
        ]
    for one in drawn:
        assert text[:20] in " ".join(texts(one))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (13.3339, "13.33"),
        (1382.79, "1,383"),
        (0.84, "0.84"),
        (100.0, "100"),
        (99.996, "100"),
        (1_234_567.0, "1,234,567"),
        (0.00001, "1e-05"),
        (-2.5, "-2.5"),
    ],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert figure_of(value) == text


@pytest.mark.parametrize("value", [0.0, 5e-324, 1.0, 83.5, 1e6, 1e18])
def test_figures_that_are_all_the_same_are_drawn_without_a_warning(value: float) -> None:
    size = dict.fromkeys(("samples", "count", "tokens", "padded_tokens"), int(value))
    course = {"span_s": value, "samples_per_s": [value], "tokens_per_s": [value]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.latency("one", {"percentile": [0.0], "ms": [value]}, [(50.0, value)], value)
        plots.course("one", course, value)
        plots.batches("one", [size])
        plots.batches("one", [size | {"samples": -size["samples"]}])
        plots.accuracy("one", [plots.Score("x", value, (value, value), value)])
        plots.comparison("one", [plots.Bar("x", value)], "QPS")
        plots.history("one", [plots.Point("x", value)] * 2, "QPS", value)


def test_the_points_of_a_long_history_have_no_marks_of_their_own() -> None:
    def drawn(count: int) -> Any:
        points = [plots.Point(f"{n}", 80.0 + n % 7) for n in range(count)]
        return ElementTree.fromstring(plots.history("one", points, "F1"))

    few, many = drawn(plots.MOST_MARKS), drawn(plots.MOST_MARKS + 1)
    assert len(list(few.iter(f"{SVG}use"))) > plots.MOST_MARKS
    assert len(list(many.iter(f"{SVG}use"))) < 20


FIGURES = st.floats(-1e18, 1e18) | st.floats(-1, 1) | st.sampled_from([0.0, 1e-300, 5e-324])


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_figures_can_be_drawn(data: st.DataObject) -> None:
    some: Any = st.lists(FIGURES, min_size=1, max_size=5)
    values = data.draw(some)
    curve = {
        "percentile": data.draw(
            st.lists(
                st.floats(-10, 99.9999999999999), min_size=len(values), max_size=len(values)
            ).map(sorted)
        ),
        "ms": values,
    }
    sizes = [
        {"samples": int(v), "count": int(v), "tokens": int(v), "padded_tokens": int(v) // 2}
        for v in values
    ]
    course = {"span_s": abs(values[0]), "samples_per_s": values, "tokens_per_s": values}
    for drawn in (
        plots.latency("one", curve, [(50.0, values[0])], values[0]),
        plots.course("one", course, values[0]),
        plots.batches("one", sizes),
        plots.accuracy("one", [plots.Score("x", v, (v, values[0]), v) for v in values]),
        plots.comparison("one", [plots.Bar("x", v) for v in values], "QPS"),
        plots.history("one", [plots.Point("x", v) for v in values], "QPS", values[0]),
    ):
        ElementTree.fromstring(drawn)
        assert "nan" not in drawn.lower()
