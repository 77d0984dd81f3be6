"""The lesson in a window, by keys, on SDL's own display that draws into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from teach_support import Slow, frames, picture

from tests.conftest import Recorder
from tests.full_disk import files_of_at_most
from toolchain.camera.drawing import AMBER
from toolchain.camera.loop import Control
from toolchain.teach.album import Album
from toolchain.teach.lesson import Lesson
from toolchain.teach.session import Classroom, TeachSettings
from toolchain.teach.window import TeachWindow

pygame = pytest.importorskip("pygame")


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def room(tmp_path: Path, told: Recorder, monkeypatch: pytest.MonkeyPatch) -> Classroom:
    teacher = Slow()
    teacher.let.set()
    monkeypatch.setattr(Classroom, "_teacher", lambda self: teacher)
    monkeypatch.setattr(Classroom, "_taught", lambda self, learnt: None)
    return Classroom(TeachSettings(tmp_path / "a", ("cup", "pen")), told)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch, room: Classroom, told: Recorder) -> Iterator[TeachWindow]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with TeachWindow(room.lesson, Control(), told) as opened:
        yield opened


def press(window: TeachWindow, key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    window.idle("")


def write(window: TeachWindow, text: str) -> None:
    """Keys that give letters come as both; a letter that takes two keys, as é may, comes as text alone."""
    for letter in text:
        if letter.isascii():
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=ord(letter)))
        pygame.event.post(pygame.event.Event(pygame.TEXTINPUT, text=letter))
    window.idle("")


def look(window: TeachWindow, room: Classroom, like: str) -> None:
    for frame in frames(picture(like)):
        window.show(room.see(frame))


def test_a_lesson_by_keys(window: TeachWindow, room: Classroom, told: Recorder) -> None:
    lesson = room.lesson
    press(window, pygame.K_t)
    assert told.warned == ["too few pictures of cup, pen: each thing needs 5. Show cup."]
    for key, name in ((pygame.K_2, "pen"), (pygame.K_UP, "cup"), (pygame.K_DOWN, "pen")):
        press(window, key)
        press(window, pygame.K_SPACE)
        assert lesson.state().recording == name
        look(window, room, "cat" if name == "cup" else "fish")
        press(window, pygame.K_SPACE)
        assert not lesson.state().recording
    assert [thing.takes for thing in lesson.state().things] == [1, 2, 0]
    press(window, pygame.K_u)
    assert [thing.takes for thing in lesson.state().things] == [1, 1, 0]
    with lesson:
        press(window, pygame.K_t)
        assert lesson.wait(10)
        assert lesson.state().lessons == 1
    press(window, pygame.K_9)  # there is no ninth thing
    press(window, pygame.K_SPACE)
    assert lesson.state().recording == "pen"


def test_a_thing_is_named_by_typing(window: TeachWindow, room: Classroom, told: Recorder) -> None:
    things = room.lesson.album.things
    press(window, pygame.K_RETURN)
    write(window, "qut théx")  # q would end, u undo and t train
    press(window, pygame.K_BACKSPACE)
    press(window, pygame.K_RETURN)
    assert things == ["cup", "pen", "qut thé", "nothing_of_these"]
    assert window._control.ending is None
    press(window, pygame.K_SPACE)
    assert room.lesson.state().recording == "qut thé", "it is chosen"
    press(window, pygame.K_RETURN)
    write(window, "cup")
    press(window, pygame.K_KP_ENTER)
    press(window, pygame.K_SPACE)
    press(window, pygame.K_SPACE)
    assert room.lesson.state().recording == "cup", "a thing that is there is chosen"
    press(window, pygame.K_RETURN)
    write(window, "lamp")
    press(window, pygame.K_ESCAPE)
    assert len(things) == 4
    press(window, pygame.K_RETURN)
    write(window, "a/b")
    press(window, pygame.K_RETURN)
    assert told.warned == ["'a/b' cannot be the name of a class folder. Take another word."]
    frame = next(frames(picture("cat")))
    window.show(room.see(frame))
    assert len(things) == 4


def test_what_is_to_be_done_stands_over_the_picture(window: TeachWindow, room: Classroom) -> None:
    frame = next(frames(cv2.resize(picture("cat"), (800, 800))))
    window.show(room.see(frame))
    rgb = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert rgb.shape[:2] >= frame.bgr.shape[:2]
    bar = rgb[: rgb.shape[0] // 6].astype(int)
    below = rgb[rgb.shape[0] // 2 :].astype(int)
    assert np.percentile(bar, 50) < 0.6 * np.percentile(below, 50), "a dark bar"
    assert bar.max() > 200, "and letters on it"


def test_a_lost_camera_is_told_and_things_can_still_be_named(window: TeachWindow, room: Classroom) -> None:
    window.show(room.see(next(frames(picture("cat")))))

    def shown() -> np.ndarray:
        return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)

    before = shown()
    window.idle("")
    assert (shown() == before).all()
    window.idle("camera 0 gives no frames any more")
    lost = shown()
    assert (lost[: len(lost) // 4] == AMBER[::-1]).all(axis=2).any()
    assert not (before[: len(before) // 4] == AMBER[::-1]).all(axis=2).any()
    press(window, pygame.K_RETURN)
    window.idle("camera 0 gives no frames any more")
    assert (shown() != lost).any(), "what is typed is seen"


def test_the_mouse_draws_no_regions(window: TeachWindow, room: Classroom, told: Recorder) -> None:
    window.show(room.see(next(frames(picture("cat")))))
    said = len(told.said)
    for kind, pos in ((pygame.MOUSEBUTTONDOWN, (20, 20)), (pygame.MOUSEMOTION, (90, 90)),
                      (pygame.MOUSEBUTTONUP, (90, 90))):  # fmt: skip
        pygame.event.post(pygame.event.Event(kind, pos=pos, button=1))
    window.idle("")
    assert window._control.regions == ()
    assert len(told.said) == said


@pytest.mark.skipif(os.name != "posix", reason="no limits of this kind on this system")
def test_what_the_disk_does_not_take_is_told_and_the_lesson_goes_on(
    window: TeachWindow, room: Classroom, told: Recorder
) -> None:
    press(window, pygame.K_SPACE)
    look(window, room, "cat")
    press(window, pygame.K_SPACE)
    press(window, pygame.K_RETURN)
    write(window, "lamp")
    with files_of_at_most(10):
        press(window, pygame.K_RETURN)
    assert told.warned == ["the disk is full: lamp was not added. Make room on it."]
    assert "lamp" not in room.album.things
    stuck = room.album.paths()[0]
    stuck.unlink()
    stuck.mkdir()
    press(window, pygame.K_u)
    assert told.warned[1].startswith("the last take of cup was not removed (")
    assert str(stuck) in told.warned[1]
    window.show(room.see(next(frames(picture("cat")))))
    assert window._control.ending is None


def test_the_window_never_shows_an_answer_before_there_is_one(room: Classroom) -> None:
    answered = room.see(next(frames(picture("cat"))))
    assert answered.network == ""
    assert answered.prediction.answer is None


def test_nothing_of_these_is_the_last_number(tmp_path: Path, told: Recorder) -> None:
    album = Album(tmp_path / "b")
    for thing in ("cup", "nothing_of_these", "pen"):
        album.add(thing)
    assert Lesson(album, Slow, told).state().things[-1].name == "nothing_of_these"
