"""The plots of a run's report (see `toolchain.pages.svg`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from toolchain.evaluation.metrics import CalibrationBins
from toolchain.pages.svg import FIRST, INK, SECOND, STYLE, end_at_one, make_figure, to_svg
from toolchain.runs import Metrics

NAMED_CLASSES = 60
"""Up to so many classes the confusion matrix names them; above, its axes are numbered."""
COUNTED_CLASSES = 40
"""Up to so many classes the counts are written into the confusion matrix."""
NAME_LENGTH = 28

# Pictures inside an SVG cannot take the page's colours: these are readable on white and on black.
RIGHT_RGB, WRONG_RGB = (46, 120, 200), (222, 96, 38)


def curves(epochs: Sequence[Mapping[str, float]], probe: Metrics, best_epoch: int) -> list[str]:
    """Loss, accuracy on validation and learning rate by epoch, an SVG each; curves without values are left out.

    Dashed lines are the `probe` on validation. The epoch that was kept is marked, if `best_epoch` is not 0.
    """
    with style.context(["default", STYLE]):
        loss = _curve(
            epochs,
            {"loss": "loss in training", "val_nll": "NLL on validation"},
            {"val_nll": probe.nll},
            best_epoch,
        )
        accuracy = _curve(
            epochs,
            {"val_per_class_top1": "per-class top-1", "val_top1": "top-1"},
            {"val_per_class_top1": probe.per_class_top1, "val_top1": probe.top1},
            best_epoch,
        )
        rate = _curve(epochs, {"learning_rate": "learning rate"}, {}, best_epoch)
        if accuracy:
            accuracy.axes[0].yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
            end_at_one(accuracy.axes[0])
        if rate:
            rate.axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            rate.axes[0].set_ylim(bottom=0)
        titles = {
            "loss": "Loss in training and on validation, by epoch",
            "accuracy": "Accuracy on validation, by epoch",
            "rate": "Learning rate, by epoch",
        }
        figures = {"loss": loss, "accuracy": accuracy, "rate": rate}
        return [to_svg(figure, name, titles[name]) for name, figure in figures.items() if figure]


def confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    """`confusion` [true, predicted] as an SVG: the colour is the share of the class, on a square-root scale."""
    n = len(classes)
    names = [_shown(name) for name in classes] if n <= NAMED_CLASSES else []
    side = n * max(15.0, min(72.0, 640 / n)) if names else 640.0
    # Widths are estimated here: Matplotlib measures with its own font, which lacks most of the world's scripts.
    size = min(12.0, side / n * 0.72)
    margin = 34 + max((size * _ems(name) for name in names), default=40.0)
    width, height = margin + side + 16, margin + side + 12
    shares = np.sqrt(confusion / np.maximum(confusion.sum(1, keepdims=True), 1))
    cells = np.empty((n, n, 4), np.uint8)
    cells[..., :3] = np.where(np.eye(n, dtype=bool)[..., None], RIGHT_RGB, WRONG_RGB)
    # Cells are never opaque under counts, which have the colour of the page's text, and never faint without: they
    # may be only two pixels wide.
    faintest, strongest = (0, 180) if n <= COUNTED_CLASSES else (90, 255)
    cells[..., 3] = np.where(confusion, np.maximum(np.rint(shares * strongest), faintest), 0)
    with style.context(["default", STYLE, {"axes.grid": False}]):
        figure, axes = make_figure(width, height, margin, margin + 4, 16, 8)
        axes.imshow(cells, interpolation="none", aspect="auto")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        # Centred on what is left beside the names.
        axes.xaxis.set_label_coords(0.5, (10 - margin) / side)
        axes.yaxis.set_label_coords((16 - margin) / side, 0.5)
        if names:
            axes.set_xticks(range(n), names, rotation=90, rotation_mode="anchor", ha="right", va="center")
            axes.set_yticks(range(n), names)
            for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
                label.set_parse_math(False)
                label.set_fontsize(size)
            axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
            axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
            axes.grid(which="minor", linewidth=0.5)
            axes.tick_params(which="both", length=0)
        if n <= COUNTED_CLASSES:
            for row, column in np.argwhere(confusion):
                count = str(confusion[row, column])
                axes.text(column, row, count, ha="center", va="center_baseline", fontsize=min(14.0, side / n * 0.5))
        return to_svg(figure, "confusion", f"Confusion matrix of {n} classes")


def reliability(bins: CalibrationBins) -> str:
    """Accuracy against confidence, and how many photographs there are of each, as an SVG."""
    n = len(bins.counts)
    edges = np.arange(n) / n
    with style.context(["default", STYLE]):
        figure, above = make_figure(400, 420, 72, 142, 16, 12)
        below = figure.add_axes((72 / 400, 44 / 420, 312 / 400, 76 / 420), sharex=above)
        below.patch.set_visible(False)
        filled = bins.counts > 0
        heights = np.where(filled, bins.accuracy, 0)
        above.bar(edges, heights, 1 / n, align="edge", color=FIRST, alpha=0.55, edgecolor=FIRST)
        above.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=FIRST, markersize=4)
        above.plot([0, 1], [0, 1], "--", color=INK, linewidth=1)
        above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        above.tick_params(labelbottom=False)
        for axes in (above, below):
            axes.yaxis.set_label_coords(-58 / 312, 0.5)
        below.bar(edges, bins.counts, 1 / n, align="edge", color=SECOND, alpha=0.55, edgecolor=SECOND)
        below.set(xlabel="confidence", ylabel="photographs")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for axis in (above.yaxis, below.xaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
        below.xaxis.get_ticklabels()[-1].set_horizontalalignment("right")
        return to_svg(figure, "reliability", f"Reliability diagram in {n} bins")


def _curve(
    epochs: Sequence[Mapping[str, float]], lines: Mapping[str, str], probe: Mapping[str, float], best_epoch: int
) -> Figure | None:
    known = {key: label for key, label in lines.items() if any(key in epoch for epoch in epochs)}
    if not known:
        return None
    figure, axes = make_figure(360, 270, 58, 44, 12, 50)
    looks = zip((FIRST, SECOND), "os", strict=True)
    for (key, label), (colour, marker) in zip(known.items(), looks, strict=False):
        points = [(epoch["epoch"], epoch[key]) for epoch in epochs if key in epoch]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=label)
        if key in probe:
            axes.axhline(probe[key], color=colour, linestyle="--", linewidth=1)
    if any(key in known for key in probe):
        axes.plot([], [], color=INK, linestyle="--", linewidth=1, label="linear probe")
    if best_epoch:
        axes.axvline(best_epoch, color=INK, linestyle=":", linewidth=1, label="kept")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.16, 1), ncols=2, columnspacing=1, handlelength=1.6)
    return figure


def _shown(name: str) -> str:
    """A class name fit for an axis: short, and nothing that XML forbids."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= NAME_LENGTH else clean[: NAME_LENGTH - 1] + "…"


def _ems(text: str) -> float:
    """About how wide `text` is, in heights of its font; letters of East Asia are as wide as high."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.6 for letter in text)
