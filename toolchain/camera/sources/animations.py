"""Animated GIF, WebP and PNG: several pictures in one file, each with its own duration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from toolchain.camera.frames import BgrImage
from toolchain.camera.sources.live import three_channels
from toolchain.errors import UnreadableImageError
from toolchain.system import files
from toolchain.system.progress import Reporter

ANIMATED = frozenset({".gif", ".webp", ".png"})
MAX_BYTES = 64 * 2**20
"""Of pictures that are decoded at once. OpenCV decodes those before them each time, so few at once are slow."""
MIN_S, USUAL_S = 0.02, 0.1
"""Browsers take a shorter duration for one that was never set, and show the picture for the usual one."""


@dataclass(frozen=True)
class Animation:
    """Gives its pictures, each with the seconds for which it is shown."""

    path: Path
    count: int

    def __iter__(self) -> Iterator[tuple[BgrImage, float]]:
        start, at_once = 0, 1
        while start < self.count:
            pictures = _decoded(self.path, start, min(at_once, self.count - start))
            yield from pictures
            start += len(pictures)
            at_once = max(1, MAX_BYTES // pictures[0][0].nbytes)


def moving_pictures(path: Path, reporter: Reporter) -> Animation | None:
    """The animation that a whole image file holds; None where it holds one picture.

    An OpenCV before 4.11 cannot read it, which is said.
    """
    if path.suffix.lower() not in ANIMATED:
        return None
    with files.encodable(path) as named:
        count = cv2.imcount(str(named))
    if count < 2:
        return None
    if not hasattr(cv2, "imreadanimation"):
        reporter.warn(f"{path}: OpenCV {cv2.__version__} reads only the first of its {count} pictures")
        return None
    return Animation(path, count)


def _decoded(path: Path, start: int, count: int) -> list[tuple[BgrImage, float]]:
    with files.encodable(path) as named:
        whole, animation = cv2.imreadanimation(str(named), start=start, count=count)
    if not whole or not animation.frames:
        raise UnreadableImageError(f"{path}: picture {start + 1} cannot be decoded")
    seconds = [int(duration) / 1000 for duration in animation.durations]
    return [
        (three_channels(picture), shown_s if shown_s >= MIN_S else USUAL_S)
        for picture, shown_s in zip(animation.frames, seconds, strict=False)
    ]
