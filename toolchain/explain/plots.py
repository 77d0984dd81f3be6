"""The curves of explanations (see `toolchain.pages.svg`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import style
from matplotlib.ticker import FuncFormatter, PercentFormatter

from toolchain.pages.svg import FIRST, MUTED, SECOND, STYLE, make_figure, to_svg

COLOURS = (FIRST, SECOND, MUTED)
DASHES = ("-", "--", ":", "-.")


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


def _shown(label: str) -> str:
    """A label that Matplotlib's legend does not leave out: those that begin with `_` are."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
    return f"\u200b{clean}" if clean.startswith("_") else clean
