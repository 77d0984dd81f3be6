"""The answer, drawn onto the picture it belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from toolchain.camera.answering import Answered
from toolchain.camera.frames import BgrImage
from toolchain.classifier import Prediction

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5

WHITE = (255, 255, 255)
GREY = (200, 200, 200)
AMBER = (80, 200, 255)
BAR_DARKNESS = 0.28
"""What is left of the picture's light behind the text."""

NOT_SURE = "not sure"
MOST_OTHERS = 3
SMALLEST_SHARE = 0.02
"""Classes that are less probable are not worth the room."""

SMALLEST_TEXT = 0.5
"""Scale of the font below which letters cannot be told apart."""


def pretty(label: str) -> str:
    """A class name as people write it: `american_bulldog` is `american bulldog`."""
    return " ".join(label.replace("_", " ").split())


def shown_name(prediction: Prediction) -> str:
    """What a person reads as the answer."""
    return NOT_SURE if prediction.rejected else pretty(prediction.label)


def fit(bgr: BgrImage, width: int, height: int) -> BgrImage:
    """Scale a picture into `width` x `height`, with black beside or above it where the shapes differ."""
    high, wide = bgr.shape[:2]
    if (wide, high) == (width, height):
        return bgr
    scale = min(width / wide, height / high)
    new_wide, new_high = max(1, min(width, round(wide * scale))), max(1, min(height, round(high * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - new_wide) // 2, (height - new_high) // 2
    canvas[top : top + new_high, left : left + new_wide] = cv2.resize(
        bgr, (new_wide, new_high), interpolation=method
    )
    return canvas


def draw(bgr: BgrImage, answered: Answered) -> None:
    """Draw label, probability, the next best, frame age and rate into a dark bar at the lower edge of `bgr`, in
    place; another network's answer at the upper edge.
    """
    prediction = answered.prediction
    _draw_bar(bgr, _headline(prediction), [_next_best(prediction), _figures(answered)], at_top=False)
    if answered.beside is not None:
        other = answered.beside
        _draw_bar(
            bgr, _headline(other.prediction), [f"{other.name}   {other.infer_ms:.1f} ms, not smoothed"], at_top=True
        )


def draw_state(bgr: BgrImage, state: str) -> None:
    """Darken a picture that is of the past, in place, and say why there is no newer one."""
    _darken(bgr, slice(None))
    _draw_bar(bgr, _Line("no picture", "", True), [state], at_top=True)


@dataclass(frozen=True)
class _Line:
    text: str
    figure: str
    doubtful: bool


def _headline(prediction: Prediction) -> _Line:
    return _Line(shown_name(prediction), f"{100 * prediction.probability:.0f} %", prediction.rejected)


def _next_best(prediction: Prediction) -> str:
    others = [(label, share) for label, share in prediction.top if label != prediction.label or prediction.rejected]
    named = [
        f"{pretty(label)} {100 * share:.0f} %" for label, share in others[:MOST_OTHERS] if share >= SMALLEST_SHARE
    ]
    return ("perhaps " if prediction.rejected and named else "") + ", ".join(named)


def _figures(answered: Answered) -> str:
    parts = [f"age {answered.age_ms:.0f} ms"]
    if answered.fps:
        parts.append(f"{answered.fps:.{0 if answered.fps >= 10 else 1}f} fps")
    if answered.network:
        parts.append(f"{answered.network}, {answered.infer_ms:.1f} ms")
    if answered.plain:
        parts.append("nothing to see: lens covered?")
    return "   ".join(parts)


def _draw_bar(bgr: BgrImage, line: _Line, details: Sequence[str], *, at_top: bool) -> None:
    """A large line of text, and small ones below it, on a darkened bar across the picture."""
    height, width = bgr.shape[:2]
    unit = min(width / 640, height / 400)
    label_scale = max(1.2 * SMALLEST_TEXT, 0.9 * unit)
    detail_scale = max(SMALLEST_TEXT, 0.5 * unit)
    thickness = max(1, round(1.6 * label_scale))
    line_height, detail_height = _size("Ag", label_scale, thickness)[1], _size("Ag", detail_scale, 1)[1]
    margin = max(4, round(0.45 * line_height))
    shown = [detail for detail in details if detail]
    bar = min(height, 2 * margin + line_height + len(shown) * (detail_height + margin))
    top = 0 if at_top else height - bar
    _darken(bgr, slice(top, top + bar))
    room = width - 2 * margin
    baseline = top + margin + line_height
    colour = AMBER if line.doubtful else WHITE
    figure_width = _size(line.figure, label_scale, thickness)[0]
    text, scale = _fitted(line.text, room - figure_width - margin, label_scale, thickness)
    _put(bgr, text, (margin, baseline), scale, colour, thickness)
    _put(bgr, line.figure, (width - margin - figure_width, baseline), label_scale, colour, thickness)
    for detail in shown:
        baseline += margin + detail_height
        text, scale = _fitted(detail, room, detail_scale, 1)
        _put(bgr, text, (margin, baseline), scale, GREY, 1)


def _darken(bgr: BgrImage, rows: slice) -> None:
    bgr[rows] = cv2.convertScaleAbs(bgr[rows], alpha=BAR_DARKNESS)


def _fitted(text: str, room: int, scale: float, thickness: int) -> tuple[str, float]:
    """The text and the scale at which it fits: smaller first, then shorter."""
    text = _drawable(text)
    width = _size(text, scale, thickness)[0]
    if width > room:
        scale = max(SMALLEST_TEXT, scale * room / width)
    kept = text
    while len(kept) > 1 and _size(text, scale, thickness)[0] > room:
        kept = kept[:-1]
        text = kept.rstrip() + "..."
    return text, scale


def _drawable(text: str) -> str:
    """OpenCV 4 draws ASCII only: letters lose their accents there, and the rest becomes question marks."""
    if DRAWS_UNICODE or text.isascii():
        return text
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in letters)


def _size(text: str, scale: float, thickness: int) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, FONT, scale, thickness)
    return width, height


def _put(
    bgr: BgrImage, text: str, corner: tuple[int, int], scale: float, colour: tuple[int, int, int], thickness: int
) -> None:
    cv2.putText(bgr, text, corner, FONT, scale, colour, thickness, cv2.LINE_AA)
