"""From the text after `--source` to an open source."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2

from toolchain.camera.frames import SYSTEM_CLOCK, Clock, FrameSource
from toolchain.camera.frames import CaptureOptions as CaptureOptions
from toolchain.camera.frames import RequestedFormat as RequestedFormat
from toolchain.camera.sources.images import ImagesSource
from toolchain.camera.sources.streams import Stream
from toolchain.camera.sources.video import ClipSource, LiveSource, refuse_every_frame
from toolchain.camera.threads import Attempts
from toolchain.datasets import scan
from toolchain.datasets.index import describe_left_out
from toolchain.errors import BadInputError, MissingError
from toolchain.system import files
from toolchain.system.masking import masked, shown
from toolchain.system.progress import Reporter, Silent

OPEN_LIMIT_S = 20.0

KINDS = "a camera's number, FILE, URL or FOLDER."
PIPE = " ! "
"""Joins the elements of a GStreamer pipeline."""

CAMERA_BACKENDS: dict[str, tuple[int, ...]] = {
    "linux": (cv2.CAP_V4L2,),
    "darwin": (cv2.CAP_AVFOUNDATION,),
    "win32": (cv2.CAP_MSMF, cv2.CAP_DSHOW),
}


def open_source(
    text: str,
    options: CaptureOptions,
    *,
    clock: Clock = SYSTEM_CLOCK,
    reporter: Reporter | None = None,
    open_limit_s: float = OPEN_LIMIT_S,
) -> FrameSource:
    """Open a camera by number or device path, a video file, an image, a folder of images, a stream by URL, or a
    GStreamer pipeline (`v4l2src ! videoconvert ! appsink`). A text that exists as a path is that path.

    Raises BadInputError if it does not exist or holds no pictures, MissingError if a camera or stream does not
    answer within `open_limit_s`.
    """
    return Opener(text, options, clock=clock, reporter=reporter).open(open_limit_s)


class Opener:
    """Opens the source that `text` names, and opens it again after it was lost.

    Raises BadInputError if `text` can only be a path and does not exist.
    """

    def __init__(
        self, text: str, options: CaptureOptions, *, clock: Clock = SYSTEM_CLOCK, reporter: Reporter | None = None
    ) -> None:
        if not text.strip():
            raise BadInputError("--source is empty", f"It takes {KINDS}")
        is_other = text.startswith("/dev/") or "://" in text or PIPE in text or text.lower().startswith("file:")
        if camera_index(text) is None and not is_other and not _exists(text):
            raise BadInputError(f"{masked(text)} does not exist", f"--source takes {KINDS}")
        self._text = text
        self._options = options
        self._clock = clock
        self._reporter = reporter or Silent()
        self._stream: Stream | None = None
        self._attempts = Attempts()

    def open(self, limit_s: float = OPEN_LIMIT_S) -> FrameSource:
        """See `open_source`."""
        text = self._text
        if (index := camera_index(text)) is not None:
            return self._open_camera(index, limit_s)
        if _exists(text):
            return self._open_path(Path(text))
        if text.startswith("/dev/"):
            raise MissingError(f"{text} is not there", _camera_hint())  # a camera by its id, which is unplugged
        if text.lower().startswith("file:"):
            return self._open_path(_path_of(_checked(text)))
        if PIPE in text:
            return self._open_pipeline(limit_s)
        if "://" not in text:
            return self._open_path(Path(text))
        name = shown(_checked(text))
        stream = Stream(text, name, self._clock, self._reporter, options=self._options)
        source = self._attempts.within(limit_s, lambda: stream.open(limit_s), name)
        self._stream = stream
        return source

    def again(self, limit_s: float) -> FrameSource | None:
        """Open it again; None if it turns out that it had ended."""
        if self._stream is None:
            return self.open(limit_s)
        return self._attempts.within(limit_s, partial(self._stream.again, limit_s), shown(self._text))

    def _open_camera(self, index: int, limit_s: float) -> FrameSource:
        name = f"camera {index}"
        refuse_every_frame(name, self._options)
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
            for backend in CAMERA_BACKENDS.get(sys.platform, (cv2.CAP_ANY,)):
                capture = cv2.VideoCapture(index, backend)
                # One after another: if the camera cannot do one, it still does the others.
                for parameter, value in camera_settings(self._options.requested).items():
                    capture.set(parameter, value)
                if capture.isOpened() and capture.grab():
                    return capture
                capture.release()
            return None

        capture = self._attempts.within(limit_s, attempt, name)
        if capture is None:
            raise MissingError(f"{name} gives no picture; another program may be using it", _camera_hint())
        return LiveSource(name, capture, self._clock, driver_times=sys.platform == "linux")

    def _open_pipeline(self, limit_s: float) -> FrameSource:
        text = self._text
        name = shown(text)
        refuse_every_frame(name, self._options)
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise MissingError(
                f"this OpenCV {cv2.__version__} was built without GStreamer",
                "Debian's python3-opencv has it, and so has OpenCV built from source; pip's has not.",
            )
        capture = self._attempts.within(limit_s, lambda: cv2.VideoCapture(text, cv2.CAP_GSTREAMER), name)
        if not capture.isOpened():
            raise MissingError(f"{name} gives no video", "Try it with gst-launch-1.0; it must end in appsink.")
        return LiveSource(name, capture, self._clock)

    def _open_path(self, path: Path) -> FrameSource:
        other = scan.reject_reason(path) if path.is_file() else ""
        if path.is_dir() or (path.is_file() and not other):
            images = [path] if path.is_file() else self._images_in(path)
            return ImagesSource(
                str(path),
                images,
                self._clock,
                seconds_per_image=self._options.seconds_per_image,
                paced=not self._options.every_frame,
                reporter=self._reporter,
            )
        if not path.exists():
            raise BadInputError(f"{masked(str(path))} does not exist", f"--source takes {KINDS}")
        if not path.is_file():
            raise BadInputError(
                f"{path} is neither a file nor a folder", "A camera goes by its number: --source 0."
            )
        if not os.access(path, os.R_OK):
            raise BadInputError(f"{path}: no permission to read it")
        # An absolute path, since FFmpeg takes text before a colon for a protocol.
        with files.encodable(path.absolute()) as named:
            capture = cv2.VideoCapture(str(named), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise BadInputError(f"{path} is not a video that can be read ({other})", "Convert it to MP4 (H.264).")
        paced = not self._options.every_frame
        return ClipSource(str(path), capture, self._clock, paced=paced, reporter=self._reporter, path=path)

    def _images_in(self, folder: Path) -> list[Path]:
        found = scan.find_photographs(folder)
        left_out = describe_left_out(found.left_out)
        if not found.photographs:
            raise BadInputError(
                "; ".join((f"{folder} holds no images", *left_out)), "Put JPEG, PNG or WebP files into it."
            )
        for line in left_out:
            self._reporter.warn(f"{folder}: {line}")
        return list(found.photographs)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # not a valid path
        return False


def _checked(url: str) -> str:
    """`url` itself. Raises BadInputError for an invalid address, such as `http://[::zz]/` or `http://cam:port/`."""
    try:
        place = urlsplit(url)
    except ValueError:
        raise BadInputError(
            f"{shown(url)} is no address: what is in brackets is none of IPv6",
            "Name it as in rtsp://HOST/PATH; signs of a password are written %5B and %5D.",
        ) from None
    try:
        place.port  # noqa: B018 - which is looked at only now
    except ValueError:
        raise BadInputError(
            f"{shown(url)} is no address: its port is no number from 0 to 65535",
            "Name it as in rtsp://HOST:554/PATH; the signs / ? # of a password are written %2F, %3F and %23.",
        ) from None
    return url


def _path_of(url: str) -> Path:
    """The path of `file:///folder/a%20clip.mp4`."""
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise BadInputError(f"{url}: a file on another machine", "Name it by a path, or by http://.")
    # `?` and `#` belong to the name, since no server interprets them.
    return Path(url2pathname(url[url.index(":") + 1 :].removeprefix("//").removeprefix("localhost")))


def camera_index(text: str) -> int | None:
    """The number of the camera that `text` names, directly or by a path such as `/dev/v4l/by-id/...`."""
    if text.isdecimal():
        return int(text)
    if text.startswith("/dev/") and (match := re.fullmatch(r"/dev/video(\d+)", os.path.realpath(text))):
        return int(match[1])
    return None


def camera_paths(devices: Path = Path("/dev")) -> list[str]:
    """The cameras that Linux lists."""
    found = (path for path in devices.glob("video*") if path.name[5:].isdecimal())
    return [str(path) for path in sorted(found, key=lambda path: int(path.name[5:]))]


def camera_settings(requested: RequestedFormat) -> dict[int, float]:
    """OpenCV's parameters and their values, in the order in which drivers want them.

    Frames of more than 640 x 480 pixels at 30 per second do not fit through USB 2 unless compressed: MJPG.
    """
    code = requested.pixel_format
    width, height = requested.size or (None, None)
    if code is None and ((width or 0) > 640 or (height or 0) > 480 or (requested.fps or 0) > 30):
        code = "MJPG"
    # Two buffers: one for the driver, one for us. With more, frames are old whenever reading is late; with one, the
    # driver has none to fill while a frame is decoded.
    settings: dict[int, float] = {cv2.CAP_PROP_BUFFERSIZE: 2}
    if code is not None:
        settings[cv2.CAP_PROP_FOURCC] = cv2.VideoWriter.fourcc(*code)
    wanted = {
        cv2.CAP_PROP_FRAME_WIDTH: width,
        cv2.CAP_PROP_FRAME_HEIGHT: height,
        cv2.CAP_PROP_FPS: requested.fps,
    }
    return settings | {parameter: value for parameter, value in wanted.items() if value is not None}


def _camera_hint() -> str:
    found = camera_paths()
    listed = f"Cameras here: {', '.join(found)}." if found else "Connect a camera."
    return f"{listed} Without one: --source FILE|URL|FOLDER."
