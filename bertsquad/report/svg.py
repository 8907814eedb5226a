"""A matplotlib figure as an `<svg>` element that can stand on a page among others.

Its colours are variables that the page sets (`var(--plot-data)`), so that one plot serves a light
and a dark page. Its text is text, in the page's font. No other plot has the same ids.
"""

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: The colours that matplotlib draws with, each replaced by a name afterwards.
INK, MUTED, GRID, DATA, MARK, BAND = (f"#00000{n}" for n in range(1, 7))
NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", DATA: "data", MARK: "mark", BAND: "band"}

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


def inline(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element with ids that begin with `name`."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that matplotlib's own font doesn't have
        FigureCanvasSVG(figure)  # whose letters the layout measures
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)  # else all would be drawn once more for the layout
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314, it is matplotlib's
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    whole = ElementTree.tostring(root, encoding="unicode")
    used = {*re.findall(r"url\(#([^)]+)\)", whole), *re.findall(r'href="#([^"]+)"', whole)}
    for element in root.iter():
        _settle(element, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    # No <title> says this, since it would pop up under a pointer.
    root.attrib |= {"class": "plot", "role": "img", "aria-label": description}
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode").replace("\n", " ")


def _settle(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Rename an element's ids and links, name its colours, drop its font, and round its numbers."""
    if (own := element.attrib.pop("id", None)) in used:
        element.set("id", f"{name}-{own}")
    if (link := element.attrib.pop(_LINK, None)) is not None:
        element.set("href", f"#{name}-{link[1:]}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("(#", f"(#{name}-"))
    if "style" in element.attrib:
        style = re.sub(r"font-family:[^;]*;?", "", element.attrib["style"])
        element.set("style", style.replace("url(#", f"url(#{name}-").strip())
    for key in ("style", "fill", "stroke"):
        if key in element.attrib:
            element.set(key, re.sub(r"#00000\d", _colour, element.attrib[key]))
    for key in ("d", "x", "y", "transform", "width", "height"):
        if key in element.attrib:
            element.set(key, re.sub(r"-?\d+\.\d+", _rounded, element.attrib[key]))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None


def _colour(match: re.Match[str]) -> str:
    return f"var(--plot-{NAMES.get(match[0], 'ink')})"


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
