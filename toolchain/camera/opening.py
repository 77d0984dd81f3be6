"""From the words after `--source` to a source that has given its first sign of life."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TypeVar

import cv2

from toolchain.camera.frames import FrameSource
from toolchain.camera.pacing import SYSTEM_CLOCK, Clock
from toolchain.camera.sources import ClipSource, ImagesSource, LiveSource
from toolchain.datasets.folder import is_photograph
from toolchain.errors import BadInputError, MissingError
from toolchain.progress import Reporter, Silent

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
OPEN_LIMIT_S = 20.0
STREAM_LIMIT_MS = 10_000
"""How long FFmpeg waits for a stream to open, and for each piece of it."""

_Opened = TypeVar("_Opened")


@dataclass(frozen=True)
class Manner:
    """How frames are taken. `every_frame`: a file is not paced, and each of its frames comes."""

    every_frame: bool = False
    seconds_per_image: float = 2.0


def open_source(
    text: str,
    manner: Manner,
    *,
    clock: Clock = SYSTEM_CLOCK,
    reporter: Reporter | None = None,
    open_limit_s: float = OPEN_LIMIT_S,
) -> FrameSource:
    """Open a camera by number or device path, a video file, an image, a folder of images, or a stream by URL.

    Raises BadInputError for what does not exist or holds no pictures, MissingError for a camera or stream that does
    not answer within `open_limit_s`.
    """
    if text.isdecimal():
        return _open_camera(int(text), manner, clock, open_limit_s)
    if match := re.fullmatch(r"/dev/video(\d+)", text):
        return _open_camera(int(match[1]), manner, clock, open_limit_s)
    if "://" in text:
        return _open_stream(text, manner, clock, open_limit_s)
    return _open_path(Path(text), manner, clock, reporter or Silent())


def camera_paths(devices: Path = Path("/dev")) -> list[str]:
    """The cameras that Linux lists."""
    found = (path for path in devices.glob("video*") if path.name[5:].isdecimal())
    return [str(path) for path in sorted(found, key=lambda path: int(path.name[5:]))]


def without_password(url: str) -> str:
    """`rtsp://user:secret@host/path` as `rtsp://host/path`: names of sources end in logs."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def _open_camera(index: int, manner: Manner, clock: Clock, limit_s: float) -> FrameSource:
    name = f"camera {index}"
    if manner.every_frame:
        raise BadInputError(f"{name} cannot be read as fast as possible", "A camera gives frames at its own rate.")
    device = f"/dev/video{index}"
    if sys.platform == "linux":
        if not Path(device).exists():
            raise MissingError(f"{name} is not there: no {device}", _camera_hint())
        if not os.access(device, os.R_OK | os.W_OK):
            raise MissingError(
                f"no permission to use {device}",
                "Add yourself to the group `video` (sudo usermod -aG video $USER) and log in again.",
            )

    def attempt() -> cv2.VideoCapture | None:
        capture = cv2.VideoCapture(index, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        # A longer buffer would hand out the past whenever inference is slower than the camera.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture if capture.isOpened() and capture.grab() else None

    capture = _within(limit_s, attempt, name)
    if capture is None:
        raise MissingError(f"{name} gives no picture; another program may be using it", _camera_hint())
    return LiveSource(name, capture, clock)


def _camera_hint() -> str:
    found = camera_paths()
    listed = f"Cameras here: {', '.join(found)}." if found else "Connect a camera."
    return f"{listed} Without one: --source FILE|URL|FOLDER."


def _open_stream(url: str, manner: Manner, clock: Clock, limit_s: float) -> FrameSource:
    name = without_password(url)
    if url.partition("://")[0].lower() not in SCHEMES:
        raise BadInputError(f"{name}: unknown kind of stream", f"Known are: {', '.join(SCHEMES)}.")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_LIMIT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_LIMIT_MS]
    capture = _within(limit_s, lambda: cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits), name)
    if not capture.isOpened():
        raise MissingError(f"{name} gives no video", "Check the address, and that the sender is running.")
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a file on a server, not a live stream
        return ClipSource(name, capture, clock, paced=not manner.every_frame)
    if manner.every_frame:
        raise BadInputError(f"{name} cannot be read as fast as possible", "A stream gives frames at its own rate.")
    return LiveSource(name, capture, clock)


def _open_path(path: Path, manner: Manner, clock: Clock, reporter: Reporter) -> FrameSource:
    if path.is_dir() or (path.is_file() and is_photograph(path.name)):
        images = [path] if path.is_file() else _images_in(path)
        return ImagesSource(
            str(path),
            images,
            clock,
            seconds_per_image=manner.seconds_per_image,
            paced=not manner.every_frame,
            reporter=reporter,
        )
    if not path.exists():
        raise BadInputError(f"{path} does not exist", "--source takes a camera's number, FILE, URL or FOLDER.")
    if not path.is_file():
        raise BadInputError(f"{path} is neither a file nor a folder", "A camera goes by its number: --source 0.")
    if not os.access(path, os.R_OK):
        raise BadInputError(f"{path}: no permission to read it")
    # An absolute path: FFmpeg takes what stands before a colon for a protocol.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise BadInputError(f"{path} is not a video that can be read", "Convert it to MP4 (H.264).")
    return ClipSource(str(path), capture, clock, paced=not manner.every_frame)


def _images_in(folder: Path) -> list[Path]:
    images = sorted(entry for entry in folder.iterdir() if entry.is_file() and is_photograph(entry.name))
    if not images:
        raise BadInputError(f"{folder} holds no images", "Put JPEG, PNG or WebP files directly into it.")
    return images


def _within(limit_s: float, attempt: Callable[[], _Opened], name: str) -> _Opened:
    """Run `attempt` in a thread of its own: a broken camera or a silent server may hang whoever opens it."""
    opened: Future[_Opened] = Future()

    def open_it() -> None:
        try:
            opened.set_result(attempt())
        except Exception as error:
            opened.set_exception(error)

    Thread(target=open_it, name=f"open {name}", daemon=True).start()
    try:
        return opened.result(limit_s)
    except FutureTimeoutError:
        raise MissingError(f"{name} gave no sign within {limit_s:g} s", "Check cable, power and network.") from None
