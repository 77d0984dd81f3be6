"""The window, on SDL's own display that draws into memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import colour_of, plain
from tests.datasets.datasets_support import Remembering
from toolchain.artifact import write_artifact
from toolchain.camera.engine import Engine
from toolchain.camera.loop import Control
from toolchain.camera.regions import parse_regions
from toolchain.camera.sinks.window import Window
from toolchain.classifier import load
from toolchain.errors import MissingError
from toolchain.export.raw_frame import with_raw_frame

pygame = pytest.importorskip("pygame")


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def reporter() -> Remembering:
    return Remembering()


@pytest.fixture
def window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, control: Control, reporter: Remembering
) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(control, reporter, tmp_path) as opened:
        yield opened


def _press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def _shown() -> np.ndarray:
    """What the window holds, BGR."""
    rgb = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    return rgb[..., ::-1]


def _point(kind: int, across: float, down: float, button: int = 1) -> None:
    """Point at a place of the window, in shares of its size."""
    width, height = pygame.display.get_surface().get_size()
    pygame.event.post(pygame.event.Event(kind, pos=(round(across * width), round(down * height)), button=button))


def test_regions_are_drawn_with_the_mouse(window: Window, control: Control, reporter: Remembering) -> None:
    window.put(plain("red", 120, 160))
    for start, end in (((0.5, 0.75), (0.25, 0.25)), ((0.1, 0.1), (0.11, 0.11)), ((-0.2, 0.0), (0.5, 1.4))):
        _point(pygame.MOUSEBUTTONDOWN, *start)
        _point(pygame.MOUSEMOTION, *end)
        _point(pygame.MOUSEBUTTONUP, *end)
    window.idle("")
    assert [str(region) for region in control.regions] == ["1=25%,25%,25%,50%", "2=0%,0%,50%,100%"]
    assert parse_regions([str(region) for region in control.regions]) == control.regions
    assert reporter.said[-1] == "a region more: --region 2=0%,0%,50%,100%"
    _point(pygame.MOUSEBUTTONDOWN, 0.5, 0.5, button=3)
    window.idle("")
    assert control.regions == ()


def test_a_region_that_is_being_drawn_is_seen_at_its_place_in_a_wide_window(
    window: Window, control: Control
) -> None:
    window.put(plain("red", 120, 160))
    pygame.display.set_mode((320, 120))  # the picture is in its middle, with black at both sides
    _point(pygame.MOUSEBUTTONDOWN, 0.25, 0.0)
    _point(pygame.MOUSEMOTION, 0.5, 0.5)
    window.idle("")
    seen = _shown()
    assert seen[30, 81].min() > 200
    assert seen[59, 120].min() > 200
    _point(pygame.MOUSEBUTTONUP, 0.5, 0.5)
    window.idle("")
    assert [str(region) for region in control.regions] == ["1=0%,0%,50%,50%"]


def test_picture_is_shown_in_its_colours_and_size(window: Window) -> None:
    window.put(plain("red", 120, 160))
    assert _shown().shape == (120, 160, 3)
    assert colour_of(_shown()) == "red"
    window.put(plain("blue", 120, 160))
    assert colour_of(_shown()) == "blue"


@pytest.mark.parametrize("key", ["K_q", "K_ESCAPE"])
def test_q_and_escape_end(window: Window, control: Control, key: str) -> None:
    window.put(plain("red"))
    _press(getattr(pygame, key))
    window.idle("")
    assert control.ending == "quit"


def test_closing_the_window_ends(window: Window, control: Control) -> None:
    window.put(plain("red"))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.idle("")
    assert control.ending == "quit"


def test_space_pauses_and_goes_on(window: Window, control: Control) -> None:
    window.put(plain("red"))
    for paused in (True, False):
        _press(pygame.K_SPACE)
        window.idle("")
        assert control.paused is paused


def test_s_saves_each_picture_under_a_name_of_its_own(
    window: Window, tmp_path: Path, reporter: Remembering
) -> None:
    for colour in ("red", "green", "blue"):
        window.put(plain(colour))
        _press(pygame.K_s)
        window.idle("")
    saved = [colour_of(cv2.imread(str(path))) for path in tmp_path.iterdir()]
    assert sorted(saved) == ["blue", "green", "red"]
    assert len(reporter.said) == 3


def test_a_snapshot_that_cannot_be_written_does_not_end_the_camera(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, control: Control, reporter: Remembering
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(control, reporter, tmp_path / "file") as window:
        window.put(plain("red"))
        _press(pygame.K_s)
        window.idle("")
    assert len(reporter.warned) == 1


@pytest.mark.parametrize("driver", [None, "x11"])
def test_without_a_display_headless_is_suggested(
    monkeypatch: pytest.MonkeyPatch, control: Control, reporter: Remembering, driver: str | None
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if driver:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    elif sys.platform != "linux" or any(Path("/dev/dri").glob("card*")):
        pytest.skip("there is a display that cannot be hidden")
    with pytest.raises(MissingError) as raised:
        Window(control, reporter)
    assert "--headless" in raised.value.hint


def test_d_p_and_b_choose_what_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, control: Control, reporter: Remembering
) -> None:
    """Two files of one run lie side by side; each change is loaded while the camera goes on."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    artifact = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    tiny_artifact(tmp_path / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    engine = Engine(load(artifact), artifact, reporter=reporter)
    load(artifact, "openvino:CPU")  # reads the library from the disk, which takes long the first time

    def press(key: int, changed: Callable[[], bool]) -> None:
        _press(key)
        window.idle("")
        end = time.monotonic() + 120
        while (not changed() or engine._changing.locked()) and time.monotonic() < end:
            time.sleep(0.01)
        assert changed()

    with Window(control, reporter, tmp_path, engine) as window:
        window.put(plain("red"))
        press(pygame.K_d, lambda: engine.network.name == "int8 on openvino:CPU")
        press(pygame.K_p, lambda: engine.network.name == "float32 on openvino:CPU")
        press(pygame.K_b, lambda: engine.compared is not None)
        assert engine.compared is not None
        assert engine.compared.name == "int8 on openvino:CPU"
        press(pygame.K_p, lambda: engine.network.name == "int8 on openvino:CPU")
        assert engine.compared.name == "float32 on openvino:CPU", "they change places"
        press(pygame.K_b, lambda: engine.compared is None)
    assert len(reporter.said) == 2
    assert not reporter.warned


def test_a_network_that_answers_one_region_only_gets_no_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, control: Control, reporter: Remembering
) -> None:
    plain_file = tiny_artifact(tmp_path / "model.onnx")
    frame = with_raw_frame(onnx.load(plain_file.path), plain_file.card.preprocess)
    framed = write_artifact(frame, replace(plain_file.card, input="frame"), tmp_path / "model.frame.onnx")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(control, reporter, tmp_path, engine=Engine(load(framed), framed, reporter=reporter)) as window:
        window.put(plain("red", 120, 160))
        for start, end in (((0.5, 0.75), (0.25, 0.25)), ((0.0, 0.0), (0.5, 0.9))):
            _point(pygame.MOUSEBUTTONDOWN, *start)
            _point(pygame.MOUSEBUTTONUP, *end)
        window.idle("")
    assert len(control.regions) == 1
    assert reporter.warned == ["a file with --raw-frame answers one region only"]
