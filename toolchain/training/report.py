"""`report.html`: the results of a run, on one page that needs no other file and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from toolchain.datasets import Photograph
from toolchain.errors import UnreadableImageError
from toolchain.evaluation.metrics import BINS, calibration_bins
from toolchain.evaluation.metrics import confusion_matrix as counted
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.images.reader import Reader
from toolchain.pages import write_page
from toolchain.runs import REPORT_FILE, Metrics, Run
from toolchain.system.text import fixed
from toolchain.training.report_plots import NAMED_CLASSES, confusion_matrix, curves, reliability

MAX_PAIRS = 20
MAX_PHOTOGRAPHS = 24
MAX_UNCERTAIN = 6
UNCERTAIN = 0.9
NO_BREAK = "\u00a0"


@dataclass(frozen=True)
class Answers:
    """What the kept network answered on one split."""

    photos: tuple[Photograph, ...]
    probabilities: NDArray[np.float32]
    """[photographs, classes], after the temperature."""


@dataclass(frozen=True)
class Pair:
    """`count` of the `total` photographs of class number `true` were predicted to be of class `predicted`."""

    true: int
    predicted: int
    count: int
    total: int


@dataclass(frozen=True)
class ClassRow:
    """The results of one class. `predicted` counts the photographs that were predicted to be of it.

    Shares are fractions, null where there is nothing to count. `commonly` is the class that its photographs were
    most often misclassified as, `mistaken` how often.
    """

    label: int
    n: int
    top1: float | None
    top1_ci95: tuple[float, float] | None
    predicted: int
    precision: float | None
    commonly: int | None
    mistaken: int


@dataclass(frozen=True)
class Shown:
    """A photograph in the page; `source` is a data URL, null when the file cannot be read any more."""

    name: str
    label: int
    label_probability: float
    ranked: tuple[tuple[int, float], ...]
    source: str | None


@dataclass(frozen=True)
class ReportRow:
    """A row of the table of results: one network on one split."""

    split: str
    network: str
    metrics: Metrics
    top1_ci95: tuple[float, float]


def write_report(
    folder: Path,
    run: Run,
    epochs: Sequence[Mapping[str, float]],
    answers: Mapping[str, Answers],
    reader: Reader,
) -> Path:
    """Write `report.html` into the run folder; return its path.

    `epochs` are the lines of `metrics.jsonl`, none for a probe alone; `answers` are those on `val` and `test`. The
    page holds small copies of photographs of `test`; one that cannot be read any more is only named.
    """
    path = folder / REPORT_FILE
    filters: dict[str, Callable[..., str]] = {"percent": percent, "number": number, "duration": duration}
    write_page(path, Path(__file__).with_name("report.html.jinja"), _content(run, epochs, answers, reader), filters)
    return path


def confused_pairs(confusion: NDArray[np.int64]) -> list[Pair]:
    """Mistakes of `confusion` [true, predicted] by kind, most frequent first; of equals, the rarer class."""
    totals = confusion.sum(1)
    found = [
        Pair(int(true), int(predicted), int(confusion[true, predicted]), int(totals[true]))
        for true, predicted in np.argwhere(confusion)
        if true != predicted
    ]
    return sorted(found, key=lambda pair: (-pair.count, pair.total, pair.true, pair.predicted))


def per_class(confusion: NDArray[np.int64]) -> list[ClassRow]:
    """A row for each class of `confusion` [true, predicted], lowest top-1 first; those without photographs last."""
    rows = []
    for label, line in enumerate(confusion):
        n, right, predicted = int(line.sum()), int(line[label]), int(confusion[:, label].sum())
        wrong = line.copy()
        wrong[label] = 0
        mistaken = int(wrong.max())
        rows.append(
            ClassRow(
                label=label,
                n=n,
                top1=right / n if n else None,
                top1_ci95=wilson_ci95(right, n) if n else None,
                predicted=predicted,
                precision=right / predicted if predicted else None,
                commonly=int(wrong.argmax()) if mistaken else None,
                mistaken=mistaken,
            )
        )
    return sorted(rows, key=lambda row: math.inf if row.top1 is None else row.top1)


def misclassified(answers: Answers) -> list[int]:
    """Places of the misclassified photographs, the smallest probability of their own label first; at most 24."""
    return _least_probable(answers, ~_is_right(answers), MAX_PHOTOGRAPHS)


def uncertain(answers: Answers) -> list[int]:
    """Places of photographs that were classified correctly with a probability below 0.9, least first; at most 6."""
    own = _own_probability(answers)
    return _least_probable(answers, _is_right(answers) & (own < UNCERTAIN), MAX_UNCERTAIN)


def thumbnail(photo: Photograph, reader: Reader) -> str | None:
    """A small copy of a photograph as a data URL of a JPEG, or None when it cannot be read."""
    try:
        bgr = cv2.cvtColor(reader.thumbnail(photo), cv2.COLOR_RGB2BGR)
    except UnreadableImageError:
        return None
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction in percent, as "90.8 %"; a dash for None."""
    return "–" if share is None else f"{fixed(100 * share, digits)}{NO_BREAK}%"


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits after the point."""
    return fixed(value, digits)


def duration(seconds: float) -> str:
    """Seconds for people: "48 s", "5 min 56 s", "2 h 3 min"."""
    if seconds < 10:
        return f"{seconds:.1f}{NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours}{NO_BREAK}h {left}{NO_BREAK}min"
    return f"{minutes}{NO_BREAK}min {rest}{NO_BREAK}s" if minutes else f"{rest}{NO_BREAK}s"


def _content(
    run: Run, epochs: Sequence[Mapping[str, float]], answers: Mapping[str, Answers], reader: Reader
) -> dict[str, object]:
    """What the template is filled with."""
    test = run.metrics["test"]
    probabilities, labels = answers["test"].probabilities, _labels(answers["test"])
    bins = calibration_bins(probabilities, labels)
    confusion = counted(probabilities.argmax(1), labels, len(run.data.classes))
    pairs = confused_pairs(confusion)
    return {
        "run": run,
        "classes": run.data.classes,
        "test": test,
        "top1_ci95": _interval(test),
        "epochs": len(epochs),
        "rows": _rows(run),
        "curves": [Markup(svg) for svg in curves(epochs, run.probe_metrics["val"], run.model.best_epoch)],
        "confusion": Markup(confusion_matrix(confusion, run.data.classes)),
        "numbered": len(run.data.classes) > NAMED_CLASSES,
        "mistakes": sum(pair.count for pair in pairs),
        "kinds": len(pairs),
        "pairs": pairs[:MAX_PAIRS],
        "per_class": per_class(confusion),
        "reliability": Markup(reliability(bins)),
        "bins": BINS,
        "misclassified": _photographs(answers["test"], misclassified(answers["test"]), reader),
        "uncertain": _photographs(answers["test"], uncertain(answers["test"]), reader),
        "gain_ci95": _gain(run),
        "total_s": run.timings_s.get("total", sum(run.timings_s.values())),
    }


def _gain(run: Run) -> str:
    bounds = run.continuation.gain_ci95 if run.continuation else (0.0, 0.0)
    return " to ".join(f"{fixed(100 * bound, 1, plus=True)} points" for bound in bounds)


def _rows(run: Run) -> list[ReportRow]:
    networks = {"linear probe": run.probe_metrics}
    if run.model.kept == "finetune":
        networks["fine-tuned"] = run.before_refit or run.metrics
    rows = [
        ReportRow(split, network, metrics[split], _interval(metrics[split]))
        for split in ("val", "test")
        for network, metrics in networks.items()
    ]
    test = run.metrics["test"]
    return [*rows, ReportRow("test", "refit", test, _interval(test))] if run.model.refit else rows


def _interval(metrics: Metrics) -> tuple[float, float]:
    return wilson_ci95(round(metrics.top1 * metrics.n), metrics.n)


def _photographs(answers: Answers, places: Sequence[int], reader: Reader) -> list[Shown]:
    shown = []
    for place in places:
        photo, row = answers.photos[place], answers.probabilities[place]
        ranked = tuple((int(label), float(row[label])) for label in np.argsort(-row, kind="stable")[:3])
        shown.append(Shown(photo.name, photo.label, float(row[photo.label]), ranked, thumbnail(photo, reader)))
    return shown


def _least_probable(answers: Answers, wanted: NDArray[np.bool_], most: int) -> list[int]:
    """Places of the `wanted` photographs with the smallest probability of their own label, smallest first."""
    order = np.argsort(_own_probability(answers), kind="stable")
    return [int(place) for place in order if wanted[place]][:most]


def _own_probability(answers: Answers) -> NDArray[np.float32]:
    own: NDArray[np.float32] = answers.probabilities[np.arange(len(answers.photos)), _labels(answers)]
    return own


def _is_right(answers: Answers) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = answers.probabilities.argmax(1) == _labels(answers)
    return right


def _labels(answers: Answers) -> NDArray[np.int64]:
    return np.array([photo.label for photo in answers.photos], np.int64)
