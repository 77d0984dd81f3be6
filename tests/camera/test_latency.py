"""From glass to glass, with a camera that looks at the very window: its pixels, some frames late."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from toolchain.camera.engine import Engine
from toolchain.camera.frames import BgrImage, Frame
from toolchain.camera.loop import StopConditions, run
from toolchain.camera.sinks.window import LatencyScreen
from toolchain.camera.sources.capture import Capture
from toolchain.classifier import load

DELAY_S = 0.08


class Glass:
    """A window whose light a camera sees `DELAY_S` later, smaller, tilted, dimmer and noisy."""

    name, given, fps, live = "camera at the screen", "", 30.0, True
    patience_s, resting, remedy = 0.0, False, "Look at the glass."

    def __init__(self) -> None:
        self._light: deque[tuple[float, BgrImage]] = deque(maxlen=60)
        self._number = 0
        self._stopped = False
        self._generator = np.random.default_rng(0)

    def put(self, picture: BgrImage) -> None:
        self._light.append((time.monotonic(), picture))

    def idle(self, state: str) -> None:
        pass

    def read(self) -> Frame | None:
        time.sleep(1 / self.fps)
        now = time.monotonic()
        arrived = [picture for at, picture in list(self._light) if at <= now - DELAY_S]
        seen = np.full((480, 640, 3), 30, np.uint8)
        if arrived:
            tilt = cv2.getRotationMatrix2D((320, 240), 7, 0.8)
            seen = (0.7 * cv2.warpAffine(arrived[-1], tilt, (640, 480)) + 20).astype(np.uint8)
            seen = cv2.add(seen, self._generator.integers(0, 10, seen.shape, np.uint8))
        self._number += 1
        return None if self._stopped else Frame(self._number - 1, seen, now, self._number / self.fps)

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        pass


def test_the_time_from_screen_to_camera_and_back_is_found(tmp_path: Path) -> None:
    glass = Glass()
    screen = LatencyScreen(glass)
    engine = Engine(load(tiny_artifact(tmp_path / "tiny.onnx")))
    run(engine, Capture(glass), [screen], limits=StopConditions(frames=60))
    found = screen.result()
    assert found.frames > 20
    assert found.capture.p50 is not None
    assert found.total.p50 is not None
    assert found.infer.p50 is not None
    assert found.draw.p50 is not None
    assert 1000 * DELAY_S <= found.capture.p50 < 1000 * DELAY_S + 60, (
        "the delay, and up to a frame of waiting for it"
    )
    assert found.total.p50 > found.capture.p50
    assert found.draw.p50 > 0


def test_without_a_camera_before_it_nothing_is_measured() -> None:
    class Shown:
        def __init__(self) -> None:
            self.pictures: list[BgrImage] = []

        def put(self, picture: BgrImage) -> None:
            self.pictures.append(picture)

        def idle(self, state: str) -> None:
            pass

        def close(self) -> None:
            pass

    shown = Shown()
    screen = LatencyScreen(shown)
    screen.idle("")
    assert len(shown.pictures) == 1, "a marker is there for the camera to find"
    assert screen.result().frames == 0
    assert screen.result().total.p50 is None


@pytest.mark.parametrize("number", [0, 1, 99])
def test_every_marker_can_be_read(number: int) -> None:
    class Nobody:
        def put(self, picture: BgrImage) -> None: ...
        def idle(self, state: str) -> None: ...
        def close(self) -> None: ...

    screen = LatencyScreen(Nobody())
    _, ids, _ = screen._detector.detectMarkers(screen._page(number))
    assert ids is not None
    assert ids.ravel().tolist() == [number]
