"""Images, folders of images and animations as a source."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.camera.camera_support import EVERY, all_frames, write_images
from tests.clips import HeldClock, colour_of, plain
from tests.datasets.datasets_support import Remembering
from tests.images.test_picture_size import chunk
from toolchain.camera.sources.opening import (
    CaptureOptions,
    open_source,
)
from toolchain.errors import BadInputError


def test_folder_of_images_is_shown_one_by_one(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("no image")
    clock = HeldClock()
    frames = all_frames(open_source(str(tmp_path), CaptureOptions(seconds_per_image=2), clock=clock))
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
    frames = all_frames(open_source(str(tmp_path), EVERY, reporter=reporter))
    assert [colour_of(frame.bgr) for frame in frames] == ["red", "green", "blue"]
    assert reporter.warned == [
        f"{tmp_path}: 2 left out: video: 1 (clip.mov); in a helper folder of the system: 1 (more/@eaDir/thumb.jpg)"
    ]
    assert len(all_frames(open_source(str(tmp_path / "0"), EVERY))) == 1
    (tmp_path / "clip.mov").rename(tmp_path / "more" / "@eaDir" / "clip.mov")
    (tmp_path / "more" / "@eaDir" / "thumb.jpg").unlink()
    with pytest.raises(BadInputError, match=r"holds no images; 1 left out: video: 1 \(clip\.mov\)"):
        open_source(str(tmp_path / "more" / "@eaDir"), EVERY)


def test_folder_of_images_without_pacing_waits_for_nothing(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    clock = HeldClock()
    assert [frame.time_s for frame in all_frames(open_source(str(tmp_path), EVERY, clock=clock))] == [0, 2, 4]
    assert clock.now() == 100


def test_one_image_is_a_source(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    assert len(all_frames(open_source(str(tmp_path / "0.png"), EVERY))) == 1


def test_unreadable_image_is_named_and_skipped(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no picture")
    reporter = Remembering()
    frames = all_frames(open_source(str(tmp_path), EVERY, reporter=reporter))
    assert [frame.number for frame in frames] == [0, 1]
    assert len(reporter.warned) == 1
    assert "1.png" in reporter.warned[0]


def test_folder_in_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(BadInputError, match="no image can be read"):
        all_frames(open_source(str(tmp_path), EVERY))


def test_stop_ends_a_wait(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    source = open_source(str(tmp_path), CaptureOptions(seconds_per_image=1000))
    assert source.read() is not None
    threading.Timer(0.05, source.stop).start()
    assert source.read() is None


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
    frames = all_frames(source)
    assert [colour_of(frame.bgr) for frame in frames] == colours
    assert [frame.captured_s for frame in frames] == pytest.approx([100, 100.5, 101.5])
    assert clock.now() == pytest.approx(101.8), "the last one is shown as long as it says"
    assert "3 pictures" in source.given
    cv2.imwrite(str(tmp_path / "z.png"), plain("red"))
    assert [frame.number for frame in all_frames(open_source(str(tmp_path), EVERY))] == [0, 1, 2, 3], (
        "in a folder, too"
    )


@pytest.mark.skipif(not hasattr(cv2, "imreadanimation"), reason="OpenCV before 4.11")
def test_a_long_animation_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sources.images.MAX_BYTES", 3 * 64 * 48 * 4)
    colours = ["red", "green", "blue"] * 4
    frames = all_frames(open_source(str(_animate(tmp_path / "long.gif", colours, [10] * 12)), EVERY))
    assert [colour_of(frame.bgr) for frame in frames] == colours
    assert frames[-1].time_s == pytest.approx(1.1), "a hundredth of a second is taken for a tenth, as browsers do"


@pytest.mark.skipif(not hasattr(cv2, "imreadanimation"), reason="OpenCV before 4.11")
def test_an_animation_of_16_bits_has_frames_of_8(tmp_path: Path) -> None:
    colours = ["red", "green", "blue"]
    header, size = struct.pack(">2I5B", 64, 48, 16, 2, 0, 0, 0), (64, 48, 0, 0, 300, 1000, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"acTL", struct.pack(">2I", 3, 0))
    for number, colour in enumerate(colours):
        rows = 257 * plain(colour)[:, :, ::-1].astype(">u2")
        pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        data += chunk(b"fcTL", struct.pack(">5I2H2B", max(0, 2 * number - 1), *size))
        data += chunk(b"fdAT", struct.pack(">I", 2 * number) + pixels) if number else chunk(b"IDAT", pixels)
    (tmp_path / "deep.png").write_bytes(data + chunk(b"IEND", b""))
    frames = all_frames(open_source(str(tmp_path / "deep.png"), EVERY))
    assert [frame.bgr.tolist() for frame in frames] == [plain(colour).tolist() for colour in colours]
    assert all(frame.bgr.dtype == np.uint8 for frame in frames)
