"""Things before a camera that is none: pictures that move, in light that changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from toolchain.camera.frames import SYSTEM_CLOCK, BgrImage, Frame, FrameSource
from toolchain.drawn.pets import draw
from toolchain.teach.learnt import Learnt

HEIGHT, WIDTH, FPS = 120, 160, 30

LEARNT = Learnt("run", ("cup", "pen"), 0, 0.75, (0.3, 0.95), 4, {"cup": 1.0, "pen": 0.5}, 0.9, None, 1.0)


class Slow:
    """Teaches when a test lets it, and says what the test wants."""

    def __init__(self, error: Exception | None = None) -> None:
        self.let, self.error, self.lessons = Event(), error, 0

    def prepare(self) -> None:
        pass

    def look_ahead(self) -> bool:
        return False

    def learn(self) -> Learnt:
        assert self.let.wait(10)
        self.lessons += 1
        if self.error:
            raise self.error
        return LEARNT


def picture(thing: str, take: int = 0) -> BgrImage:
    """A picture that a take moves about, uint8 BGR."""
    return np.ascontiguousarray(draw(thing, take, size=200)[:, :, ::-1])


def moved(bgr: BgrImage, step: int) -> BgrImage:
    """The picture as the camera sees it in frame `step`: moved, and in other light."""
    turn = step / 20
    top, left = (round(30 + 25 * np.sin(turn + phase)) for phase in (0.0, 1.5))
    seen = bgr[top : top + HEIGHT, left : left + WIDTH].astype(np.float32)
    height, width = seen.shape[:2]
    shown = np.clip(seen * (1 + 0.2 * np.sin(turn / 2)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(shown, (WIDTH, HEIGHT)) if (height, width) != (HEIGHT, WIDTH) else shown, np.uint8)


def frames(bgr: BgrImage, count: int = 45) -> Iterator[Frame]:
    for step in range(count):
        yield Frame(step, moved(bgr, step), step / FPS, step / FPS)


def write_take(path: Path, thing: str, take: int = 0, count: int = 45) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in frames(picture(thing, take), count):
        writer.write(frame.bgr)
    writer.release()
    return path


class Held(FrameSource):
    """A camera before which a test holds one picture after another."""

    def __init__(self, bgr: BgrImage) -> None:
        super().__init__("a camera", SYSTEM_CLOCK)
        self.fps, self.given = float(FPS), f"{WIDTH}x{HEIGHT}"
        self.bgr = bgr
        self._start_s = SYSTEM_CLOCK.now()
        self._step = 0
        self._wait = Event()

    def read(self) -> Frame | None:
        self._wait.wait(1 / FPS)
        if self._stopped.is_set():
            return None
        now = SYSTEM_CLOCK.now()
        self._step += 1
        return Frame(self._step, moved(self.bgr, self._step), now, now - self._start_s)
