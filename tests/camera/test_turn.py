"""`--rotate` and `--mirror`: network, program, recording and page see the same turned frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import BGR, read_clip
from tests.web_support import Viewer, wait_until
from toolchain.camera.answering import Answered
from toolchain.camera.frames import BgrImage, Frame, Turn
from toolchain.camera.session import watch
from toolchain.camera.sinks import SinkContext
from toolchain.camera.sinks.recorder import RecordOptions
from toolchain.camera.sinks.web import Address, WebOptions, WebView
from toolchain.cli import run
from toolchain.errors import BadInputError


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_pixels_are_turned_clockwise_and_then_mirrored(degrees: int, mirror: bool) -> None:
    bgr = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    frame = Frame(7, bgr, 100.0, 2.0)
    turned = Turn(degrees, mirror)(frame)  # type: ignore[arg-type]
    wanted = np.rot90(bgr, -degrees // 90)
    assert np.array_equal(turned.bgr, wanted[:, ::-1] if mirror else wanted)
    assert (turned.number, turned.captured_s, turned.time_s) == (7, 100.0, 2.0)
    assert turned.bgr.flags.c_contiguous
    assert np.array_equal(bgr.ravel(), np.arange(18)), "the frame of the source stays as it is"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an upright green bar on red in `bar.png`, and a network that looks at an upright strip."""
    picture = np.full((384, 384, 3), BGR["red"], np.uint8)
    picture[:, 132:252] = BGR["green"]
    picture[192:] //= 2  # a strip of one colour would show nothing
    picture[50:130, 30:110] = BGR["blue"]
    cv2.imwrite(str(tmp_path / "bar.png"), picture)
    tiny_artifact(tmp_path / "strip.onnx", height=32, width=8)
    return tmp_path


def _corner(bgr: BgrImage) -> str:
    """Where the blue square is."""
    height, width = bgr.shape[:2]
    rows, columns = np.nonzero((bgr[..., 0] > 200) & (bgr[..., 2] < 60))
    return ("top " if rows.mean() < height / 2 else "bottom ") + ("left" if columns.mean() < width / 2 else "right")


@pytest.mark.parametrize(
    ("degrees", "mirror", "label", "corner"),
    [
        (0, False, "green", "top left"),
        (90, False, "red", "top right"),
        (180, True, "green", "bottom left"),
        (270, False, "red", "bottom left"),
    ],
)
def test_answer_program_and_recording_agree(
    place: Path, degrees: int, mirror: bool, label: str, corner: str
) -> None:
    seen: list[tuple[str | None, str]] = []

    def act(answered: Answered) -> None:
        seen.append((answered.prediction.answer, _corner(answered.frame.bgr)))

    watch(
        place / "strip.onnx",
        place / "bar.png",
        on_answer=act,
        sinks=[RecordOptions(place / "out.mp4")],
        every_frame=True,
        rotate=degrees,  # type: ignore[arg-type]
        mirror=mirror,
    )
    assert seen == [(label, corner)]
    _, recorded = read_clip(place / "out.mp4")
    assert _corner(recorded[0]) == corner


def test_the_page_shows_it_turned(place: Path) -> None:
    opened: list[WebView] = []

    class Options(WebOptions):
        def open(self, context: SinkContext) -> WebView:
            opened.append(super().open(context))
            return opened[0]

    shown: list[str] = []

    def look(answered: Answered) -> None:
        viewer = Viewer(opened[0], "/picture")
        picture = cv2.imdecode(np.frombuffer(viewer.jpeg(), np.uint8), cv2.IMREAD_COLOR)
        shown.append(_corner(np.asarray(picture, np.uint8)))
        viewer.close()
        wait_until(lambda: opened[0].viewers == 0)

    watch(
        place / "strip.onnx",
        place / "bar.png",
        on_answer=look,
        sinks=[Options(Address("127.0.0.1", 0))],
        every_frame=True,
        rotate=90,
    )
    assert shown == ["top right"]


def test_at_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["camera", str(place / "strip.onnx"), "--source", str(place / "bar.png"), "--as-fast-as-possible"]
    assert run([*words, "--json", "--rotate", "90", "--mirror", "--mirror-average"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[0])["answer"] == "red"
    assert "2 s each, turned by 90 degrees and mirrored" in told.err
    assert run([*words, "--rotate", "45"]) == 2
    assert run([*words, "--mirror", "--measure-latency"]) == 2
    assert "which --mirror makes unreadable" in capsys.readouterr().err


@pytest.mark.parametrize("degrees", [45, -90, 360, "90"])
def test_frames_cannot_be_turned_by_anything(degrees: Any) -> None:
    with pytest.raises(BadInputError, match="cannot be turned by"):
        Turn(degrees)
