from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from toolchain.drawn import pets as drawn
from toolchain.drawn.pets import CLASSES, draw, draw_clip
from toolchain.errors import BadInputError


@pytest.mark.parametrize("label", CLASSES)
def test_pictures_are_pictures(label: str) -> None:
    image = draw(label, 0, size=128)
    assert image.shape == (128, 128, 3)
    assert image.dtype == np.uint8
    assert image.std() > 8


def test_the_same_seed_draws_the_same_picture_and_others_do_not() -> None:
    first = draw("cat", 3, seed=5, size=96)
    assert np.array_equal(first, draw("cat", 3, seed=5, size=96))
    for other in (
        draw("cat", 4, seed=5, size=96),
        draw("cat", 3, seed=6, size=96),
        draw("dog", 3, seed=5, size=96),
    ):
        assert not np.array_equal(first, other)


def test_the_animal_covers_a_good_part_of_the_picture() -> None:
    for label in CLASSES:
        for index in range(4):
            _, alpha = drawn.animal(label, drawn.generator(label, index, 0), 96)
            assert 0.04 < alpha.mean() < 0.85, (label, index)


def test_colour_does_not_give_the_animal_away() -> None:
    # Nearest class mean of colour histograms, on pictures that the means have not seen; chance is 1 in 6.
    def histogram(label: str, index: int) -> np.ndarray:
        counts = cv2.calcHist([draw(label, index, size=64)], [0, 1, 2], None, [4, 4, 4], [0, 256] * 3).ravel()
        return np.sqrt(counts / counts.sum())

    means = np.stack([np.mean([histogram(label, i) for i in range(24)], axis=0) for label in CLASSES])
    right = [
        int(np.argmin(np.linalg.norm(means - histogram(label, i), axis=1))) == number
        for number, label in enumerate(CLASSES)
        for i in range(24, 34)
    ]
    assert np.mean(right) < 0.45


def test_wrong_labels_and_numbers() -> None:
    with pytest.raises(BadInputError, match="no animal called 'dragon'"):
        draw("dragon", 0)
    with pytest.raises(BadInputError, match="must not be negative"):
        draw("cat", -1)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "COUNTS", {"train": 2, "test": 1})
    real, calls = drawn.draw, []

    def interrupted(*args: object) -> object:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(drawn, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn.materialise([tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "COUNTS", {"train": 1, "test": 1})
    blocked = tmp_path / "file"
    blocked.write_bytes(b"not a folder")
    assert drawn.materialise([blocked / "below", tmp_path / "good"]) == tmp_path / "good" / drawn.FOLDER
    with pytest.raises(OSError, match="Not a directory"):
        drawn.materialise([blocked / "below"])


def test_a_clip_can_be_played_and_says_who_is_on_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    starts = draw_clip(path, seconds=4, fps=10, seed=2, width=160, height=120)
    assert [start for start, _ in starts] == [0.0, 2.0]
    assert {label for _, label in starts} <= set(CLASSES)
    assert starts[0][1] != starts[1][1]
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = video.read()
        if not there:
            break
        frames.append(frame.astype(np.int16))
    assert len(frames) == 40
    assert frames[0].shape == (120, 160, 3)
    # At the start of each turn the stage is empty; in the middle of it, an animal covers the centre.
    centre = np.s_[30:90, 50:110]
    assert (
        np.abs(frames[0][centre] - frames[10][centre]).mean()
        > 2 * np.abs(frames[0][centre] - frames[20][centre]).mean()
    )


def test_clips_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="positive"):
        draw_clip(tmp_path / "clip.mp4", seconds=0)
    with pytest.raises(BadInputError, match="cannot write a video"):
        draw_clip(tmp_path / "clip.nonsense", seconds=1)
