"""What viewers are sent: the newest answer as JSON, and its picture as JPEG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import pretty
from toolchain.camera.frames import BgrImage
from toolchain.system import files

MAX_SIDE = 960
"""Pixels of a picture as viewers get it, at most."""
QUALITY = 80
BOUNDARY = "edgetl-picture"
STREAM_START = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


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
