"""Probabilities before and after an attack, as bars (see `toolchain.pages.svg`)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import style
from matplotlib.ticker import PercentFormatter

from toolchain.pages.svg import FIRST, SECOND, STYLE, make_figure, to_svg

ROW = 34.0
THICK = 0.36
NAME_LENGTH = 40


def bars(name: str, title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """An SVG with two bars for each of `rows`: class, probability before, probability after."""
    labels = [_short(label) for label, _, _ in rows]
    margin = 24 + max(map(len, labels)) * 6.8
    height = ROW * len(rows) + 84
    with style.context(["default", STYLE]):
        figure, axes = make_figure(margin + 420, height, margin, 32, 44, 36)
        places = range(len(rows))
        for sign, column, colour, label in ((-1, 1, FIRST, "before"), (1, 2, SECOND, "after")):
            widths = [float(row[column]) for row in rows]
            heights = [place + sign * THICK / 2 for place in places]
            axes.barh(heights, widths, THICK, color=colour, label=label)
            for y, width in zip(heights, widths, strict=True):
                where = (width, y)
                text = f"{width:.3f}"
                axes.annotate(text, where, xytext=(4, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_yticks(places, labels)
        for tick in axes.get_yticklabels():
            tick.set_parse_math(False)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="\u00a0%"))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figure.legend(*axes.get_legend_handles_labels(), loc="upper right", ncols=2)
        return to_svg(figure, name, title)


def _short(label: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
    return clean if len(clean) <= NAME_LENGTH else f"{clean[: NAME_LENGTH - 1]}…"
