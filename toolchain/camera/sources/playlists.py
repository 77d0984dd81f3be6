"""Live HLS: a playlist with a sliding window, played at its live edge, no segment twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urljoin

import cv2

from toolchain.camera.frames import Clock, Frame, Pacer, Timeline
from toolchain.camera.sources.video import MAX_CORRUPT, LiveSource, three_channels

MAX_LATE_S = 0.05
"""If the source is later than this, all later frames are due later."""
MAX_SKIPPED_S = 2.0
"""How many seconds of the stream are skipped at once to catch up."""
SEGMENTS_WAITED = 3
"""The stream counts as lost when it is late by so many segments."""

Load = Callable[[str], str]
"""Returns the text of the playlist at an address, or raises OSError."""


@dataclass(frozen=True)
class Playlist:
    """What a playlist says: whether it is finished, and which segment is the newest."""

    finished: bool
    newest: tuple[int, str]
    """The number and the address of the last segment."""
    segment_s: float
    """The longest duration of a segment."""


MOST = 2.0**53
"""Numbers beyond that, and what is none, are noise."""


def read_playlist(address: str, load: Load) -> Playlist | None:
    """Read the playlist at `address`, or the first variant in it; None if it is not a playlist of HLS.

    Raises OSError if it cannot be read.
    """
    lines = load(address).splitlines()
    for index, line in enumerate(lines):
        if line.startswith("#EXT-X-STREAM-INF"):
            variant = next((entry for entry in lines[index + 1 :] if entry and not entry.startswith("#")), "")
            lines = load(urljoin(address, variant)).splitlines()
            break
    if not any(line.startswith("#EXT-X-TARGETDURATION") for line in lines):
        return None
    segments = [line for line in lines if line and not line.startswith("#")]
    first = int(_value(lines, "#EXT-X-MEDIA-SEQUENCE"))
    newest = (first + len(segments) - 1, segments[-1] if segments else "")
    finished = any(line.startswith("#EXT-X-ENDLIST") for line in lines)
    return Playlist(finished, newest, _value(lines, "#EXT-X-TARGETDURATION"))


def _value(lines: list[str], tag: str) -> float:
    for line in lines:
        if line.startswith(f"{tag}:"):
            try:
                value = float(line.partition(":")[2])
            except ValueError:
                break
            return value if 0 <= value <= MOST else 0.0
    return 0.0


class PlaylistSource(LiveSource):
    """Plays a live playlist at the rate of its time stamps, since each segment of some seconds arrives at once.
    `look` reads the playlist.
    """

    def __init__(
        self,
        name: str,
        capture: cv2.VideoCapture,
        clock: Clock,
        look: Callable[[], Playlist | None],
        segment_s: float,
    ) -> None:
        super().__init__(name, capture, clock)
        self._pacer: Pacer = Pacer(clock)
        self.patience_s: float = SEGMENTS_WAITED * segment_s
        self._look = look
        self._times = Timeline(name, self.fps)

    def read(self) -> Frame | None:
        skipped = failed = 0
        while not self._stopped.is_set():
            asked_s = self._clock.now()
            if not self._capture.grab():
                failed += 1
                if failed < MAX_CORRUPT:
                    continue
                with suppress(OSError):
                    if (playlist := self._look()) is not None and playlist.finished:
                        return None
                raise self._lost()
            time_s = self._times.advance(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            late_s = self._pacer.behind(time_s)
            if min(late_s, self._clock.now() - asked_s) > MAX_LATE_S:
                self._pacer.restart(time_s)  # the source was late, so all later frames are
            elif late_s > 1 / self.fps and skipped < self.fps * MAX_SKIPPED_S:
                skipped += 1  # this machine was late: skip the frame
                continue
            moment_s = self._pacer.wait(time_s)
            whole, bgr = self._capture.retrieve()
            if moment_s is not None and whole and bgr is not None:
                return self._frame(three_channels(bgr), moment_s)
        return None
