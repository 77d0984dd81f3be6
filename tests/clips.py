"""Short clips and images of one colour each, and a clock that tests hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from toolchain.camera.frames import BgrImage

BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


class HeldClock:
    """A clock that moves only when somebody waits by it, or the test says so."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now(self) -> float:
        return self.time_s

    def wait(self, event: Event, seconds: float) -> bool:
        self.time_s += max(0.0, seconds)
        return event.is_set()


def plain(colour: str, height: int = 48, width: int = 64) -> BgrImage:
    """A picture of one colour, darker in a corner: something is to be seen on it."""
    picture = np.full((height, width, 3), BGR[colour], np.uint8)
    picture[: height // 4, : width // 4] //= 2
    return picture


def write_clip(path: Path, colours: Sequence[str], fps: float = 30, height: int = 48, width: int = 64) -> Path:
    """Write an MP4 with one frame for each of `colours`."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    assert writer.isOpened()
    for colour in colours:
        writer.write(plain(colour, height, width))
    writer.release()
    return path


def read_clip(path: Path) -> tuple[float, list[BgrImage]]:
    """Frame rate and frames of a video file."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        whole, bgr = capture.read()
        if not whole:
            capture.release()
            return fps, frames
        frames.append(bgr)


def colour_of(bgr: BgrImage) -> str:
    """The strongest of the three colours in the middle of a picture."""
    height, width = bgr.shape[:2]
    blue, green, red = bgr[height // 4 : height // 2, width // 4 : 3 * width // 4].reshape(-1, 3).mean(axis=0)
    return max({"red": red, "green": green, "blue": blue}.items(), key=lambda item: item[1])[0]
