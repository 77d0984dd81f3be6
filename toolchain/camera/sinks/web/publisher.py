"""The thread between the loop and the viewers: it takes the newest answer and makes it ready to send."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread

import cv2
import numpy as np

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import pretty
from toolchain.camera.frames import BgrImage
from toolchain.system import files
from toolchain.system.masking import masked
from toolchain.system.progress import Reporter

MAX_SIDE = 960
"""Pixels of a picture as viewers get it, at most."""
QUALITY = 80
BOUNDARY = "edgetl-picture"
STREAM_START = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


INTERVAL_S = 1 / 20
"""From one picture to the next, at least."""
HEARTBEAT_S = 1.0
"""Viewers hear something as often as this, so that they know when the server or the network is gone."""
CLOSE_LIMIT_S = 1.0
NOTHING = -1


@dataclass(frozen=True)
class Now:
    """All that can be said of the camera at one moment. `answers` counts from the start of the view.

    `silent_s` is how long ago the last answer came, in seconds.
    """

    answered: Answered | None
    answers: int
    silent_s: float
    state: str
    about: Mapping[str, str]

    def json(self) -> bytes:
        """One line of JSON."""
        document = {
            "answer": _answer(self.answered) if self.answered else None,
            "answers": self.answers,
            "silent_s": round(self.silent_s, 1),
            "state": self.state,
            "about": dict(self.about),
        }
        return files.to_json(document, indent=0).strip()


def _answer(answered: Answered) -> dict[str, object]:
    prediction = answered.prediction
    return {
        "frame": answered.frame.number,
        "time_s": round(answered.frame.time_s, 3),
        "label": pretty(prediction.label),
        "probability": round(prediction.probability, 4),
        "rejected": prediction.rejected,
        "top": [[pretty(label), round(probability, 4)] for label, probability in prediction.top],
        "age_ms": round(answered.age_ms, 1),
        "infer_ms": round(answered.infer_ms, 2),
        "fps": round(answered.fps, 1),
    }


def as_event(line: bytes) -> bytes:
    """One server-sent event with a line of JSON."""
    return b"data: " + line + b"\n\n"


def encode(bgr: BgrImage) -> bytes:
    """JPEG of a picture, made smaller where it is larger than viewers need. The picture stays as it is."""
    height, width = bgr.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError("OpenCV wrote no JPEG")
    return data.tobytes()


def as_part(jpeg: bytes) -> bytes:
    """A picture in a stream that begins with `STREAM_START`.

    Behind it stands the head of the next: browsers show a picture once another begins, so they would be one behind
    if that came with the next.
    """
    return jpeg + b"\r\n" + STREAM_START


@dataclass(frozen=True)
class Published:
    """What is handed on: an event, and a part of the stream of pictures if that is wanted and new."""

    event: bytes
    part: bytes | None


@dataclass(frozen=True)
class _Shown:
    answered: Answered | None = None
    answers: int = 0
    at_s: float = 0.0


class Publisher:
    """Holds the newest answer in a slot; a thread of its own encodes it, once for all viewers, while there are any.

    `hand_on` is called in that thread; it must not wait.
    """

    def __init__(self, about: Mapping[str, str], hand_on: Callable[[Published], None], reporter: Reporter) -> None:
        self._shown = _Shown(at_s=time.monotonic())
        self._about = dict(about)
        self._state = ""
        self._hand_on = hand_on
        self._reporter = reporter
        # Putting never waits for the other thread, as setting an Event may: that takes a lock which both use.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._stopping = Event()
        self._watched = False
        self._pictures = False
        self._encoded = NOTHING
        self._told = False
        self._thread = Thread(target=self._publish, name="web view: pictures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._bell.put(None)
        self._thread.join(CLOSE_LIMIT_S)

    def want(self, *, answers: bool, pictures: bool) -> None:
        """Tell what somebody wants, whenever that changes. While nobody wants a thing, it is not made; who comes
        then gets what is the newest at once, even where no other answer follows.
        """
        self._pictures = pictures
        self._encoded = NOTHING
        self._watched = answers or pictures
        self._ring()

    def show(self, answered: Answered) -> None:
        """Put an answer where the newest lies. Called in the loop's thread: it takes microseconds."""
        self._shown = _Shown(answered, self._shown.answers + 1, time.monotonic())
        self._ring()

    def say(self, state: str) -> None:
        self._state = masked(state)
        self._ring()

    def describe(self, about: Mapping[str, str]) -> None:
        self._about = dict(about)
        self._ring()

    def now(self) -> Now:
        """What there is to say, from any thread."""
        shown = self._shown
        silent_s = time.monotonic() - shown.at_s
        return Now(shown.answered, shown.answers, silent_s, self._state, self._about)

    def _ring(self) -> None:
        if self._watched and self._bell.empty():
            self._bell.put(None)

    def _wait_for_bell(self) -> None:
        with contextlib.suppress(Empty):
            self._bell.get(timeout=HEARTBEAT_S)
            while True:
                self._bell.get_nowait()

    def _publish(self) -> None:
        while not self._stopping.is_set():
            self._wait_for_bell()
            if not self._watched:
                continue
            start = time.monotonic()
            now = self.now()
            part = None
            if self._pictures and now.answered and now.answers != self._encoded:
                self._encoded = now.answers
                part = self._part(now.answered)
            self._hand_on(Published(as_event(now.json()), part))
            self._stopping.wait(max(0.0, start + INTERVAL_S - time.monotonic()))

    def _part(self, answered: Answered) -> bytes | None:
        try:
            return as_part(encode(answered.frame.bgr))
        except Exception as error:  # a picture that cannot be shown is no reason to stop showing answers
            if not self._told:
                self._told = True
                self._reporter.warn(f"the web view cannot show frame {answered.frame.number}: {error}")
            return None
