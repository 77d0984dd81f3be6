"""The answer, drawn onto the picture it belongs to."""

from __future__ import annotations

import unicodedata

import cv2
import numpy as np

from toolchain.camera.frames import BgrImage
from toolchain.camera.loop import Answered

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5

WHITE = (255, 255, 255)
GREY = (200, 200, 200)
AMBER = (80, 200, 255)
BAR_DARKNESS = 0.28
"""What is left of the picture's light behind the text."""

SMALLEST_TEXT = 0.5
"""Scale of the font below which letters cannot be told apart."""


def pretty(label: str) -> str:
    """A class name as people write it: `american_bulldog` is `american bulldog`."""
    return " ".join(label.replace("_", " ").split())


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
    """Draw label, probability, frame age and rate into a dark bar at the lower edge of `bgr`, in place."""
    height, width = bgr.shape[:2]
    unit = min(width / 640, height / 400)
    label_scale = max(1.2 * SMALLEST_TEXT, 0.9 * unit)
    detail_scale = max(SMALLEST_TEXT, 0.55 * unit)
    prediction = answered.prediction
    percent = f"{100 * prediction.probability:.0f} %"
    name = "not sure" if prediction.rejected else pretty(prediction.label)
    details = f"age {answered.age_ms:.0f} ms"
    if answered.fps:
        details += f"   {answered.fps:.{0 if answered.fps >= 10 else 1}f} fps"
    if prediction.rejected:
        details = f"{pretty(prediction.label)}?   {details}"

    thickness = max(1, round(1.6 * label_scale))
    line_height = _size("Ag", label_scale, thickness)[1]
    detail_height = _size("Ag", detail_scale, 1)[1]
    margin = max(4, round(0.45 * line_height))
    bar = min(height, 3 * margin + line_height + detail_height)
    _darken(bgr, height - bar)
    room = width - 2 * margin
    percent_width = _size(percent, label_scale, thickness)[0]
    baseline = height - bar + margin + line_height
    label, scale = _fitted(name, room - percent_width - margin, label_scale, thickness)
    colour = AMBER if prediction.rejected else WHITE
    _put(bgr, label, (margin, baseline), scale, colour, thickness)
    _put(bgr, percent, (width - margin - percent_width, baseline), label_scale, colour, thickness)
    detail, scale = _fitted(details, room, detail_scale, 1)
    _put(bgr, detail, (margin, baseline + margin + detail_height), scale, GREY, 1)


def _darken(bgr: BgrImage, top: int) -> None:
    bgr[top:] = cv2.convertScaleAbs(bgr[top:], alpha=BAR_DARKNESS)


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
