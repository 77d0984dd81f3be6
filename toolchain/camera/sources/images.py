"""Images as a source: files one after another, and animations with their own timing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2

from toolchain.camera.frames import DISK, BgrImage, Clock, Frame, FrameSource, Pacer
from toolchain.camera.sources.video import three_channels
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images.preprocess import read as read_image
from toolchain.system import files
from toolchain.system.progress import Reporter, Silent

ANIMATED = frozenset({".gif", ".webp", ".png"})
MAX_BYTES = 64 * 2**20
"""Bytes of the pictures that are decoded at once. OpenCV decodes all earlier ones each time, so more is faster."""
MIN_S, USUAL_S = 0.02, 0.1
"""As in browsers, a duration shorter than the first counts as not set, and is replaced by the second."""


@dataclass(frozen=True)
class Animation:
    """Iterates over its pictures, each with the seconds for which it is shown."""

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
    """The animation in an image file; None if it holds a single picture. OpenCV before 4.11 cannot read animations,
    which is a warning.
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


class ImagesSource(FrameSource):
    """Image files, one after another, each shown for some seconds. Unreadable ones are skipped with a warning.

    Of an animated GIF, WebP or PNG, each picture is shown as long as the file says.
    """

    live = False
    remedy = DISK

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        clock: Clock,
        *,
        seconds_per_image: float,
        paced: bool,
        reporter: Reporter,
    ) -> None:
        super().__init__(name, clock, Pacer(clock) if paced else None)
        self.fps: float = 1 / seconds_per_image
        self.given: str = f"{len(paths)} image{'s' if len(paths) > 1 else ''}, {seconds_per_image:g} s each"
        self._reporter = reporter
        self._seconds = seconds_per_image
        self._time_s = 0.0
        self._pictures = chain.from_iterable(map(self._of, paths))
        if len(paths) == 1:
            self._look_at(paths[0])

    def read(self) -> Frame | None:
        found = next(self._pictures, None)
        if found is None and not self._number:
            raise BadInputError(f"{self.name}: no image can be read", "Look at the files; they may be damaged.")
        if self._pacer and (found is not None or self._number):
            self._pacer.wait(self._time_s)  # the last image is shown as long as the others
        if found is None or self._stopped.is_set():
            return None
        bgr, seconds = found
        frame = Frame(self._number, bgr, self._clock.now(), self._time_s)
        self._number += 1
        self._time_s += seconds
        return frame

    def _of(self, path: Path) -> Iterator[tuple[BgrImage, float]]:
        """The pictures of a file, with the seconds for which each is shown."""
        try:
            picture = read_image(path)
            animation = moving_pictures(path, self._reporter)
            if animation is not None:
                yield from animation
            else:
                yield cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), self._seconds  # type: ignore[misc]
        except UnreadableImageError as error:
            self._reporter.warn(f"skipped: {error.message}")

    def _look_at(self, path: Path) -> None:
        """Set rate and description of a single file, which may be an animation."""
        with suppress(UnreadableImageError):  # reported when it is read
            read_image(path)
            animation = moving_pictures(path, Silent())
            if animation is not None:
                self.fps = 1 / next(iter(animation))[1]
                self.given = f"{animation.count} pictures, animated"
