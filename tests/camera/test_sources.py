"""What a source can be: cameras, streams, pipelines and paths, and clear words for what is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from tests.camera.camera_support import COLOURS, EVERY, all_frames
from tests.clips import HeldClock, colour_of, plain, write_clip
from tests.streams import Stream
from toolchain.camera.frames import BgrImage, SourceLostError
from toolchain.camera.sources.opening import (
    CaptureOptions,
    RequestedFormat,
    camera_index,
    camera_paths,
    camera_settings,
    open_source,
)
from toolchain.camera.sources.video import LiveSource, three_channels
from toolchain.camera.threads import Attempts
from toolchain.errors import BadInputError, EdgetlError, MissingError


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("nope.mp4", BadInputError, "does not exist"),
        ("text.mp4", BadInputError, "not a video"),
        ("empty.mp4", BadInputError, "not a video"),
        ("pages.pdf", BadInputError, r"not a video that can be read \(PDF\)"),
        ("truncated.mp4", BadInputError, "not a video"),
        ("empty", BadInputError, "holds no images"),
        ("gopher://host/x", BadInputError, "unknown kind of stream"),
    ],
)
def test_what_cannot_be_a_source_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[EdgetlError], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("these are words\n" * 100)
    Path("empty.mp4").touch()
    Path("pages.pdf").write_bytes(b"%PDF-1.4")
    whole = write_clip(tmp_path / "whole.mp4", COLOURS).read_bytes()
    Path("truncated.mp4").write_bytes(whole[: len(whole) // 2])
    Path("empty").mkdir()
    with pytest.raises(kind, match=said) as raised:
        open_source(text, CaptureOptions())
    assert raised.value.hint


def test_absent_camera_is_missing_and_the_hint_says_what_works_without() -> None:
    with pytest.raises(MissingError, match="camera 97") as raised:
        open_source("97", CaptureOptions(), open_limit_s=20)
    assert "--source FILE" in raised.value.hint


@pytest.mark.skipif(not hasattr(cv2, "CAP_V4L2") or not Path("/dev").is_dir(), reason="Linux devices")
def test_device_path_is_a_camera() -> None:
    with pytest.raises(MissingError, match="camera 97"):
        open_source("/dev/video97", CaptureOptions())


def test_cameras_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("video10", "video2", "video0", "videodev"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in camera_paths(tmp_path)] == ["video0", "video2", "video10"]


def test_a_device_that_hangs_while_it_is_opened_does_not_hang_us() -> None:
    forever = threading.Event()
    with pytest.raises(MissingError, match="gave no sign"):
        Attempts().within(0.05, forever.wait, "camera 0")
    forever.set()


def test_passwords_are_not_shown() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        port = unused.getsockname()[1]
        with pytest.raises(MissingError) as raised:
            open_source(f"rtsp://me:secret@127.0.0.1:{port}/x", CaptureOptions())
    assert "secret" not in raised.value.message + raised.value.hint


@pytest.fixture
def stream() -> Iterator[Stream]:
    with Stream(lambda number: plain(COLOURS[number % 12]), fps=100) as served:
        yield served


def test_stream_that_breaks_off_is_lost_not_ended(stream: Stream) -> None:
    source = open_source(stream.url, CaptureOptions())
    frames = [source.read() for _ in COLOURS]
    colours = [colour_of(frame.bgr) for frame in frames if frame]
    assert colours in [(COLOURS * 2)[first : first + 12] for first in range(12)], "each of them, in order"
    assert source.live
    assert source.given.startswith("64 x 48")
    stream.cut()
    with pytest.raises(SourceLostError):
        all_frames(source)
    source.close()


def test_frames_that_cannot_be_decoded_are_passed_over() -> None:
    def picture(number: int) -> object:
        return b"\xff\xd8 no picture \xff\xd9" if number % 4 == 3 else plain("red")

    with Stream(picture, fps=100) as stream:
        source = open_source(stream.url, CaptureOptions())
        frames = [source.read() for _ in range(20)]
        assert all(frame is not None and colour_of(frame.bgr) == "red" for frame in frames)
        source.close()


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_frames_of_16_bits_become_eight(channels: int | None) -> None:
    """As GStreamer gives GRAY16, and OpenCV some pictures."""
    eight = np.random.default_rng(0).integers(0, 256, (48, 64, channels or 1), np.uint8)
    found = three_channels((257 * eight.astype(np.uint16)).reshape((48, 64, channels) if channels else (48, 64)))
    assert found.dtype == np.uint8
    assert (found == (eight[..., :3] if channels in {3, 4} else eight)).all()
    assert found.shape == (48, 64, 3)


def test_stream_that_changes_its_size_goes_on() -> None:
    with Stream(lambda number: plain("blue", *((48, 64) if number < 10 else (120, 90))), fps=100) as stream:
        source = open_source(stream.url, CaptureOptions())
        frames = [source.read() for _ in range(30)]
        source.close()
    assert all(frame is not None and colour_of(frame.bgr) == "blue" for frame in frames)


def test_live_stream_cannot_be_read_as_fast_as_possible(stream: Stream) -> None:
    with pytest.raises(BadInputError, match="as fast as possible"):
        open_source(stream.url, EVERY)


class _Driver:
    """A capture of OpenCV whose driver notes when frames were taken, by a clock of its own."""

    def __init__(self, noted_ms: float) -> None:
        self._noted_ms = noted_ms

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, BgrImage]:
        return True, plain("red")

    def get(self, code: int) -> float:
        return {cv2.CAP_PROP_POS_MSEC: self._noted_ms, cv2.CAP_PROP_FPS: 30.0}.get(code, 0.0)


@pytest.mark.parametrize(("noted_s", "captured_s"), [(99.98, 99.98), (100.5, 100), (0, 100), (1.7e9, 100)])
def test_the_drivers_time_stamp_is_taken_where_it_can_be_true(noted_s: float, captured_s: float) -> None:
    source = LiveSource("camera 0", _Driver(1000 * noted_s), HeldClock(), driver_times=True)
    frame = source.read()
    assert frame is not None
    assert frame.captured_s == pytest.approx(captured_s)


def test_cameras_are_asked_for_compressed_frames_where_others_do_not_fit() -> None:
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    assert cv2.CAP_PROP_FOURCC not in camera_settings(RequestedFormat((640, 480)))
    large = camera_settings(RequestedFormat((1280, 720), 30))
    assert (large[cv2.CAP_PROP_FRAME_WIDTH], large[cv2.CAP_PROP_FRAME_HEIGHT]) == (1280, 720)
    assert (large[cv2.CAP_PROP_FPS], large[cv2.CAP_PROP_FOURCC]) == (30, mjpg)
    assert list(large).index(cv2.CAP_PROP_FOURCC) < list(large).index(cv2.CAP_PROP_FRAME_WIDTH), "V4L2 wants it so"
    assert camera_settings(RequestedFormat(fps=60))[cv2.CAP_PROP_FOURCC] == mjpg
    yuyv = camera_settings(RequestedFormat((1280, 720), pixel_format="YUYV"))
    assert yuyv[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")


def test_a_path_that_leads_to_a_camera_is_that_camera(tmp_path: Path) -> None:
    assert camera_index("3") == 3
    assert camera_index("/dev/video12") == 12
    assert camera_index("/dev/null") is None
    assert camera_index(str(tmp_path)) is None


def test_a_pipeline_needs_an_opencv_with_gstreamer() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        source = open_source("videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink", CaptureOptions())
        assert source.read() is not None
    else:
        with pytest.raises(MissingError, match="without GStreamer"):
            open_source("videotestsrc ! videoconvert ! appsink", CaptureOptions())


def test_an_attempt_that_hangs_is_waited_for_and_not_doubled() -> None:
    released, calls = threading.Event(), []

    def attempt() -> str:
        calls.append(1)
        released.wait(10)
        return "opened"

    attempts = Attempts()
    with pytest.raises(MissingError):
        attempts.within(0.05, attempt, "camera 1")
    # Another camera may be called alike: two channels of one recorder differ in what is not shown of addresses.
    assert Attempts().within(5, lambda: "the other", "camera 1") == "the other"
    released.set()
    assert attempts.within(5, attempt, "camera 1") == "opened"
    assert len(calls) == 1


def test_a_camera_by_its_id_that_was_pulled_out_is_missing_not_a_mistake() -> None:
    with pytest.raises(MissingError, match="is not there"):
        open_source("/dev/v4l/by-id/usb-Somebody_Camera-video-index0", CaptureOptions())


@pytest.mark.parametrize("name", ["Noël ! video.mp4", "in [b] x/a%20b #1?.mp4", "http:.mp4", "a://b.mp4", "0.mp4"])
def test_what_exists_as_a_path_is_that_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(tmp_path / "plain.mp4", COLOURS[:2]).rename(path)
    for text in (name, f"file://{quote(str(path))}", f"file://localhost{quote(str(path))}"):
        source = open_source(text, EVERY)
        assert not source.live
        assert len(all_frames(source)) == 2


def test_a_file_url_of_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        open_source(f"file://{tmp_path}/nope.mp4", CaptureOptions())
    with pytest.raises(BadInputError, match="another machine"):
        open_source("file://elsewhere/nope.mp4", CaptureOptions())


"""Runs in a process of its own: SVT-AV1 turns the process that encodes into one of real time, and leaves it so."""


def test_a_source_without_a_name_is_no_source() -> None:
    """An unset variable of the shell would mean the folder that one is in."""
    with pytest.raises(BadInputError, match="is empty"):
        open_source(" ", CaptureOptions())


@pytest.mark.parametrize(
    "url", ["https://me:S3cret/1@cam/video", "rtsps://me:S3cret#@cam/x", "rtsps://cam:99999/x"]
)
def test_a_port_that_is_none_is_told_without_what_may_be_a_password(url: str) -> None:
    with pytest.raises(BadInputError, match="its port is no number from 0 to 65535") as raised:
        open_source(url, CaptureOptions())
    assert "S3cret" not in raised.value.message
    assert "%2F" in raised.value.hint
