"""What the sources give: every frame in its time, and clear words for what gives none."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest
from PIL import Image

from tests.clips import HeldClock, colour_of, plain, write_clip
from tests.datasets.datasets_support import Remembering
from tests.streams import Stream
from toolchain.camera.frames import BgrImage, Frame, FrameSource, SourceLostError, Timeline
from toolchain.camera.sources.opening import (
    CaptureOptions,
    Wish,
    camera_index,
    camera_paths,
    camera_settings,
    open_source,
)
from toolchain.camera.sources.video import LiveSource, plausible_fps, undecodable, undecodable_stream
from toolchain.camera.threads import within
from toolchain.errors import BadInputError, EdgetlError, MissingError

COLOURS = ["red"] * 4 + ["green"] * 4 + ["blue"] * 4
EVERY = CaptureOptions(every_frame=True)


def _all(source: FrameSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_clip_gives_every_frame_in_order_when_it_is_not_paced(tmp_path: Path) -> None:
    clock = HeldClock()
    source = open_source(str(write_clip(tmp_path / "clip.mp4", COLOURS)), EVERY, clock=clock)
    frames = _all(source)
    assert source.fps == pytest.approx(30)
    assert [frame.number for frame in frames] == list(range(12))
    assert [colour_of(frame.bgr) for frame in frames] == COLOURS
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(12)])
    assert clock.now() == 100, "nobody waited"


def test_paced_clip_gives_each_frame_at_its_moment(tmp_path: Path) -> None:
    clock = HeldClock()
    frames = _all(
        open_source(str(write_clip(tmp_path / "clip.mp4", COLOURS, fps=10)), CaptureOptions(), clock=clock)
    )
    assert [frame.captured_s for frame in frames] == pytest.approx([100 + number / 10 for number in range(12)])


def test_paced_clip_skips_what_is_late_but_never_its_last_frame(tmp_path: Path) -> None:
    clock = HeldClock()
    source = open_source(str(write_clip(tmp_path / "clip.mp4", COLOURS, fps=10)), CaptureOptions(), clock=clock)
    assert source.read() is not None
    clock.time_s += 0.45
    frame = source.read()
    assert frame is not None
    assert frame.number in {4, 5}
    assert clock.now() - frame.captured_s <= 0.1
    clock.time_s += 0.5
    assert [frame.number for frame in _all(source)][-1] == 11


def test_clip_goes_on_from_where_it_is_when_the_machine_cannot_follow(tmp_path: Path) -> None:
    """After a sleep of the machine, the clip is neither raced through nor are its frames called old."""
    clock = HeldClock()
    source = open_source(str(write_clip(tmp_path / "clip.mp4", COLOURS * 2, fps=10)), CaptureOptions(), clock=clock)
    assert source.read() is not None
    clock.time_s += 3600
    frame = source.read()
    assert frame is not None
    assert frame.number < 12
    assert frame.captured_s == pytest.approx(3700)


def test_stop_ends_a_wait(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    source = open_source(str(tmp_path), CaptureOptions(seconds_per_image=1000))
    assert source.read() is not None
    threading.Timer(0.05, source.stop).start()
    assert source.read() is None


@pytest.mark.parametrize("claimed", [0.0, float("nan"), -1.0, 90_000.0, float("inf")])
def test_impossible_frame_rates_are_not_believed(claimed: float) -> None:
    assert plausible_fps(claimed) == 30


def write_images(folder: Path, count: int) -> None:
    for number, colour in zip(range(count), ("red", "green", "blue"), strict=False):
        cv2.imwrite(str(folder / f"{number}.png"), plain(colour))


def test_folder_of_images_is_shown_one_by_one(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("no image")
    clock = HeldClock()
    frames = _all(open_source(str(tmp_path), CaptureOptions(seconds_per_image=2), clock=clock))
    assert [colour_of(frame.bgr) for frame in frames] == ["red", "green", "blue"]
    assert [frame.captured_s for frame in frames] == [100, 102, 104]
    assert clock.now() == 106, "the last image is shown as long as the others"


def test_images_are_told_by_their_content_and_what_is_none_is_said(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "0.png").rename(tmp_path / "0")
    (tmp_path / "1.png").rename(tmp_path / "1.JPE")
    (tmp_path / "more" / "@eaDir").mkdir(parents=True)
    (tmp_path / "2.png").rename(tmp_path / "more" / "2.png.1")
    (tmp_path / "more" / "@eaDir" / "thumb.jpg").write_bytes(b"a thumbnail")
    (tmp_path / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    reporter = Remembering()
    frames = _all(open_source(str(tmp_path), EVERY, reporter=reporter))
    assert [colour_of(frame.bgr) for frame in frames] == ["red", "green", "blue"]
    assert reporter.warned == [
        f"{tmp_path}: 2 left out: video: 1 (clip.mov); in a helper folder of the system: 1 (more/@eaDir/thumb.jpg)"
    ]
    assert len(_all(open_source(str(tmp_path / "0"), EVERY))) == 1
    (tmp_path / "clip.mov").rename(tmp_path / "more" / "@eaDir" / "clip.mov")
    (tmp_path / "more" / "@eaDir" / "thumb.jpg").unlink()
    with pytest.raises(BadInputError, match=r"holds no images; 1 left out: video: 1 \(clip\.mov\)"):
        open_source(str(tmp_path / "more" / "@eaDir"), EVERY)


def test_folder_of_images_without_pacing_waits_for_nothing(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    clock = HeldClock()
    assert [frame.time_s for frame in _all(open_source(str(tmp_path), EVERY, clock=clock))] == [0, 2, 4]
    assert clock.now() == 100


def test_one_image_is_a_source(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    assert len(_all(open_source(str(tmp_path / "0.png"), EVERY))) == 1


def test_unreadable_image_is_named_and_skipped(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no picture")
    reporter = Remembering()
    frames = _all(open_source(str(tmp_path), EVERY, reporter=reporter))
    assert [frame.number for frame in frames] == [0, 1]
    assert len(reporter.warned) == 1
    assert "1.png" in reporter.warned[0]


def test_folder_in_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(BadInputError, match="no image can be read"):
        _all(open_source(str(tmp_path), EVERY))


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
        within(0.05, forever.wait, "camera 0")
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
        _all(source)
    source.close()


def test_frames_that_cannot_be_decoded_are_passed_over() -> None:
    def picture(number: int) -> object:
        return b"\xff\xd8 no picture \xff\xd9" if number % 4 == 3 else plain("red")

    with Stream(picture, fps=100) as stream:
        source = open_source(stream.url, CaptureOptions())
        frames = [source.read() for _ in range(20)]
        assert all(frame is not None and colour_of(frame.bgr) == "red" for frame in frames)
        source.close()


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
    assert cv2.CAP_PROP_FOURCC not in camera_settings(Wish((640, 480)))
    large = camera_settings(Wish((1280, 720), 30))
    assert (large[cv2.CAP_PROP_FRAME_WIDTH], large[cv2.CAP_PROP_FRAME_HEIGHT]) == (1280, 720)
    assert (large[cv2.CAP_PROP_FPS], large[cv2.CAP_PROP_FOURCC]) == (30, mjpg)
    assert list(large).index(cv2.CAP_PROP_FOURCC) < list(large).index(cv2.CAP_PROP_FRAME_WIDTH), "V4L2 wants it so"
    assert camera_settings(Wish(fps=60))[cv2.CAP_PROP_FOURCC] == mjpg
    yuyv = camera_settings(Wish((1280, 720), pixel_format="YUYV"))
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

    with pytest.raises(MissingError):
        within(0.05, attempt, "camera 1")
    released.set()
    assert within(5, attempt, "camera 1") == "opened"
    assert len(calls) == 1


def test_a_camera_by_its_id_that_was_pulled_out_is_missing_not_a_mistake() -> None:
    with pytest.raises(MissingError, match="is not there"):
        open_source("/dev/v4l/by-id/usb-Somebody_Camera-video-index0", CaptureOptions())


def test_a_clip_that_is_cut_off_plays_to_its_cut_and_says_so(tmp_path: Path) -> None:
    import av

    path = tmp_path / "whole.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(300):
            picture = plain("red" if number % 2 else "blue")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    cut = tmp_path / "cut.mp4"
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    for clip, warnings in ((path, 0), (cut, 1)):
        reporter = Remembering()
        frames = _all(open_source(str(clip), EVERY, reporter=reporter))
        assert len(reporter.warned) == warnings
        assert (len(frames) == 300) is (clip == path)
    assert "of 300 frames" in reporter.warned[0]


def _write_at(path: Path, times_s: list[float]) -> None:
    """A clip whose frames, red and blue in turn, have these times."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(plain("blue" if number % 2 else "red"), format="bgr24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    "times_s", [[0, 0.1, 0.2, 1.5, 1.6, 3.0], [0.5, 0.6, 0.7], [0, 5.0, 10.0, 15.0]], ids=["gaps", "late", "slow"]
)
def test_frames_come_at_the_clips_own_times(tmp_path: Path, times_s: list[float]) -> None:
    _write_at(tmp_path / "clip.mp4", times_s)
    clock = HeldClock()
    frames = _all(open_source(str(tmp_path / "clip.mp4"), CaptureOptions(), clock=clock))
    wanted = [time_s - times_s[0] for time_s in times_s]
    assert [frame.time_s for frame in frames] == pytest.approx(wanted, abs=0.02)
    assert [frame.captured_s - 100 for frame in frames] == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize(
    ("times_s", "wanted"),
    [
        ([0, 0.1, 0.2, 3600.2, 3600.3, 3600.4], [0, 0.1, 0.2, 2.2, 2.3, 2.4]),
        ([0, 0.1, 0.2, 45.2, 45.3, 99, 99.1], [0, 0.1, 0.2, 2.2, 2.3, 4.3, 4.4]),
        ([0, 10, 20, 30, 40, 60, 70], [0, 10, 20, 30, 40, 60, 70]),
    ],
    ids=["recordings were joined", "nothing moved", "a time lapse"],
)
def test_jumps_of_time_stamps_are_shortened_and_said_once(
    tmp_path: Path, times_s: list[float], wanted: list[float]
) -> None:
    _write_at(tmp_path / "clip.mp4", times_s)
    clock, reporter = HeldClock(), Remembering()
    frames = _all(open_source(str(tmp_path / "clip.mp4"), CaptureOptions(), clock=clock, reporter=reporter))
    assert [frame.time_s for frame in frames] == pytest.approx(wanted, abs=0.03)
    assert [frame.captured_s - 100 for frame in frames] == pytest.approx(wanted, abs=0.03)
    assert len(reporter.warned) == (times_s != wanted)


@pytest.mark.parametrize(
    ("stamps_s", "wanted"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0, 0.1, 0.2, 0.3]),
        ([5.0, 5.1, 5.2, 5.3], [0, 0.1, 0.2, 0.3]),
        ([60.0, 60.1, 60.2, 0.0, 0.1, 0.2], [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ([0.0, 0.1, 0.3, 0.2, 0.4, 0.5], [0, 0.1, 0.3, 0.4, 0.5, 0.6]),
        ([0.0, 0.1, 9000.0, 0.2, 0.3], [0, 0.1, 2.1, 2.2, 2.3]),
    ],
    ids=["none", "late", "begins again", "out of order", "one that is wrong"],
)
def test_times_go_on_whatever_the_stamps(stamps_s: list[float], wanted: list[float]) -> None:
    times = Timeline("clip", 10)
    assert [times.advance(stamp_s) for stamp_s in stamps_s] == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["Noël ! video.mp4", "in [b] x/a%20b #1?.mp4", "http:.mp4", "a://b.mp4", "0.mp4"])
def test_what_exists_as_a_path_is_that_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(tmp_path / "plain.mp4", COLOURS[:2]).rename(path)
    for text in (name, f"file://{quote(str(path))}", f"file://localhost{quote(str(path))}"):
        source = open_source(text, EVERY)
        assert not source.live
        assert len(_all(source)) == 2


def test_a_file_url_of_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        open_source(f"file://{tmp_path}/nope.mp4", CaptureOptions())
    with pytest.raises(BadInputError, match="another machine"):
        open_source("file://elsewhere/nope.mp4", CaptureOptions())


def _animate(path: Path, colours: list[str], durations_ms: list[int]) -> Path:
    pictures = [Image.fromarray(cv2.cvtColor(plain(colour), cv2.COLOR_BGR2RGB)) for colour in colours]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0)
    return path


@pytest.mark.skipif(not hasattr(cv2, "imreadanimation"), reason="OpenCV before 4.11")
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_a_clip_with_its_own_timing(tmp_path: Path, suffix: str) -> None:
    colours = ["red", "green", "blue"]
    path = _animate(tmp_path / f"moving{suffix}", colours, [500, 1000, 300])
    clock = HeldClock()
    source = open_source(str(path), CaptureOptions(), clock=clock)
    frames = _all(source)
    assert [colour_of(frame.bgr) for frame in frames] == colours
    assert [frame.captured_s for frame in frames] == pytest.approx([100, 100.5, 101.5])
    assert clock.now() == pytest.approx(101.8), "the last one is shown as long as it says"
    assert "3 pictures" in source.given
    cv2.imwrite(str(tmp_path / "z.png"), plain("red"))
    assert [frame.number for frame in _all(open_source(str(tmp_path), EVERY))] == [0, 1, 2, 3], "in a folder, too"


@pytest.mark.skipif(not hasattr(cv2, "imreadanimation"), reason="OpenCV before 4.11")
def test_a_long_animation_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sources.images.MAX_BYTES", 3 * 64 * 48 * 4)
    colours = ["red", "green", "blue"] * 4
    frames = _all(open_source(str(_animate(tmp_path / "long.gif", colours, [10] * 12)), EVERY))
    assert [colour_of(frame.bgr) for frame in frames] == colours
    assert frames[-1].time_s == pytest.approx(1.1), "a hundredth of a second is taken for a tenth, as browsers do"


AV1_CLIP = """
import sys, av, numpy
with av.open(sys.argv[1], "w") as container:
    stream = container.add_stream("libsvtav1", rate=30)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for _ in range(3):
        picture = numpy.zeros((64, 64, 3), numpy.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
    container.mux(stream.encode(None))
"""
"""Runs in a process of its own: SVT-AV1 turns the process that encodes into one of real time, and leaves it so."""


def test_a_codec_that_opencv_cannot_decode_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    subprocess.run([sys.executable, "-c", AV1_CLIP, str(path)], check=True)
    if cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[0]:
        pytest.skip("this OpenCV decodes AV1")
    with pytest.raises(BadInputError, match="cannot decode its codec, AV1") as raised:
        open_source(str(path), EVERY)
    assert "libx264" in raised.value.hint


@pytest.mark.parametrize(
    ("fourcc", "said"), [("av01", "codec is AV1"), ("WXYZ", "codec is WXYZ"), ("", "can be decoded")]
)
def test_words_for_what_is_not_decoded(tmp_path: Path, fourcc: str, said: str) -> None:
    """Without PyAV, or where it decodes nothing either."""
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    error = undecodable("clip.mp4", fourcc, tmp_path / "clip.mp4")
    assert error.message.endswith(said)
    assert undecodable_stream("rtsp://host", fourcc)[0].endswith(said)


def test_a_source_without_a_name_is_no_source() -> None:
    """An unset variable of the shell would mean the folder that one is in."""
    with pytest.raises(BadInputError, match="is empty"):
        open_source(" ", CaptureOptions())
