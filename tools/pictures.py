"""The pictures of README and docs, from finished runs or from a quick run made now.

    python tools/pictures.py                       # runs minilm on the CPU first, some minutes
    python tools/pictures.py results --into pictures

It writes the terminal's table (`table.svg`), one percentile plot (`percentiles.svg`) and the top of
the report in a browser (`report.png`, and `report-dark.png` for readers in dark mode). Needs the
extra `pictures` and a Chromium or Chrome.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from bertsquad.errors import SuiteError
from bertsquad.files import write_whole
from bertsquad.report import exhibits
from bertsquad.report.page import write
from bertsquad.results import archive
from bertsquad.results.archive import Archive
from bertsquad.results.table import Line, Markup, table

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"

#: What is run where no results are given.
CASES = ("--model", "minilm", "--device", "cpu", "--precision", "fp32", "--precision", "int8")

#: The programs that may be the browser; Playwright drives it and doesn't bring one along here.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: The screenshot's part of the page, in CSS pixels.
VIEW = {"width": 1100, "height": 1240}

#: The colours of a plot that stands alone, on light and on dark ground, which is the reader's own
#: (Okabe and Ito's, told apart by all). `ground` parts letters from the lines behind them.
COLOURS = {
    "light": {
        "ink": "#1b1f24",
        "muted": "#59636e",
        "grid": "#e2e6ea",
        "data": "#0072b2",
        "mark": "#c2410c",
        "band": "#cfe3f1",
        "ground": "#ffffff",
    },
    "dark": {
        "ink": "#e7eaee",
        "muted": "#9ea8b3",
        "grid": "#2a3036",
        "data": "#56b4e9",
        "mark": "#f0a35e",
        "band": "#1d3a4d",
        "ground": "#0d1117",
    },
}

#: A terminal's colours, by how pytest's terminal marks a line.
TERMINAL = {"green": "#7ddba3", "yellow": "#f0c069", "purple": "#d2a8ff", "red": "#ff9f98"}

#: A blank that SVG keeps.
NO_BREAK = "\u00a0"
#: Size of a terminal's character and line in `table.svg`, and the room around them.
CHARACTER, LINE, ROOM = 7.25, 17, 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures; the exit status."""
    parser = argparse.ArgumentParser(prog="python tools/pictures.py", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS")
    parser.add_argument("--into", type=Path, default=PICTURES, metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        if given.results:
            draw(archive.read(given.results), given.into)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            draw(archive.read([quick_run(Path(folder) / "results")]), given.into)
        return 0
    except SuiteError as error:
        print(f"tools/pictures.py: {error}", file=sys.stderr)
        return 1


def quick_run(folder: Path) -> Path:
    """Run the cases on this machine; the folder that holds their results."""
    command = [sys.executable, "-m", "pytest", "benchmarks", *CASES, "-k", "not compliance"]
    subprocess.run([*command, "--output", str(folder)], cwd=ROOT, check=False)
    return folder


def draw(read: Archive, folder: Path) -> None:
    """Write the pictures into a folder, and say what was written."""
    # The browser first: it is what may be missing.
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "report.html"
        write(read, page)
        light, dark = screenshot(page, "light"), screenshot(page, "dark")
    pictures: dict[str, bytes] = {
        "report.png": light,
        "report-dark.png": dark,
        "table.svg": terminal(table([one.newest for one in read.series])).encode(),
        "percentiles.svg": percentiles(read).encode(),
    }
    for name, content in pictures.items():
        write_whole(folder / name, partial(Path.write_bytes, data=content))
        print(f"made {folder / name} ({len(content) / 1000:.0f} kB)")


@contextmanager
def browser() -> Iterator[Any]:
    """A browser that Playwright drives; SuiteError says which of the two is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise SuiteError("Playwright is missing: pip install -e '.[pictures]'") from error
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SuiteError(f"no browser was found, looked for {', '.join(BROWSERS)}: install one")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        # Chromium refuses to start in a sandbox as root.
        flags = ["--no-sandbox"] if is_root else []
        started = playwright.chromium.launch(executable_path=found, args=flags)
        yield started
        started.close()


def screenshot(page: Path, scheme: str) -> bytes:
    """The top of a page as a PNG, for readers in this scheme, `light` or `dark`."""
    with browser() as started:
        tab = started.new_page(viewport=VIEW, color_scheme=scheme)
        tab.goto(page.resolve().as_uri())
        return bytes(tab.screenshot())


def percentiles(read: Archive) -> str:
    """A percentile plot: Server's, which has a bound, or else the most telling there is."""
    order = ("server", "singlestream", "multistream", "offline")
    found = [one.newest for one in read.series if one.mode == "performance"]
    for result in sorted(found, key=lambda result: order.index(result.scenario)):
        for plot in exhibits.latency("percentiles", result):
            return alone(plot.draw())
    raise SuiteError("expected a performance run with its timeline among the results")


def alone(plot: str) -> str:
    """A plot of the page as a file of its own: with its size, a font and its colours."""
    root = ElementTree.fromstring(plot)  # noqa: S314, it is our own
    _, _, root.attrib["width"], root.attrib["height"] = root.attrib["viewBox"].split()
    root.set("font-family", "system-ui, 'DejaVu Sans', sans-serif")
    namespace = root.tag.removesuffix("svg")
    style = ElementTree.Element(f"{namespace}style")
    light, dark = (
        " ".join(f"--plot-{name}: {colour};" for name, colour in COLOURS[scheme].items())
        for scheme in ("light", "dark")
    )
    style.text = (
        f"svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }} "
        "text { paint-order: stroke; stroke: var(--plot-ground); stroke-width: 3px }"
    )
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def terminal(lines: Sequence[Line]) -> str:
    """Lines as a terminal shows them, as SVG."""
    width = max(len(text) for text, _ in lines) * CHARACTER + 2 * ROOM
    height = len(lines) * LINE + 2 * ROOM
    rows = "\n".join(
        f'<text x="{ROOM}" y="{ROOM + LINE * (n + 0.75):g}"{_looks(markup)}>'
        f"{escape(text.replace(' ', NO_BREAK))}</text>"
        for n, (text, markup) in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-size="12" fill="#e7eaee" '
        "font-family=\"ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', monospace\">\n"
        f'<rect width="100%" height="100%" rx="8" fill="#14171a"/>\n{rows}\n</svg>\n'
    )


def _looks(markup: Markup) -> str:
    """The attributes of a line's colour and weight."""
    looks = [f' fill="{TERMINAL[name]}"' for name, on in markup.items() if on and name in TERMINAL]
    return "".join([*looks, *([' font-weight="bold"'] if markup.get("bold") else [])])


if __name__ == "__main__":
    sys.exit(main())
