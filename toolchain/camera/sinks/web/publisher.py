"""The thread between the loop and the viewers: it encodes the newest answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread

import cv2
import numpy as np

from toolchain.camera.answering import Answered, RegionAnswer, pretty
from toolchain.camera.frames import BgrImage
from toolchain.system import files
from toolchain.system.masking import masked
from toolchain.system.progress import Reporter

MAX_SIDE = 960
"""The longest side of a picture for viewers, in pixels."""
QUALITY = 80
BOUNDARY = "edgetl-picture"
STREAM_START = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()

INTERVAL_S = 1 / 20
"""The least time between two pictures."""
HEARTBEAT_S = 1.0
"""Viewers get an event at least this often, so that they notice when the server or the network is gone."""
CLOSE_LIMIT_S = 1.0
NOTHING = -1


@dataclass(frozen=True)
class Now:
    """The state of the camera at one moment. `answers` counts from the start of the view; `silent_s` is how many
    seconds ago the last answer came.
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
    } | ({"regions": [_region(one, answered.frame.bgr) for one in answered.regions]} if answered.regions else {})


def _region(one: RegionAnswer, bgr: BgrImage) -> dict[str, object]:
    """A region with its place in the picture: left, top, width and height in percent."""
    height, width = bgr.shape[:2]
    left, top, right, bottom = one.box
    place = (left / width, top / height, (right - left) / width, (bottom - top) / height)
    prediction = one.prediction
    return {
        "name": one.name,
        "place": [round(100 * share, 2) for share in place],
        "label": pretty(prediction.label),
        "probability": round(prediction.probability, 4),
        "rejected": prediction.rejected,
    }


def encode(bgr: BgrImage) -> bytes:
    """JPEG of a picture, scaled down if it is larger than viewers need. The picture stays as it is."""
    height, width = bgr.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError("OpenCV wrote no JPEG")
    return data.tobytes()


@dataclass(frozen=True)
class Published:
    """A server-sent event with a line of JSON, and a part of the stream of pictures if that is wanted and new."""

    event: bytes
    part: bytes | None


@dataclass(frozen=True)
class _Shown:
    answered: Answered | None = None
    answers: int = 0
    at_s: float = 0.0


class Publisher:
    """Keeps the newest answer. While there are viewers, a thread of its own encodes it, once for all of them.

    `hand_on` is called in that thread and must not wait.
    """

    def __init__(self, about: Mapping[str, str], hand_on: Callable[[Published], None], reporter: Reporter) -> None:
        self._shown = _Shown(at_s=time.monotonic())
        self._about = dict(about)
        self._state = ""
        self._hand_on = hand_on
        self._reporter = reporter
        # Setting an Event may wait for a lock that both threads use. Putting into a SimpleQueue never waits.
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
        """Set what viewers want, whenever that changes; nothing else is encoded. A new viewer gets the newest at
        once, even if no other answer follows.
        """
        self._pictures = pictures
        self._encoded = NOTHING
        self._watched = answers or pictures
        self._ring()

    def show(self, answered: Answered) -> None:
        """Replace the newest answer. Called in the thread that answers; takes microseconds."""
        self._shown = _Shown(answered, self._shown.answers + 1, time.monotonic())
        self._state = ""
        self._ring()

    def say(self, state: str) -> None:
        """Set why there is no new answer. Called often."""
        if state != self._state:
            self._state = state
            self._ring()

    def now(self) -> Now:
        """The state of the camera. May be called from any thread."""
        shown = self._shown
        silent_s = time.monotonic() - shown.at_s
        network = shown.answered.network if shown.answered else ""
        about = self._about | {"device": network} if network else self._about
        return Now(shown.answered, shown.answers, silent_s, masked(self._state), about)

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
            self._hand_on(Published(b"data: " + now.json() + b"\n\n", part))
            self._stopping.wait(max(0.0, start + INTERVAL_S - time.monotonic()))

    def _part(self, answered: Answered) -> bytes | None:
        try:
            # The head of the next part follows at once: browsers show a picture only when the next part begins, and
            # would otherwise be one picture behind.
            return encode(answered.frame.bgr) + b"\r\n" + STREAM_START
        except Exception as error:  # the answers go on without this picture
            if not self._told:
                self._told = True
                self._reporter.warn(f"the web view cannot show frame {answered.frame.number}: {error}")
            return None
