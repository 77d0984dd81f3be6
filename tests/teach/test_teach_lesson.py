"""What a person presses, and what comes of it."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import pytest
from teach_support import LEARNT, Slow, frames, picture

from tests.conftest import Recorder
from tests.test_full_disk import files_of_at_most
from toolchain.errors import BadInputError
from toolchain.teach import album as albums
from toolchain.teach.album import Album
from toolchain.teach.lesson import Lesson, headline


@pytest.fixture
def told() -> Recorder:
    return Recorder()


def lesson_of(root: Path, told: Recorder, teacher: Slow | None = None) -> Lesson:
    album = Album(root / "a")
    for thing in ("cup", "pen"):
        album.add(thing)
    return Lesson(album, lambda: teacher or Slow(), told)


def record(lesson: Lesson, thing: str, like: str) -> None:
    lesson.start_take(thing)
    for frame in frames(picture(like)):
        lesson.see(frame)
    lesson.stop_take()


def test_takes_become_pictures_and_the_state_says_so(tmp_path: Path, told: Recorder) -> None:
    lesson = lesson_of(tmp_path, told)
    assert headline(lesson.state()) == "Hold cup before the camera, and record a take."
    lesson.start_take("cup")
    for frame in frames(picture("cat"), 30):
        lesson.see(frame)
    state = lesson.state()
    assert (state.phase, state.recording) == ("recording", "cup")
    assert state.kept >= 2
    assert headline(state) == f"Show cup: {state.kept} pictures kept"
    # What is counted is on the disk.
    assert len(list((lesson.album.photographs / "cup").iterdir())) == state.kept
    lesson.stop_take()
    lesson.see(next(frames(picture("dog"))))
    thing = lesson.state().things[0]
    assert (thing.pictures, thing.takes) == (len(lesson.album.paths()), 1)
    assert "one is too few" in thing.wish
    assert told.said[-1].startswith(f"cup: {thing.pictures} pictures kept; left out: ")


def test_a_new_take_ends_the_one_that_runs_and_the_last_can_be_undone(tmp_path: Path, told: Recorder) -> None:
    lesson = lesson_of(tmp_path, told)
    record(lesson, "cup", "cat")
    lesson.start_take("cup")
    for frame in frames(picture("dog")):
        lesson.see(frame)
    lesson.start_take("pen")
    assert [thing.takes for thing in lesson.state().things] == [2, 0]
    assert lesson.forget_take("cup") >= 2
    assert lesson.state().phase == "collecting"
    assert [thing.takes for thing in lesson.state().things] == [1, 0]
    assert lesson.forget_take("pen") == 0


def test_a_take_ends_when_there_are_enough(tmp_path: Path, told: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.teach.lesson.MAX_PICTURES", 3)
    lesson = lesson_of(tmp_path, told)
    record(lesson, "cup", "cat")
    assert lesson.state().things[0].pictures == 3
    assert "enough" in headline(lesson.state())
    with pytest.raises(BadInputError, match="enough"):
        lesson.start_take("cup")


def test_a_full_disk_stops_recording_and_says_so(tmp_path: Path, told: Recorder) -> None:
    lesson = lesson_of(tmp_path, told)
    with files_of_at_most(100):
        lesson.start_take("cup")
        for frame in frames(picture("cat")):
            lesson.see(frame)
    state = lesson.state()
    assert state.phase == "collecting"
    assert headline(state) == "the disk is full: recording has stopped"
    assert len(told.warned) == 1
    assert state.things[0].pictures == 0
    assert not list((lesson.album.photographs / "cup").iterdir()), "nothing half-written"
    record(lesson, "cup", "cat")  # there is room again
    assert lesson.state().things[0].pictures
    assert not lesson.state().trouble


def test_frames_are_seen_and_takes_recorded_while_it_learns(tmp_path: Path, told: Recorder) -> None:
    teacher = Slow()
    with lesson_of(tmp_path, told, teacher) as lesson:
        with pytest.raises(BadInputError, match="too few pictures of cup, pen"):
            lesson.teach()
        record(lesson, "cup", "cat")
        record(lesson, "pen", "dog")
        lesson.teach()
        assert lesson.state().phase == "teaching"
        assert not lesson.wait(0.01)
        record(lesson, "cup", "bird")
        teacher.let.set()
        assert lesson.wait(10)
        state = lesson.state()
        assert (state.phase, state.lessons, state.learnt) == ("collecting", 1, LEARNT)
        assert [thing.right for thing in state.things] == [1.0, 0.5]
        assert state.changed, "the last take is not in it"


def test_how_good_it_is_stands_in_the_headline(tmp_path: Path, told: Recorder) -> None:
    teacher = Slow()
    teacher.let.set()
    with lesson_of(tmp_path, told, teacher) as lesson:
        record(lesson, "cup", "cat")
        record(lesson, "pen", "dog")
        lesson.teach()
        lesson.wait(10)
        object.__setattr__(LEARNT, "pictures", len(lesson.album.paths()))
        assert headline(lesson.state()) == ("75 % right on 4 takes that it was not taught (95 %: 30 % to 95 %).")
        record(lesson, "pen", "fish")
        assert headline(lesson.state()) == "New pictures: train again."
        assert "often mistaken" in lesson.state().things[1].wish


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "model.onnx"),
            "it could not be taught: the disk is full",
        ),
        (BadInputError("weights x do not exist", "Take others."), "it could not be taught: weights x do not exist"),
    ],
)
def test_a_lesson_that_fails_is_told_and_can_be_tried_again(
    tmp_path: Path, told: Recorder, error: Exception, said: str
) -> None:
    teacher = Slow(error)
    teacher.let.set()
    with lesson_of(tmp_path, told, teacher) as lesson:
        record(lesson, "cup", "cat")
        record(lesson, "pen", "dog")
        lesson.teach()
        assert lesson.wait(10)
        assert headline(lesson.state()) == said
        assert told.warned
        teacher.error = None
        lesson.teach()
        assert lesson.wait(10)
        assert lesson.state().learnt == LEARNT
        assert not lesson.state().trouble


def test_pictures_are_whole(tmp_path: Path, told: Recorder) -> None:
    lesson = lesson_of(tmp_path, told)
    record(lesson, "cup", "cat")
    for path in lesson.album.paths():
        seen = cv2.imread(str(path))
        assert seen.shape[:2] == next(frames(picture("cat"))).bgr.shape[:2]
        assert max(seen.shape) <= albums.MAX_SIDE


def test_a_disk_that_is_full_at_the_end_of_a_take_is_told(tmp_path: Path, told: Recorder) -> None:
    """A take of one frame writes only when it stops."""
    lesson = lesson_of(tmp_path, told)
    with files_of_at_most(100):
        lesson.start_take("cup")
        lesson.see(next(iter(frames(picture("cat")))))
        lesson.stop_take()
    assert headline(lesson.state()) == "the disk is full: recording has stopped"
    record(lesson, "cup", "cat")
    assert lesson.state().things[0].pictures
