"""Recordings have a constant rate and real time, and are whole however the recording ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.clips import colour_of, plain, read_clip
from tests.full_disk import files_of_at_most
from toolchain.camera.frames import Frame
from toolchain.camera.session import CameraSettings
from toolchain.camera.sinks.recorder import MAX_GAP_S, Recorder, RecordOptions
from toolchain.errors import BadInputError


class Rate:
    """A source of which nothing but its rate is asked."""

    name = given = remedy = ""
    live = resting = False
    patience_s = 0.0

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def read(self) -> Frame | None:
        return None

    def stop(self) -> None: ...

    def close(self) -> None: ...


def _record(path: Path, shown: list[tuple[str, float]], fps: float) -> list[str]:
    with Recorder(path, every=True) as recorder:
        recorder.start(Rate(fps))
        for colour, time_s in shown:
            recorder.put(plain(colour), time_s)
    return [colour_of(frame) for frame in read_clip(path)[1]]


def test_steady_frames_are_recorded_one_to_one(tmp_path: Path) -> None:
    colours = ["red"] * 10 + ["blue"] * 10
    path = tmp_path / "out.mp4"
    assert _record(path, [(colour, 5 + number / 25) for number, colour in enumerate(colours)], 25) == colours
    assert read_clip(path)[0] == pytest.approx(25)
    assert list(tmp_path.iterdir()) == [path]


def test_frames_are_repeated_and_left_out_to_keep_real_time(tmp_path: Path) -> None:
    slow = _record(tmp_path / "slow.mp4", [("red", 0.0), ("green", 0.5), ("blue", 1.0)], 10)
    assert slow == ["red"] * 5 + ["green"] * 5 + ["blue"]
    fast = [(("red" if number < 50 else "blue"), number / 100) for number in range(100)]
    assert _record(tmp_path / "fast.mp4", fast, 10) == ["red"] * 5 + ["blue"] * 6, "the last one stands for 0.1 s"


def test_slow_sources_are_recorded_at_a_rate_that_players_know(tmp_path: Path) -> None:
    path = tmp_path / "images.mp4"
    colours = _record(path, [("red", 0.0), ("green", 2.0)], 0.5)
    fps, _ = read_clip(path)
    assert fps == pytest.approx(30)
    assert colours == ["red"] * 60 + ["green"] * 60


def test_a_pause_of_hours_is_not_recorded(tmp_path: Path) -> None:
    colours = _record(tmp_path / "pause.mp4", [("red", 0.0), ("blue", 7200.0), ("blue", 7200.2)], 5)
    assert len(colours) == MAX_GAP_S * 5 + 2


def test_recording_is_kept_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"

    def interrupted() -> None:
        with Recorder(path, every=True) as recorder:
            recorder.start(Rate(10))
            for number in range(10):
                recorder.put(plain("red"), number / 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_clip(path)[1]) == 10


@pytest.mark.skipif(os.name != "posix", reason="permissions and signals as POSIX has them")
def test_a_process_that_is_killed_leaves_a_part_that_plays_and_that_others_may_read(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from pathlib import Path
from tests.camera.test_recorder import Rate
from tests.clips import plain
from toolchain.camera.sinks.recorder import Recorder
os.umask(0o022)
recorder = Recorder(Path(sys.argv[1]), every=True)
recorder.start(Rate(10))
for number in range(100):
    recorder.put(plain("red"), number / 10)
while recorder.frames < 99:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out.mp4")], timeout=60)
    assert done.returncode == -signal.SIGKILL
    part = tmp_path / "out.part.mp4"
    assert not (tmp_path / "out.mp4").exists()
    assert part.stat().st_mode & 0o777 == 0o644
    assert len(read_clip(part)[1]) >= 70
    assert _record(tmp_path / "out.mp4", [("blue", 0.0)], 10) == ["blue"], "the next recording replaces it"
    assert not part.exists()


def test_nothing_shown_leaves_no_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "out.mp4") as recorder:
        pass
    assert recorder.frames == 0
    assert not list(tmp_path.iterdir())


def test_error_before_the_first_picture_is_raised_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path / "out.mp4"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.avi", "MP4"), ("out", "MP4"), ("folder.mp4", "is a folder"), ("file/out.mp4", "cannot be written")],
)
def test_places_that_cannot_be_written_are_said_at_once(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match=said):
        Recorder(RecordOptions(tmp_path / name).path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder_is_said_at_once(tmp_path: Path) -> None:
    (folder := tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(BadInputError, match="cannot be written"):
        Recorder(folder / "out.mp4")


def test_pressing_ctrl_c_again_while_it_is_closed_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.mp4"
    close = Recorder._finish

    def closed_in_a_hurry(recorder: Recorder) -> None:
        close(recorder)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "_finish", closed_in_a_hurry)
    with pytest.raises(KeyboardInterrupt):
        _record(path, [("red", number / 10) for number in range(10)], 10)
    assert len(read_clip(path)[1]) == 10


@pytest.mark.skipif(os.name != "posix", reason="no limits of this kind on this system")
@pytest.mark.parametrize("size", [600, 1500])
def test_a_disk_that_is_full_before_a_picture_is_whole_is_told_and_leaves_no_file(
    tmp_path: Path, size: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with files_of_at_most(size), Recorder(tmp_path / "out.mp4", every=True) as recorder:
        recorder.start(Rate(10))
        for number in range(60):
            recorder.put(noise, number / 10)
    assert "too large" in recorder.report().unwritten
    assert recorder.report().file is None
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_has_left_stays_until_there_is_a_picture(tmp_path: Path) -> None:
    """It is all that there is of that day: a camera that is not there must not cost it."""
    (tmp_path / "out.part.mp4").write_bytes(b"rescued")
    with Recorder(tmp_path / "out.mp4"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out.part.mp4"]
    assert (tmp_path / "out.part.mp4").read_bytes() == b"rescued"
    (tmp_path / "out.mp4").touch()
    for name in ("out.mp4", "out.part.mp4"):
        with pytest.raises(BadInputError, match=f"{name} is the source itself"):
            CameraSettings(str(tmp_path / name), sinks=(RecordOptions(tmp_path / "out.mp4"),))
