"""The lesson in a window, by keys, on SDL's own display that draws into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from teach_support import Slow, frames, picture

from tests.conftest import Recorder
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


def test_the_window_never_shows_an_answer_before_there_is_one(room: Classroom) -> None:
    answered = room.see(next(frames(picture("cat"))))
    assert answered.network == ""
    assert answered.prediction.answer is None


def test_nothing_of_these_is_the_last_number(tmp_path: Path, told: Recorder) -> None:
    album = Album(tmp_path / "b")
    for thing in ("cup", "nothing_of_these", "pen"):
        album.add(thing)
    assert Lesson(album, Slow, told).state().things[-1].name == "nothing_of_these"
