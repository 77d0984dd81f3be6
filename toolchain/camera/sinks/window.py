"""A window, by pygame, so that the headless OpenCV is enough: with the answers, or to measure the latency.

Latency from glass to glass is the time from an event before the lens to its answer on the screen. To measure it,
the screen shows a marker that changes with every answer, and the camera looks at the screen. The marker in a frame
tells when the light of that frame left the screen.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import cv2
import numpy as np

from toolchain.camera.answering import Answered, Percentiles, Series
from toolchain.camera.drawing import FONT, Drawn, fit, fitted_at
from toolchain.camera.engine import Engine
from toolchain.camera.frames import BgrImage
from toolchain.camera.loop import Control
from toolchain.camera.regions import drawn
from toolchain.camera.sinks import Delivery, Sink, SinkContext
from toolchain.errors import MissingError
from toolchain.system import files
from toolchain.system.progress import Reporter

KEYS = (
    "q or Escape: end, space: pause, s: save a picture, d: next device, p: next precision, b: both side by side; "
    "drag the mouse: answer that region, right button: the whole again"
)
TITLE = "edgetl camera"
HINT = "Run it with --headless: the answers are printed."
INVISIBLE = {"offscreen", "dummy"}
"""Drivers that SDL falls back to without a display, and which nobody sees."""

MARKERS = 100
"""Enough for three seconds at 30 pictures per second."""
PAGE_WIDTH, PAGE_HEIGHT, MARKER_SIDE = 640, 480, 360
LEFT_BUTTON, RIGHT_BUTTON = 1, 3
WORDS = "Hold the camera before this screen; q ends."


@dataclass(frozen=True)
class WindowOptions:
    """Answers are shown in a window; with `measure_latency`, markers are shown there instead."""

    measure_latency: bool = False

    def open(self, context: SinkContext) -> Sink:
        window = Window(context.control, context.reporter, engine=context.engine, drawn=context.drawn)
        context.reporter.say(KEYS)
        return LatencyScreen(window) if self.measure_latency else window


class Window(Sink):
    """Shows pictures; keys go to `control` and `engine`.

    Raises MissingError if there is no display.
    """

    name = "the window"
    delivery: Delivery = "main"

    def __init__(
        self,
        control: Control,
        reporter: Reporter,
        folder: Path | None = None,
        engine: Engine | None = None,
        drawn: Drawn | None = None,
    ) -> None:
        self._drawn = drawn or Drawn()
        self._control = control
        self._engine = engine
        self._reporter = reporter
        self._folder = folder or Path()
        self._pygame = _with_display()
        self._picture: BgrImage | None = None
        self._corner: tuple[float, float] | None = None
        """Where a region begins that is being drawn, in percent of the picture."""
        self._pointer: tuple[float, float] = (0.0, 0.0)

    def show(self, answered: Answered) -> None:
        self.put(self._drawn(answered))

    def idle(self, state: str) -> None:
        picture = self._drawn.with_state(state)
        if picture is not None and self._pygame.display.get_surface() is not None:
            self._paint(picture)
        self._handle_keys()

    def close(self) -> None:
        self._pygame.display.quit()

    def put(self, picture: BgrImage) -> None:
        """Show `picture`, uint8 BGR, and handle the keys that were pressed."""
        pygame = self._pygame
        if pygame.display.get_surface() is None:
            height, width = picture.shape[:2]
            pygame.display.set_mode((width, height), pygame.RESIZABLE)
            pygame.display.set_caption(TITLE)
        self._picture = picture
        self._paint(picture)
        self._handle_keys()

    def _actions(self) -> dict[int, Callable[[], None]]:
        """What keys do."""
        pygame = self._pygame
        actions: dict[int, Callable[[], None]] = {
            pygame.K_q: self._quit,
            pygame.K_ESCAPE: self._quit,
            pygame.K_SPACE: self._pause,
            pygame.K_s: self._save,
        }
        if self._engine is not None:
            actions |= {
                pygame.K_d: self._engine.next_device,
                pygame.K_p: self._engine.next_precision,
                pygame.K_b: self._engine.toggle_comparison,
            }
        return actions

    def _handle_keys(self) -> None:
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._quit()
            elif event.type in (pygame.KEYDOWN, pygame.TEXTINPUT):
                self._typed(event)
            elif event.type in (pygame.VIDEORESIZE, pygame.WINDOWEXPOSED):
                self._paint(self._picture)
            elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEMOTION, pygame.MOUSEBUTTONUP):
                self._draw_region(event)

    def _typed(self, event: Any) -> None:
        """A key went down, or (`TEXTINPUT`) a letter came of it, perhaps of several keys."""
        if event.type == self._pygame.KEYDOWN and (act := self._actions().get(event.key)) is not None:
            act()

    def _draw_region(self, event: Any) -> None:
        """Dragging makes one more region, and the right button takes all away."""
        pygame, picture = self._pygame, self._picture
        if picture is None:
            return
        width, height = pygame.display.get_surface().get_size()
        left, top, scale = fitted_at(picture.shape, width, height)
        high, wide = picture.shape[:2]
        self._pointer = 100 * (event.pos[0] - left) / (scale * wide), 100 * (event.pos[1] - top) / (scale * high)
        if event.type == pygame.MOUSEBUTTONDOWN and event.button == LEFT_BUTTON:
            self._corner = self._pointer
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == RIGHT_BUTTON:
            self._corner, self._control.regions = None, ()
        elif event.type == pygame.MOUSEBUTTONUP and event.button == LEFT_BUTTON and self._corner is not None:
            region = drawn(self._corner, self._pointer, self._control.regions)
            self._corner = None
            if region and self._control.regions and self._engine and self._engine.network.takes_one:
                self._reporter.warn("a file with --raw-frame answers one region only")
            elif region is not None:
                self._control.regions = (*self._control.regions, region)
                self._reporter.say(f"a region more: --region {region}")
        elif event.type == pygame.MOUSEMOTION and self._corner is not None:
            self._paint(picture)

    def _paint(self, picture: BgrImage | None) -> None:
        surface = self._pygame.display.get_surface()
        if surface is None or picture is None:
            return
        width, height = surface.get_size()
        shown = fit(picture, width, height)
        surface.blit(self._pygame.image.frombuffer(shown.tobytes(), (width, height), "BGR"), (0, 0))
        if self._corner is not None:
            left, top, scale = fitted_at(picture.shape, width, height)
            high, wide = picture.shape[:2]
            across, down = (sorted(pair) for pair in zip(self._corner, self._pointer, strict=True))
            place = left + scale * wide * across[0] / 100, top + scale * high * down[0] / 100
            size = scale * wide * (across[1] - across[0]) / 100, scale * high * (down[1] - down[0]) / 100
            self._pygame.draw.rect(surface, (255, 255, 255), (*place, *size), 2)
        self._pygame.display.flip()

    def _quit(self) -> None:
        self._control.end("quit")

    def _pause(self) -> None:
        self._control.paused = not self._control.paused
        paused = self._control.paused
        self._pygame.display.set_caption(f"{TITLE} (paused)" if paused else TITLE)

    def _save(self) -> None:
        if self._picture is None:
            return
        path = self._folder / f"edgetl-{time.strftime('%Y%m%d-%H%M%S')}.png"
        number = 1
        while path.exists():
            number += 1
            path = path.with_stem(f"{path.stem.partition('_')[0]}_{number}")
        try:
            files.write_bytes(path, cv2.imencode(".png", self._picture)[1].tobytes())
        except OSError as error:
            self._reporter.warn(f"{path} cannot be written: {error.strerror}")
        else:
            self._reporter.say(f"saved {path}")


@dataclass(frozen=True)
class GlassToGlass:
    """Milliseconds from showing a marker to showing the answer to it. `capture`: screen, light, sensor and driver;
    `wait`, `resize`, `infer`: the loop; `draw`: the rest.
    """

    frames: int
    total: Percentiles
    capture: Percentiles
    wait: Percentiles
    resize: Percentiles
    infer: Percentiles
    draw: Percentiles


class Display(Protocol):
    """Shows finished pictures, uint8 BGR. They stay as they are."""

    def put(self, picture: BgrImage) -> None: ...

    def idle(self, state: str) -> None: ...

    def close(self) -> None: ...


class LatencyScreen(Sink):
    """Shows one marker after another in `window`, and finds them in the frames that were answered."""

    name = "the window"
    delivery: Delivery = "main"

    def __init__(self, window: Display) -> None:
        self._window = window
        self._dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
        self._detector = cv2.aruco.ArucoDetector(self._dictionary)
        self._number = 0
        self._shown_s: dict[int, float] = {}
        self._last_seen: tuple[int, float] | None = None
        self._frames = 0
        self._times = {name: Series() for name in ("total", "capture", "wait", "resize", "infer", "draw")}

    def result(self) -> GlassToGlass:
        """The measurement so far; `frames` counts those in which a new marker was read."""
        return GlassToGlass(self._frames, **{name: times.percentiles() for name, times in self._times.items()})

    def show(self, answered: Answered) -> None:
        self._number = (self._number + 1) % MARKERS
        self._window.put(self._page(self._number))
        now = time.monotonic()
        self._shown_s[self._number] = now
        frame = answered.frame
        seen = self._newest_marker(frame.bgr, frame.captured_s)
        if seen is None or seen == self._last_seen:
            return  # the same marker once more: the screen has not changed since
        self._last_seen = seen
        parts = {
            "total": 1000 * (now - seen[1]),
            "capture": 1000 * (frame.captured_s - seen[1]),
            "wait": answered.wait_ms,
            "resize": answered.resize_ms,
            "infer": answered.infer_ms,
            "draw": 1000 * (now - frame.captured_s) - answered.wait_ms - answered.resize_ms - answered.infer_ms,
        }
        self._frames += 1
        for name, value in parts.items():
            self._times[name].add(value)

    def idle(self, state: str) -> None:
        if not self._shown_s:
            self._window.put(self._page(self._number))
            self._shown_s[self._number] = time.monotonic()
        self._window.idle("")

    def close(self) -> None:
        self._window.close()

    def _newest_marker(self, bgr: BgrImage, captured_s: float) -> tuple[int, float] | None:
        """The latest marker in a frame that was shown before its capture, and when it was shown.

        This leaves out half-faded markers of earlier pictures, and misread ones that had not been shown yet.
        """
        _, ids, _ = self._detector.detectMarkers(bgr)
        found = [int(number) for number in np.ravel(ids)] if ids is not None else []
        shown = [(number, self._shown_s[number]) for number in found if number in self._shown_s]
        return max((one for one in shown if one[1] <= captured_s), key=lambda one: one[1], default=None)

    def _page(self, number: int) -> BgrImage:
        page = np.full((PAGE_HEIGHT, PAGE_WIDTH, 3), 255, np.uint8)
        marker = cv2.aruco.generateImageMarker(self._dictionary, number, MARKER_SIDE)
        top, left = (PAGE_HEIGHT - MARKER_SIDE) // 3, (PAGE_WIDTH - MARKER_SIDE) // 2
        page[top : top + MARKER_SIDE, left : left + MARKER_SIDE] = marker[:, :, None]
        cv2.putText(page, WORDS, (40, PAGE_HEIGHT - 24), FONT, 0.6, (90, 90, 90), 1, cv2.LINE_AA)
        return page


def _with_display() -> ModuleType:
    """pygame with its display initialised. Raises MissingError if there is none."""
    if sys.platform == "linux" and not _display_likely():
        raise MissingError("there is no display for a window", HINT)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would print to stdout
    try:
        import pygame
    except ImportError:
        raise MissingError("a window needs pygame-ce", f"pip install pygame-ce. {HINT}") from None
    try:
        pygame.display.init()
    except pygame.error as error:
        raise MissingError(f"no window can be opened: {error}", HINT) from None
    driver = pygame.display.get_driver()
    if driver in INVISIBLE and os.environ.get("SDL_VIDEODRIVER") != driver:
        pygame.display.quit()
        raise MissingError("there is no display for a window", HINT)
    module: ModuleType = pygame
    return module


def _display_likely() -> bool:
    """Whether there is a window system or, on the console of a small board, a graphics card for SDL to use."""
    asked = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))
    return asked or any(Path("/dev/dri").glob("card*"))
