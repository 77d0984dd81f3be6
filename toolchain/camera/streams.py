"""Streams by URL. Whether one is live, a file, or a single picture is what its server says, and what it does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cv2
import numpy as np

from toolchain.camera.clips import ClipSource
from toolchain.camera.codecs import undecodable_stream
from toolchain.camera.frames import FrameSource
from toolchain.camera.pacing import Clock, Timeline
from toolchain.camera.playlists import Playlist, PlaylistSource, read_playlist
from toolchain.camera.served import Said, ask, fetch
from toolchain.camera.snapshots import SnapshotSource
from toolchain.camera.sources import LiveSource, fourcc, plausible_fps
from toolchain.errors import BadInputError, MissingError, UnreadableImageError
from toolchain.progress import Reporter

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
STREAM_LIMIT_MS = 10_000
"""How long FFmpeg waits for a stream to open, and for each piece of it."""
ASK_LIMIT_S = 5.0
WINDOW_S = 0.25
"""Seconds over which is measured how fast an unknown stream comes."""
LIVE_RATE = 2.0
"""Who gives more seconds of video in a second than this gives what it has, not what it sees."""
MOST_AHEAD_S = 10.0
"""A live server may begin with what it kept for those who come late, but with no more than so many seconds."""


class Stream:
    """The stream at `url`, which people know by `name`, and what is known of it."""

    def __init__(
        self, url: str, name: str, clock: Clock, reporter: Reporter, *, every_frame: bool, fps: float | None
    ) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise BadInputError(f"{name}: unknown kind of stream", f"Known are: file, {', '.join(SCHEMES)}.")
        self._url = url
        self._name = name
        self._clock = clock
        self._reporter = reporter
        self._every_frame = every_frame
        self._fps = fps
        self._by_http = scheme in {"http", "https"}
        self._said: Said | None = None
        self._playlist: Playlist | None = None
        self._played: tuple[int, str] | None = None
        """The newest segment when a live playlist was lost."""
        self._first: Any = None
        """The first picture of a stream that may be a file."""

    def open(self, limit_s: float) -> FrameSource:
        """Ask what it is, and open it so. Raises MissingError when it gives no video."""
        self._reporter.say(f"opening {self._name}")
        self._said = ask(self._url, min(ASK_LIMIT_S, limit_s)) if self._by_http else Said("unknown")
        if self._said.kind == "picture":
            self._refuse_every_frame()
            return self._snapshots()
        if self._said.kind == "playlist":
            with suppress(OSError):
                self._playlist = self._look()
        capture = self._capture(limit_s)
        counted = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        playlist = self._playlist
        if playlist is not None and not playlist.finished:
            self._refuse_every_frame()
            return PlaylistSource(self._name, capture, self._clock, self._look, playlist.segment_s)
        if self._said.kind == "file" or (counted and self._said.kind != "pictures"):
            return self._clip(capture)
        if self._said.kind == "unknown" and self._by_http and self._is_file(capture):
            capture.release()
            return self._clip(self._capture(limit_s))
        self._refuse_every_frame()
        return LiveSource(self._name, capture, self._clock)

    def again(self, limit_s: float) -> FrameSource | None:
        """Open a live stream that was lost; None where it had ended: it says so, or it begins once more."""
        assert self._said is not None
        if self._said.kind == "picture":
            return self._snapshots()
        if self._playlist is not None:
            return self._playlist_again(limit_s)
        capture = self._capture(limit_s)
        if self._first is not None:
            whole, first = capture.read()
            if whole and np.array_equal(first, self._first):
                capture.release()
                self._reporter.say(f"{self._name} begins from its first picture again: it is a file, and has ended")
                return None
        return LiveSource(self._name, capture, self._clock)

    def _playlist_again(self, limit_s: float) -> FrameSource | None:
        try:
            now = self._look()
        except OSError as error:
            raise MissingError(f"{self._name}: {error}") from None
        if now is None:
            raise MissingError(f"{self._name} is no playlist any more")
        if now.finished:
            return None
        if self._played in (None, now.newest):
            # What is there was played, or is about as old as the outage: it is not to be seen twice.
            self._played = now.newest
            raise MissingError(f"{self._name} has nothing new")
        self._played = None
        return PlaylistSource(self._name, self._capture(limit_s), self._clock, self._look, now.segment_s)

    def _look(self) -> Playlist | None:
        """Read the playlist, and remember what it says."""
        playlist = read_playlist(self._url, lambda address: fetch(address, ASK_LIMIT_S).decode("utf-8", "replace"))
        self._playlist = playlist or self._playlist
        return playlist

    def _snapshots(self) -> FrameSource:
        try:
            return SnapshotSource(self._name, self._url, self._clock, fps=self._fps)
        except OSError as error:
            raise MissingError(f"{self._name}: {error}") from None
        except UnreadableImageError as error:
            raise MissingError(error.message, "It should be a JPEG or PNG.") from None

    def _clip(self, capture: cv2.VideoCapture) -> FrameSource:
        return ClipSource(self._name, capture, self._clock, paced=not self._every_frame, reporter=self._reporter)

    def _capture(self, limit_s: float) -> cv2.VideoCapture:
        limit_ms = min(STREAM_LIMIT_MS, round(1000 * limit_s))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_LIMIT_MS]
        # FFmpeg decodes a frame on each core at once, and would hand each out as many frames late.
        limits += [cv2.CAP_PROP_N_THREADS, 1]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
        said = self._said or Said("unknown")
        if said.refused:
            raise MissingError(f"{self._name}: the server answers {said.refused}", "Check address and password.")
        if said.content_type.startswith("text/"):
            raise MissingError(f"{self._name} is a page ({said.content_type}), not video", "Check the address.")
        raise MissingError(
            f"{self._name} gives no video", "Check address, password, and that the sender is running."
        )

    def _is_file(self, capture: cv2.VideoCapture) -> bool:
        """Whether a stream that does not tell its length is a file: it comes much faster than its own time goes, or
        ends. Reads on until that is clear; a live stream is then at its newest frame."""
        times = Timeline(self._name, plausible_fps(capture.get(cv2.CAP_PROP_FPS)))
        start_s = window_s = self._clock.now()
        window_time_s = 0.0
        while True:
            if not capture.grab():
                if self._first is None:
                    raise MissingError(*undecodable_stream(self._name, fourcc(capture)))
                return True
            time_s = times.advance(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            if self._first is None:
                self._first = capture.retrieve()[1]
            now = self._clock.now()
            if time_s - (now - start_s) > MOST_AHEAD_S:
                return True
            if now - window_s >= WINDOW_S:
                if time_s - window_time_s < LIVE_RATE * (now - window_s):
                    return False
                window_s, window_time_s = now, time_s

    def _refuse_every_frame(self) -> None:
        if self._every_frame:
            raise BadInputError(
                f"{self._name} cannot be read as fast as possible", "Live sources have a rate of their own."
            )
