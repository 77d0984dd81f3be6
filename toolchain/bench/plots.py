"""The plots of a benchmark's page (see `toolchain.pages.svg`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from toolchain.pages.svg import FIRST, INK, MUTED, SECOND, STYLE, end_at_one, make_figure, to_svg
from toolchain.timing.layers import LayerRow

LOGARITHMIC = 6.0
"""From this ratio of largest to smallest on, an axis is logarithmic."""
ROW = 30.0
BAR_ROW = 22.0
NAME_LENGTH = 44


@dataclass(frozen=True)
class PlotPoint:
    """One arm in the plots: milliseconds per image and fractions. `top1` is null where it was not measured.

    `number` stands for it where there is no room for its `name`.
    """

    number: int
    name: str
    is_float: bool
    ms: float
    ms_ci95: tuple[float, float]
    quantiles_ms: tuple[float, ...]
    top1: float | None = None
    top1_ci95: tuple[float, float] = (0.0, 0.0)


def front(points: Sequence[PlotPoint]) -> list[PlotPoint]:
    """Those that no other beats in both latency and accuracy, the fastest first."""
    found: list[PlotPoint] = []
    for point in sorted(points, key=lambda one: (one.ms, -(one.top1 or 0))):
        if not found or (point.top1 or 0) > (found[-1].top1 or 0):
            found.append(point)
    return found


def pareto(points: Sequence[PlotPoint]) -> str:
    """Top-1 against latency with both 95 % intervals, and the front drawn through the best, as an SVG."""
    best = front(points)
    with style.context(["default", STYLE]):
        figure, axes = make_figure(640, 400, 78, 52, 16, 14)
        heights = [point.top1 or 0.0 for point in best]
        axes.step([point.ms for point in best], heights, where="post", color=MUTED, lw=1)
        for point in points:
            assert point.top1 is not None
            colour = FIRST if point.is_float else SECOND
            axes.errorbar(
                point.ms,
                point.top1,
                xerr=[[max(point.ms - point.ms_ci95[0], 0)], [max(point.ms_ci95[1] - point.ms, 0)]],
                yerr=[[max(point.top1 - point.top1_ci95[0], 0)], [max(point.top1_ci95[1] - point.top1, 0)]],
                fmt="o" if point.is_float else "s",
                color=colour,
                markersize=7,
                elinewidth=1,
                alpha=0.9,
            )
            where = (point.ms, point.top1)
            axes.annotate(str(point.number), where, xytext=(7, 7), textcoords="offset points", fontsize=13)
        _latency_axis(axes, [point.ms for point in points], "ms per image")
        axes.margins(x=0.12)
        axes.set_ylabel("top-1 accuracy")
        end_at_one(axes)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="\u00a0%"))
        return to_svg(figure, "pareto", f"Top-1 against latency of {len(points)} arms")


def distributions(points: Sequence[PlotPoint]) -> str:
    """How latencies of single inferences spread, an arm each line: 1 to 99 %, 5 to 95 %, 25 to 75 %, median."""
    shown = [point for point in points if point.quantiles_ms]
    names = [f"{_short(point.name)}  {point.number}" for point in reversed(shown)]
    margin = 24 + max(map(len, names)) * 6.6
    height = ROW * len(shown) + 64
    with style.context(["default", STYLE]):
        figure, axes = make_figure(margin + 480, height, margin, 52, 16, 8)
        for row, point in enumerate(reversed(shown)):
            quantiles = point.quantiles_ms
            colour = FIRST if point.is_float else SECOND
            for low, high, thickness, alpha in ((1, 99, 1.5, 0.9), (5, 95, 6, 0.35), (25, 75, 14, 0.55)):
                ends = [quantiles[low], quantiles[high]]
                axes.plot(ends, [row, row], color=colour, lw=thickness, alpha=alpha, solid_capstyle="butt")
            axes.plot([quantiles[50]] * 2, [row - 0.3, row + 0.3], color=INK, lw=1.5)
        axes.set_yticks(range(len(shown)), names, fontsize=11)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        _latency_axis(axes, [point.quantiles_ms[end] for point in shown for end in (1, 99)], "ms")
        return to_svg(figure, "distributions", f"Latency distributions of {len(shown)} arms")


def layer_bars(rows: Sequence[LayerRow], name: str, title: str) -> str:
    """What each layer takes, in microseconds: a bar for each file, of which converting is the pale part."""
    names = [f"{row.type}  {_short(row.name.removeprefix('node_'))}" for row in rows]
    margin = 24 + max(map(len, names)) * 6.6
    height = BAR_ROW * len(rows) + 64
    with style.context(["default", STYLE]):
        figure, axes = make_figure(margin + 480, height, margin, 52, 16, 8)
        files = len(rows[0].times)
        thick = 0.8 / files
        for place, row in enumerate(rows):
            for number, time in enumerate(row.times):
                colour = FIRST if number == 0 else SECOND
                where = place + (number - (files - 1) / 2) * thick
                computing = max(time.us - time.conversions_us, 0)
                axes.barh(where, computing, thick, color=colour)
                axes.barh(where, time.conversions_us, thick, left=computing, color=colour, alpha=0.4)
            if row.slower:
                longest = max(time.us for time in row.times)
                text = f"+{row.times[-1].us - row.times[0].us:.0f}"
                axes.annotate(text, (longest, place), (4, 0), textcoords="offset points", va="center", fontsize=11)
        axes.set_yticks(range(len(rows)), names, fontsize=11)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("µs")
        return to_svg(figure, name, title)


def _latency_axis(axes: Axes, values: Sequence[float], label: str) -> None:
    low, high = min(values), max(values)
    axes.set_xlabel(label)
    if low > 0 and high / low > LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _short(name: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= NAME_LENGTH else f"…{clean[-NAME_LENGTH + 1 :]}"
