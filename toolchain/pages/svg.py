"""Matplotlib plots as SVG inside an HTML page, in the colours and the font of the page."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Matplotlib accepts no CSS variables. It draws in these unique colours, and `to_svg` replaces them.
INK, MUTED, LINE, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"
PAGE_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgetl",
    "image.composite_image": False,
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 11,
}


def make_figure(
    width: float, height: float, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` pixels, with one set of axes inside these margins."""
    figure = Figure(figsize=(width / 72, height / 72))
    place = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(place)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def end_at_one(axes: Axes) -> None:
    """End a y axis of fractions at 0 and 1, with room for half a marker: there is no accuracy of 104 %."""
    low, high = axes.get_ylim()
    room = 0.02 * (high - low)
    axes.set_ylim(max(low, -room), min(high, 1 + room))


def to_svg(figure: Figure, name: str, title: str) -> str:
    """`figure` as an `<svg>` element. Its ids begin with `name`, so that a page can hold several."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # The browser has the characters that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from|Matplotlib currently does not support")
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(text.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.attrib[key.rpartition("}")[2]] = _attribute(key.rpartition("}")[2], value, name)
    _, _, width, height = root.attrib["viewBox"].split()
    label = ElementTree.Element("title", {"id": f"{name}-title"})
    label.text = title
    root.insert(0, label)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-labelledby": f"{name}-title",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    if value.startswith("url(#"):
        return f"url(#{name}-{value[5:]}"
    if key == "style":
        # Matplotlib before 3.10 writes size and family as one property.
        value = re.sub(r"font: (?:[^;]*? )?([\d.]+px)[^;]*", r"font-size: \1", value)
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        return re.sub("#0102[0-9]{2}", lambda match: PAGE_COLOURS.get(match[0], match[0]), value)
    return value
