"""A frame, and what gives frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import MissingError

CABLE = "Check cable, power and network."
"""What to look at where a camera or stream gives nothing."""
DISK = "Look at the disk or server that it lies on."
"""What to look at where a file does not come."""

BgrImage = NDArray[np.uint8]
"""uint8 [height, width, 3], BGR: as OpenCV captures, draws and writes it."""

USUAL_FPS = 30.0
"""Where a source does not say how many frames it has in a second."""


@dataclass(frozen=True)
class Frame:
    """One picture. `number` counts the source's frames from 0, those that nobody looked at included.

    `captured_s` is the moment of capture by the clock; `time_s` counts from the first frame, in the clip's own
    time where it is a file.
    """

    number: int
    bgr: BgrImage
    captured_s: float
    time_s: float


class SourceLostError(MissingError):
    """A camera or stream that gave frames and gives none any more. Exit code 3."""


class UndecodableError(SourceLostError):
    """A camera or stream that sends something, and never gave a frame."""


class FrameSource(Protocol):
    """A camera, a clip, a stream or a folder. `read` and `close` are called from one thread, `stop` from any."""

    name: str
    """As a person knows it; without the password of a stream."""
    fps: float
    """Frames in a second when all is well."""
    given: str
    """What it gives, in a few words: size, rate, format."""
    live: bool
    """Whether it shows the present and should never end: a camera or a stream."""
    patience_s: float
    """Seconds for which it may give nothing when all is well."""
    remedy: str
    """What to look at when it gives nothing."""

    @property
    def resting(self) -> bool:
        """Whether `read` waits for the moment of a frame that it has, and not for the source."""

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end. Raises SourceLostError when it should have gone on."""

    def stop(self) -> None:
        """Make a `read` that waits come back soon, with None."""

    def close(self) -> None:
        """Give the device or file back."""
