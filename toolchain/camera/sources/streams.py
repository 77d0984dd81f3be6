"""Streams by URL. Whether one is live, a file or a single picture shows in its pace and in the server's answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import cv2
import numpy as np

from toolchain.camera.frames import CaptureOptions, Clock, FrameSource, Timeline
from toolchain.camera.sources.playlists import Playlist, PlaylistSource, read_playlist
from toolchain.camera.sources.served import (
    ServerReply,
    SnapshotSource,
    ask,
    check_certificate,
    fetch,
    set_tls_options,
)
from toolchain.camera.sources.video import (
    ClipSource,
    LiveSource,
    fourcc,
    plausible_fps,
    refuse_every_frame,
    undecodable_stream,
)
from toolchain.errors import BadInputError, MissingError, UnreadableImageError
from toolchain.system.progress import Reporter

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
STREAM_LIMIT_S = 10.0
"""How long FFmpeg waits for a stream to open, and for each read."""
ASK_LIMIT_S = 3.0
"""How long a server may take to answer a request."""
WINDOW_S = 0.25
"""The time over which the pace of an unknown stream is measured."""
LIVE_RATE = 2.0
"""A source that gives more seconds of video per second is not live."""
BURST_S = 0.3
"""A source that is further ahead sends what it had buffered, as live HLS does."""
MAX_AHEAD_S = 10.0
"""How many seconds a live server may send from its buffer at first."""

Pace = Literal["live", "burst", "file"]
"""How a stream arrives: in real time; at first faster than that; all at once, or up to its end."""


class Stream:
    """The stream at `url`, called `name` in messages, and what is known of it."""

    def __init__(self, url: str, name: str, clock: Clock, reporter: Reporter, *, options: CaptureOptions) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise BadInputError(f"{name}: unknown kind of stream", f"Known are: file, {', '.join(SCHEMES)}.")
        self._url = url
        self._name = name
        self._clock = clock
        self._reporter = reporter
        self._options = options
        self._by_tls = scheme in {"https", "rtsps"}
        self._by_http = scheme in {"http", "https"}
        self._snapshot = False
        self._playlist: Playlist | None = None
        self._played: tuple[int, str] | None = None
        """The newest segment when a live playlist was lost."""
        self._first: Any = None
        """The first picture of a stream that may be a file."""

    def open(self, limit_s: float) -> FrameSource:
        """Open it as the kind that it is. Raises MissingError if it gives no video.

        A request of its own is sent to the server only if the stream itself does not tell its kind: some servers
        serve a single client, and end with its connection.
        """
        self._reporter.say(f"opening {self._name}")
        self._check_certificate(limit_s)
        if self._by_http and urlsplit(self._url).path.lower().endswith((".m3u8", ".m3u")):
            with suppress(OSError):
                self._look()
        capture = self._opened(limit_s)
        if capture is None:
            said = self._asked(limit_s)
            if said.kind == "picture":  # of a kind that FFmpeg does not know
                return self._as_snapshots()
            raise self._refused(said)
        if self._is_live_playlist():
            return self._as_playlist(capture)
        if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            return self._as_clip(capture)
        if not self._by_http:
            return self._as_live(capture)
        pace = self._pace(capture)
        if pace == "live":
            return self._as_live(capture)
        kind = self._asked(limit_s).kind
        if kind == "picture":
            capture.release()
            return self._as_snapshots()
        if kind == "playlist":
            with suppress(OSError):
                self._look()
            if self._is_live_playlist():
                return self._as_playlist(capture)
        if pace == "file" and kind != "pictures":
            capture.release()
            return self._as_clip(self._capture(limit_s))  # from its first frame on
        return self._as_live(capture)

    def again(self, limit_s: float) -> FrameSource | None:
        """Open a live stream again; None if it had ended: it says so, or it starts with its first picture again.

        `limit_s` is for what is asked beside it. FFmpeg may need more than that to see what a slow stream is.
        """
        self._check_certificate(limit_s)
        if self._snapshot:
            return self._as_snapshots()
        if self._playlist is not None:
            return self._playlist_again()
        capture = self._capture(STREAM_LIMIT_S)
        if self._first is not None:
            whole, first = capture.read()
            if whole and np.array_equal(first, self._first):
                capture.release()
                self._reporter.say(f"{self._name} begins from its first picture again: it is a file, and has ended")
                return None
        return self._as_live(capture)

    def _playlist_again(self) -> FrameSource | None:
        try:
            now = self._look()
        except OSError as error:
            raise MissingError(f"{self._name}: {error}") from None
        if now is None:
            raise MissingError(f"{self._name} is no playlist any more")
        if now.finished:
            return None
        if self._played in (None, now.newest):
            # The segments that are there were played before, or are as old as the outage.
            self._played = now.newest
            raise MissingError(f"{self._name} has nothing new")
        self._played = None
        return self._as_playlist(self._capture(STREAM_LIMIT_S))

    def _check_certificate(self, limit_s: float) -> None:
        if self._by_tls and not self._options.insecure:
            check_certificate(self._url, self._name, min(ASK_LIMIT_S, limit_s))

    def _look(self) -> Playlist | None:
        """Read the playlist, and remember it."""

        def load(address: str) -> str:
            return fetch(address, ASK_LIMIT_S, insecure=self._options.insecure).decode("utf-8", "replace")

        playlist = read_playlist(self._url, load)
        self._playlist = playlist or self._playlist
        return playlist

    def _is_live_playlist(self) -> bool:
        return self._playlist is not None and not self._playlist.finished

    def _as_live(self, capture: cv2.VideoCapture) -> FrameSource:
        refuse_every_frame(self._name, self._options)
        return LiveSource(self._name, capture, self._clock)

    def _as_clip(self, capture: cv2.VideoCapture) -> FrameSource:
        paced = not self._options.every_frame
        return ClipSource(self._name, capture, self._clock, paced=paced, reporter=self._reporter)

    def _as_playlist(self, capture: cv2.VideoCapture) -> FrameSource:
        assert self._playlist is not None
        refuse_every_frame(self._name, self._options)
        return PlaylistSource(self._name, capture, self._clock, self._look, self._playlist.segment_s)

    def _as_snapshots(self) -> FrameSource:
        refuse_every_frame(self._name, self._options)
        self._snapshot = True
        try:
            return SnapshotSource(self._name, self._url, self._clock, self._options)
        except OSError as error:
            raise MissingError(f"{self._name}: {error}") from None
        except UnreadableImageError as error:
            raise MissingError(error.message, "It should be a JPEG or PNG.") from None

    def _capture(self, limit_s: float) -> cv2.VideoCapture:
        capture = self._opened(limit_s)
        if capture is None:
            raise self._refused(self._asked(limit_s))
        return capture

    def _opened(self, limit_s: float) -> cv2.VideoCapture | None:
        open_ms, read_ms = (round(1000 * seconds) for seconds in (min(STREAM_LIMIT_S, limit_s), STREAM_LIMIT_S))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        # With several threads, FFmpeg decodes as many frames at once, and returns each that many frames late.
        limits += [cv2.CAP_PROP_N_THREADS, 1]
        set_tls_options(insecure=self._options.insecure)
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        return capture if capture.isOpened() else None

    def _asked(self, limit_s: float) -> ServerReply:
        if not self._by_http:
            return ServerReply("unknown")
        return ask(self._url, min(ASK_LIMIT_S, limit_s), insecure=self._options.insecure)

    def _refused(self, said: ServerReply) -> MissingError:
        if said.refused:
            return MissingError(f"{self._name}: the server answers {said.refused}", "Check address and password.")
        if said.content_type.startswith("text/"):
            return MissingError(f"{self._name} is a page ({said.content_type}), not video", "Check the address.")
        hint = "Check address, password, and that the sender is running."
        return MissingError(f"{self._name} gives no video", hint)

    def _pace(self, capture: cv2.VideoCapture) -> Pace:
        """The pace of a stream of unknown length. Reads until that is clear; a live stream is then at its newest
        frame.
        """
        times = Timeline(self._name, plausible_fps(capture.get(cv2.CAP_PROP_FPS)))
        # Its pictures have no time stamps; if there is a second one, it is live.
        timeless = fourcc(capture) == "MJPG"
        start_s = window_s = self._clock.now()
        window_time_s = 0.0
        most_ahead_s = 0.0
        while True:
            if not capture.grab():
                if self._first is None:
                    raise MissingError(*undecodable_stream(self._name, fourcc(capture)))
                return "file"
            time_s = times.advance(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            if self._first is None:
                self._first = capture.retrieve()[1]
            elif timeless:
                self._first = None
                return "live"
            now = self._clock.now()
            most_ahead_s = max(most_ahead_s, time_s - (now - start_s))
            if most_ahead_s > MAX_AHEAD_S:
                return "file"
            if now - window_s >= WINDOW_S:
                if time_s - window_time_s < LIVE_RATE * (now - window_s):
                    return "burst" if most_ahead_s > BURST_S else "live"
                window_s, window_time_s = now, time_s
