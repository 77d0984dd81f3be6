"""A video file of constant rate, whatever the rate of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2

from toolchain import files
from toolchain.camera.frames import USUAL_FPS, BgrImage
from toolchain.errors import BadInputError

SLOWEST_FPS = 5.0
"""Slower sources, such as a folder of images, are recorded at the usual rate: players stumble over slower ones."""
LONGEST_GAP_S = 60.0
"""A longer gap (the loop was paused) is shortened to this in the recording."""


class Recorder:
    """Writes pictures, each for as long as it was seen: they are repeated or left out to keep real time.

    All pictures have the size of the first, even in both directions.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fps = self._source_fps = USUAL_FPS
        self._writer: cv2.VideoWriter | None = None
        self._picture: BgrImage | None = None
        self._time_s = 0.0
        self._cut_s = 0.0
        self.frames = 0
        """Frames written so far."""

    def begin(self, source_fps: float) -> None:
        """Say at which rate pictures are going to come, before the first one."""
        self._source_fps = source_fps
        self._fps = source_fps if source_fps >= SLOWEST_FPS else USUAL_FPS

    def show(self, picture: BgrImage, time_s: float) -> None:
        """Record `picture` as what was seen from `time_s` on. Raises BadInputError if no video can be written."""
        if self._writer is None:
            self._open(picture)
            self._cut_s = time_s
        else:
            gap_s = time_s - self._cut_s - self.frames / self._fps
            self._cut_s += max(0.0, gap_s - LONGEST_GAP_S)
            self._repeat_until(time_s)
        self._picture = picture.copy()
        self._time_s = time_s

    def idle(self) -> None:
        pass

    def close(self) -> None:
        """Let the last picture stand as long as one of the source's, and end the file.

        Raises BadInputError if the file is not a whole video.
        """
        if self._writer is None:
            return
        self._repeat_until(self._time_s + 1 / self._source_fps)
        self._writer.release()
        self._writer = None
        # OpenCV says nothing when the disk is full; what cannot be opened was not recorded.
        written = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        whole = written.isOpened()
        written.release()
        if not whole:
            raise BadInputError("the recording could not be written to its end", "Is the disk full?")

    def _open(self, picture: BgrImage) -> None:
        height, width = picture.shape[:2]
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, codec, self._fps, (width, height))
        if not self._writer.isOpened():
            raise BadInputError("this OpenCV cannot write MP4 videos", "Install opencv-python-headless.")

    def _repeat_until(self, time_s: float) -> None:
        """Write the picture for each frame whose moment lies before `time_s`."""
        assert self._writer is not None
        assert self._picture is not None
        wanted = round((time_s - self._cut_s) * self._fps)
        while self.frames < wanted:
            self._writer.write(self._picture)
            self.frames += 1


@contextmanager
def recording(path: Path) -> Iterator[Recorder]:
    """A recorder whose file appears as `path` when the block ends, however it ends; no file if there is no picture.

    Raises BadInputError at once when `path` cannot be written.
    """
    if path.suffix.lower() != ".mp4":
        raise BadInputError(f"{path}: recordings are MP4 files", "Give it a name that ends in .mp4.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder", "Name a file: --record FILE.mp4.")
    failure: BaseException | None = None
    with suppress(_NothingRecorded), ExitStack() as stack:
        try:
            beside = stack.enter_context(files.replaced(path))
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None
        recorder = Recorder(beside)
        try:
            yield recorder
        except BaseException as error:  # what was recorded up to here is worth keeping
            failure = error
        recorder.close()
        if not recorder.frames:
            raise _NothingRecorded
    if failure is not None:
        raise failure


class _NothingRecorded(Exception):  # noqa: N818 - not an error: it leaves `files.replaced` without a file
    pass
