"""Video files, whose frames come as a camera would have taken them."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import cv2

from toolchain.camera.frames import DISK, Frame
from toolchain.camera.pacing import Clock, Pacer, Timeline
from toolchain.camera.sources.codecs import undecodable
from toolchain.camera.sources.live import SLOWEST_CLIP, fourcc, given, plausible_fps, three_channels
from toolchain.system.progress import Reporter, Silent

MAX_SKIPPED_S = 0.5
"""Seconds of a clip that are skipped at once to catch up."""
MAX_SHORT = 0.95
"""Share of the frames that a clip says it has which it must have to count as whole."""


class ClipSource:
    """A video of finite length. Paced, its frames come as a camera would have taken them: those whose time has
    passed are skipped. Otherwise each comes as soon as it is asked for. `path` is where it lies on this machine.
    """

    live = False
    patience_s = 0.0
    remedy = DISK

    def __init__(
        self,
        name: str,
        capture: cv2.VideoCapture,
        clock: Clock,
        *,
        paced: bool,
        reporter: Reporter | None = None,
        path: Path | None = None,
    ) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS), SLOWEST_CLIP)
        self.given = given(capture, SLOWEST_CLIP)
        self._capture = capture
        self._clock = clock
        self._pacer = Pacer(clock) if paced else None
        self._stopped = Event()
        self._reporter = reporter or Silent()
        self._expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._number = -1
        self._times = Timeline(name, self.fps, reporter)
        self._ahead: Any = self._decoded()
        if self._ahead is None:
            code = fourcc(capture)
            capture.release()
            raise undecodable(name, code, path)

    @property
    def resting(self) -> bool:
        return self._pacer is not None and self._pacer.waiting

    def read(self) -> Frame | None:
        bgr = self._next()
        if bgr is None or self._stopped.is_set():
            return None
        captured_s = self._pacer.wait(self._times.time_s) if self._pacer else self._clock.now()
        if captured_s is None:
            return None
        return Frame(self._number, three_channels(bgr), captured_s, self._times.time_s)

    def stop(self) -> None:
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:
        self._capture.release()

    def _next(self) -> Any:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr
        bgr = self._decoded()
        if bgr is None:
            got = self._number + 1
            # Formats may be wrong about their length by some frames.
            if got < MAX_SHORT * self._expected - self.fps:
                cut = f"after {got} of {self._expected:.0f} frames"
                self._reporter.warn(f"{self.name} ends {cut}; the file may be cut off")
            return None
        return self._caught_up(self._pacer, bgr) if self._pacer else bgr

    def _decoded(self) -> Any:
        """The next frame; its number and its time become those of the source."""
        whole, bgr = self._capture.read()
        if not whole:
            return None
        self._number += 1
        self._times.advance(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        return bgr

    def _caught_up(self, pacer: Pacer, bgr: Any) -> Any:
        """Skip what is late by a frame or more: its moment has passed. A clip's last frame is never skipped."""
        # The rate of a file whose time stamps jump is far from that of its frames.
        interval_s = min(1 / self.fps, self._times.interval_s)
        for _ in range(max(1, round(MAX_SKIPPED_S / interval_s))):
            if pacer.behind(self._times.time_s) <= interval_s or self._stopped.is_set():
                return bgr
            later = self._decoded()
            if later is None:
                return bgr
            bgr = later
        # This machine decodes more slowly than the clip plays, or it slept: the clip goes on from here.
        pacer.restart(self._times.time_s)
        return bgr
