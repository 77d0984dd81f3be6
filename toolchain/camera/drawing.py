"""The answer, drawn onto the picture it belongs to."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import cv2
import numpy as np

from toolchain.camera.answering import Answered, RegionAnswer, pretty, shown_name
from toolchain.camera.frames import BgrImage
from toolchain.classifier import Prediction, percent

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5

WHITE = (255, 255, 255)
GREY = (200, 200, 200)
AMBER = (80, 200, 255)
BLUE = (150, 90, 30)
BAR_DARKNESS = 0.28
"""How much of the picture's brightness is left behind the text."""

MAX_SHARES = 3
MIN_SHARE = 0.01
"""Classes that are less probable are not drawn."""
PANEL = 0.36
"""Share of the picture's width that the bars of probabilities take."""
MIN_FOR_SHARES = 480

MIN_TEXT = 0.5
"""Scale of the font below which letters cannot be read."""

MAX_SIZE = (1920, 1080)
MIN_SIDE = 160
"""Pictures with a shorter side are enlarged: the text would not fit."""


def fitted_at(shape: tuple[int, ...], width: int, height: int) -> tuple[float, float, float]:
    """Where `fit` puts a picture of a shape within `width` x `height`: its left and upper edge, and its scale."""
    high, wide = shape[:2]
    scale = min(width / wide, height / high)
    return (width - scale * wide) / 2, (height - scale * high) / 2, scale


def fit(bgr: BgrImage, width: int, height: int) -> BgrImage:
    """Scale a picture to fit into `width` x `height`, on black if the proportions differ."""
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
    """Draw label, probability, frame age and rate into a dark bar at the lower edge of `bgr`, in place, the most
    probable classes as bars above it, and another network's answer at the upper edge.
    """
    prediction = answered.prediction
    if answered.regions:
        for one in answered.regions:
            _draw_region(bgr, one, answered.frame.bgr.shape)
        _draw_bar(bgr, _all_regions(answered), _figures(answered), at_top=False)
    else:
        top = _draw_bar(bgr, _headline(prediction), _figures(answered), at_top=False)
        _draw_shares(bgr, prediction, top)
    if answered.compared is not None:
        other = answered.compared
        figures = f"{other.name}   {other.infer_ms:.1f} ms, not smoothed"
        _draw_bar(bgr, _headline(other.prediction), figures, at_top=True)


def write_bar(bgr: BgrImage, text: str, detail: str, *, doubtful: bool = False) -> None:
    """A large line of text and a small one below it, on a dark bar at the upper edge of `bgr`, in place."""
    _draw_bar(bgr, _Line(text, "", doubtful), detail, at_top=True)


class Drawn:
    """Draws each answer onto its picture once, for all sinks that show it. The first frame decides the size.

    The pictures must stay as they are; they are not the frames themselves.
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._answered: Answered | None = None
        self._picture: BgrImage | None = None

    def __call__(self, answered: Answered) -> BgrImage:
        """The picture of `answered`, uint8 BGR, with the answer on it."""
        if answered is not self._answered or self._picture is None:
            bgr = answered.frame.bgr
            if self._size is None:
                self._size = size_for(*bgr.shape[:2])
            picture = fit(bgr, *self._size)
            if picture is bgr:
                picture = bgr.copy()
            draw(picture, answered)
            self._answered, self._picture = answered, picture
        return self._picture

    def with_state(self, state: str) -> BgrImage | None:
        """The last picture with `state` written over it; None if there is no picture or no state."""
        if not state or self._picture is None:
            return None
        picture: BgrImage = self._picture.copy()
        _draw_bar(picture, _Line("not live", "", True), state, at_top=True)
        return picture


def size_for(height: int, width: int) -> tuple[int, int]:
    """Width and height of the pictures shown for frames of a size: readable, no larger than a screen, and even,
    as video needs it.
    """
    scale = max(1.0, MIN_SIDE / min(height, width))
    scale = min(scale, MAX_SIZE[0] / width, MAX_SIZE[1] / height)
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


@dataclass(frozen=True)
class _Line:
    text: str
    figure: str
    doubtful: bool


def _headline(prediction: Prediction) -> _Line:
    return _Line(shown_name(prediction), percent(prediction.probability), prediction.rejected)


def _all_regions(answered: Answered) -> _Line:
    text = ", ".join(f"{one.name}: {shown_name(one.prediction)}" for one in answered.regions)
    return _Line(text, "", all(one.prediction.rejected for one in answered.regions))


def _figures(answered: Answered) -> str:
    prediction = answered.prediction
    parts = [f"{pretty(prediction.label)}?"] if prediction.rejected and not answered.regions else []
    parts.append(f"age {answered.age_ms:.0f} ms")
    if answered.fps:
        parts.append(f"{answered.fps:.{0 if answered.fps >= 10 else 1}f} fps")
    if answered.network:
        parts.append(f"{answered.network}, {answered.infer_ms:.1f} ms")
    if answered.uniform:
        parts.append("nothing to see: lens covered?")
    return "   ".join(parts)


def _draw_region(bgr: BgrImage, one: RegionAnswer, of: tuple[int, ...]) -> None:
    """The frame of a region, and its answer below its upper edge. `bgr` is a frame of the size `of`, fitted."""
    across, down, scale = fitted_at(of, bgr.shape[1], bgr.shape[0])
    left, right = (round(across + scale * x) for x in one.box[0::2])
    top, bottom = (round(down + scale * y) for y in one.box[1::2])
    colour = AMBER if one.prediction.rejected else WHITE
    letters = max(MIN_TEXT, 0.55 * _unit(bgr))
    room = max(1, right - left - 8)
    text, letters = _fitted(f"{one.name}: {shown_name(one.prediction)}", room, letters, 1)
    high = _size("Ag", letters, 1)[1]
    _darken(bgr[top : min(bottom, top + 2 * high), left:right])
    cv2.rectangle(bgr, (left, top), (right - 1, bottom - 1), colour, max(1, round(2 * _unit(bgr))), cv2.LINE_AA)
    _put(bgr, text, (left + 4, top + round(1.5 * high)), letters, colour, 1)


def _draw_bar(bgr: BgrImage, line: _Line, detail: str, *, at_top: bool) -> int:
    """A large line of text and a small one below it, on a darkened bar across the picture; the bar's first row."""
    height, width = bgr.shape[:2]
    unit = _unit(bgr)
    label_scale, detail_scale = max(1.2 * MIN_TEXT, 0.9 * unit), max(MIN_TEXT, 0.5 * unit)
    thickness = max(1, round(1.6 * label_scale))
    line_height, detail_height = _size("Ag", label_scale, thickness)[1], _size("Ag", detail_scale, 1)[1]
    margin = max(4, round(0.45 * line_height))
    bar = min(height, 3 * margin + line_height + detail_height)
    top = 0 if at_top else height - bar
    _darken(bgr[top : top + bar])
    room = width - 2 * margin
    baseline = top + margin + line_height
    colour = AMBER if line.doubtful else WHITE
    figure_width = _size(line.figure, label_scale, thickness)[0]
    text, scale = _fitted(line.text, room - figure_width - margin, label_scale, thickness)
    _put(bgr, text, (margin, baseline), scale, colour, thickness)
    _put(bgr, line.figure, (width - margin - figure_width, baseline), label_scale, colour, thickness)
    text, scale = _fitted(detail, room, detail_scale, 1)
    _put(bgr, text, (margin, baseline + margin + detail_height), scale, GREY, 1)
    return top


def _draw_shares(bgr: BgrImage, prediction: Prediction, bottom: int) -> None:
    """The most probable classes as bars, in the right corner above the row `bottom`; not on small pictures."""
    width = bgr.shape[1]
    scale = max(MIN_TEXT, 0.45 * _unit(bgr))
    letter_height = _size("Ag", scale, 1)[1]
    row, margin = round(1.6 * letter_height), round(0.4 * letter_height)
    shares = [(label, share) for label, share in prediction.top[:MAX_SHARES] if share >= MIN_SHARE]
    top = bottom - row * len(shares) - margin
    if width < MIN_FOR_SHARES or top < bottom // 2 or not shares:
        return
    panel = bgr[top:bottom, round((1 - PANEL) * width) :]
    _darken(panel)
    room = panel.shape[1] - 2 * margin
    for index, (label, share) in enumerate(shares):
        y = margin + index * row
        cv2.rectangle(panel, (margin, y), (margin + round(share * room), y + row - 3), BLUE, cv2.FILLED)
        figure = percent(share)
        figure_width = _size(figure, scale, 1)[0]
        text, fitted = _fitted(pretty(label), room - figure_width - 2 * margin, scale, 1)
        baseline = y + (row - 3 + letter_height) // 2 - 1
        _put(panel, text, (2 * margin, baseline), fitted, WHITE, 1)
        _put(panel, figure, (margin + room - figure_width, baseline), scale, WHITE, 1)


def _unit(bgr: BgrImage) -> float:
    """How much larger letters are than on a picture of 640 x 400."""
    height, width = bgr.shape[:2]
    return float(min(width / 640, height / 400))


def _darken(part: BgrImage) -> None:
    part[:] = cv2.convertScaleAbs(part, alpha=BAR_DARKNESS)


def _fitted(text: str, room: int, scale: float, thickness: int) -> tuple[str, float]:
    """The text and the scale at which it fits into `room` pixels: made smaller first, then cut."""
    text = _drawable(text)
    width = _size(text, scale, thickness)[0]
    if width > room:
        scale = max(MIN_TEXT, scale * room / width)
    kept = text
    while len(kept) > 1 and _size(text, scale, thickness)[0] > room:
        kept = kept[:-1]
        text = kept.rstrip() + "..."
    return text, scale


def _drawable(text: str) -> str:
    """`text` as this OpenCV can draw it. OpenCV 4 draws ASCII only: accents go, other letters become `?`."""
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
