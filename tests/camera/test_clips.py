"""Video files as a source: each frame at its moment, and clear words for what cannot be decoded."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import pytest

from tests.camera.camera_support import COLOURS, EVERY, all_frames
from tests.clips import HeldClock, colour_of, plain, write_clip
from tests.datasets.datasets_support import Remembering
from toolchain.camera.frames import Timeline
from toolchain.camera.sources.opening import (
    CaptureOptions,
    open_source,
)
from toolchain.camera.sources.video import plausible_fps, undecodable, undecodable_stream
from toolchain.errors import BadInputError


def test_clip_gives_every_frame_in_order_when_it_is_not_paced(tmp_path: Path) -> None:
    clock = HeldClock()
    source = open_source(str(write_clip(tmp_path / "clip.mp4", COLOURS)), EVERY, clock=clock)
    frames = all_frames(source)
    assert source.fps == pytest.approx(30)
    assert [frame.number for frame in frames] == list(range(12))
    assert [colour_of(frame.bgr) for frame in frames] == COLOURS
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(12)])
    assert clock.now() == 100, "nobody waited"


def test_paced_clip_gives_each_frame_at_its_moment(tmp_path: Path) -> None:
    clock = HeldClock()
    frames = all_frames(
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
    assert [frame.number for frame in all_frames(source)][-1] == 11


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
        frames = all_frames(open_source(str(clip), EVERY, reporter=reporter))
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
    frames = all_frames(open_source(str(tmp_path / "clip.mp4"), CaptureOptions(), clock=clock))
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
    frames = all_frames(open_source(str(tmp_path / "clip.mp4"), CaptureOptions(), clock=clock, reporter=reporter))
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


@pytest.mark.parametrize("error", ["PatchWelcomeError", "EOFError", "BugError", "DecoderNotFoundError"])
def test_whatever_ffmpeg_says_of_a_clip_it_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    av = pytest.importorskip("av")

    def failing(path: str) -> None:
        raise getattr(av.error, error)(1, "Not yet implemented in FFmpeg, patches welcome", path)

    monkeypatch.setattr(av, "open", failing)
    assert undecodable("clip.mp4", "av01", tmp_path / "clip.mp4").message.endswith("its codec is AV1")


@pytest.mark.parametrize("claimed", [0.0, float("nan"), -1.0, 90_000.0, float("inf")])
def test_impossible_frame_rates_are_not_believed(claimed: float) -> None:
    assert plausible_fps(claimed) == 30
