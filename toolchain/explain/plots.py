"""The curves and bars of explanations (see `toolchain.pages.svg`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import style
from matplotlib.ticker import FuncFormatter, PercentFormatter

from toolchain.pages.svg import FIRST, MUTED, SECOND, STYLE, make_figure, to_svg

COLOURS = (FIRST, SECOND, MUTED)
DASHES = ("-", "--", ":", "-.")

BAR_ROW = 34.0
BAR_THICKNESS = 0.36
MAX_NAME = 40


def curves(
    name: str,
    title: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    *,
    shares: bool = False,
) -> str:
    """An SVG with a curve for each of `lines`: its name to (x, y). `shares`: y are fractions, shown as percent.

    `name` is the id of the SVG in its page; `title` is what a screen reader says of it.
    """
    with style.context(["default", STYLE]):
        figure, axes = make_figure(640, 320, 70, 52, 16, 14)
        for number, (label, (x, y)) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            dashes = DASHES[number // len(COLOURS) % len(DASHES)]
            axes.plot(x, y, color=colour, linestyle=dashes, lw=1.8, label=_shown(label))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if shares:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="\u00a0%"))
        if len(lines) > 1:
            for text in axes.legend(loc="best", ncols=2 if len(lines) > 6 else 1).get_texts():
                text.set_parse_math(False)
        return to_svg(figure, name, title)


def bars(name: str, title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """An SVG with two bars for each of `rows`: class, probability before, probability after."""
    labels = [_short(_printable(label)) for label, _, _ in rows]
    margin = 24 + max(map(len, labels)) * 6.8
    height = BAR_ROW * len(rows) + 84
    with style.context(["default", STYLE]):
        figure, axes = make_figure(margin + 420, height, margin, 32, 44, 36)
        places = range(len(rows))
        for sign, column, colour, label in ((-1, 1, FIRST, "before"), (1, 2, SECOND, "after")):
            widths = [float(row[column]) for row in rows]
            heights = [place + sign * BAR_THICKNESS / 2 for place in places]
            axes.barh(heights, widths, BAR_THICKNESS, color=colour, label=label)
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


def _shown(label: str) -> str:
    """A label that Matplotlib's legend does not leave out: those that begin with `_` are."""
    return f"\u200b{_printable(label)}" if label.startswith("_") else _printable(label)


def _short(label: str) -> str:
    return label if len(label) <= MAX_NAME else f"{label[: MAX_NAME - 1]}…"


def _printable(label: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
