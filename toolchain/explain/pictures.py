"""Pictures that reach a network unchanged: placed where preprocessing cuts them out, and encoded as files.

Where `shortest_edge` is larger than the crop, a saved picture of the crop's size would be scaled up before the crop
is cut out of it. What was changed in it would be blurred. So what is saved is larger than the crop: the photograph
at the network's scale (`CroppedImage`), or the picture with a border (`framed`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image, Preprocess, decode

SHEET_COLUMNS = 6
SHEET_GAP = 8
FRAME_MS = 120
LAST_FRAME_MS = 2000


@dataclass(frozen=True)
class CroppedImage:
    """A photograph at the network's scale, uint8 RGB, and the preprocessing that crops it."""

    whole: Image
    preprocess: Preprocess

    @classmethod
    def of(cls, photograph: Image, preprocess: Preprocess) -> CroppedImage:
        """Scale a photograph as `preprocess` does, without cutting anything off."""
        return cls(preprocess.scale(photograph), preprocess)

    @property
    def pixels(self) -> Image:
        """What the network sees, uint8 [height, width, 3]."""
        return self.preprocess.centre(self.whole)

    def with_pixels(self, pixels: Image) -> Image:
        """The photograph with its crop replaced by `pixels`."""
        changed: Image = self.whole.copy()
        self.preprocess.centre(changed)[:] = pixels
        return changed


def framed(picture: Image, preprocess: Preprocess) -> Image:
    """A picture that `preprocess` turns into exactly `picture`, uint8 RGB in the size of the network's input.

    That is `picture` itself, or, if preprocessing crops, `picture` with its outermost pixels repeated around it.
    """
    if preprocess.resize == "squash":
        return picture
    across, down = preprocess.shortest_edge - preprocess.width, preprocess.shortest_edge - preprocess.height
    left, top = across // 2, down // 2
    return np.pad(picture, ((top, down - top), (left, across - left), (0, 0)), mode="edge")


def as_png(image: Image) -> bytes:
    """`image`, uint8 RGB, as the bytes of a PNG: read back, it is the same to the bit."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def as_jpeg(picture: Image, quality: int) -> Image:
    """`picture` after it was saved as JPEG and read again."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return decode(data.tobytes())


def magnified_change(change: NDArray[np.int16]) -> tuple[Image, int]:
    """A change on middle grey, as many times as strong as can be shown without being clipped, and this factor."""
    strength = max(1, 127 // max(1, int(np.abs(change).max())))
    return np.clip(128 + change.astype(np.int32) * strength, 0, 255).astype(np.uint8), strength


def as_gif(frames: Sequence[Image]) -> bytes:
    """An endless GIF of `frames`, uint8 RGB of one size, that pauses at the last. Each has its own 256 colours."""
    from PIL import Image as Pillow

    pictures = [Pillow.fromarray(frame).quantize(256, Pillow.Quantize.FASTOCTREE) for frame in frames]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    encoded = io.BytesIO()
    pictures[0].save(
        encoded, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
    )
    return encoded.getvalue()


def contact_sheet(pictures: Sequence[Image], gap: int = SHEET_GAP) -> Image:
    """Pictures of one size as one picture, in rows, `gap` pixels apart, uint8 RGB."""
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), SHEET_COLUMNS)
    rows = -(-len(pictures) // columns)
    down, across = height + gap, width + gap
    sheet = np.full((rows * down - gap, columns * across - gap, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (place // columns) * down, (place % columns) * across
        sheet[top : top + height, left : left + width] = picture
    return sheet
