"""A window, by pygame, so that the headless OpenCV is enough."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import Drawn, fit
from toolchain.camera.engine import Engine
from toolchain.camera.frames import BgrImage
from toolchain.camera.latency import LatencyScreen
from toolchain.camera.loop import Control
from toolchain.camera.sinks import Delivery, Sink, SinkContext
from toolchain.errors import MissingError
from toolchain.system import files
from toolchain.system.progress import Reporter

KEYS = "q or Escape: end, space: pause, s: save a picture, d: next device, p: next precision, b: both side by side"
TITLE = "edgetl camera"
HINT = "Run it with --headless: the answers are printed."
INVISIBLE = {"offscreen", "dummy"}
"""Drivers that SDL falls back to without a display, and which nobody sees."""


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

    def _handle_keys(self) -> None:
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
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._quit()
            elif event.type == pygame.KEYDOWN and event.key in actions:
                actions[event.key]()
            elif event.type in (pygame.VIDEORESIZE, pygame.WINDOWEXPOSED):
                self._paint(self._picture)

    def _paint(self, picture: BgrImage | None) -> None:
        surface = self._pygame.display.get_surface()
        if surface is None or picture is None:
            return
        width, height = surface.get_size()
        shown = fit(picture, width, height)
        surface.blit(self._pygame.image.frombuffer(shown.tobytes(), (width, height), "BGR"), (0, 0))
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
