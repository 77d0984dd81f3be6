"""From an album to splits: no take is on two sides, and few takes all teach."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from teach_support import picture

from tests.conftest import Recorder
from toolchain.runs.grouping import open_as_trained
from toolchain.teach import learning
from toolchain.teach.album import Album, take_of
from toolchain.teach.learning import GROUP_BY, Learner

PICTURES = 5


def album_of(root: Path, **takes: int) -> Album:
    album = Album(root / "a")
    number = 0
    for thing, count in takes.items():
        album.add(thing)
        for take in [album.new_take() for _ in range(count)]:
            for place in range(1, PICTURES + 1):
                number += 1
                bgr = picture("cat")
                bgr[:2, :4] = np.frombuffer(number.to_bytes(24, "big"), np.uint8).reshape(2, 4, 3)
                bgr[:40] = np.uint8(number)  # no two are copies
                album.write(thing, take, place, bgr)
    return album


@pytest.mark.parametrize(
    ("takes", "test"),
    [({"cup": 1, "pen": 1}, False), ({"cup": 3, "pen": 2}, False), ({"cup": 4, "pen": 5}, True),
     ({"cup": 9, "pen": 3}, False)],
)  # fmt: skip
def test_no_take_is_on_two_sides(tmp_path: Path, takes: dict[str, int], test: bool) -> None:
    dataset = Learner(album_of(tmp_path, **takes), Recorder())._dataset()
    sides: dict[str, set[str]] = {}
    for split, photos in dataset.splits.items():
        for photo in photos:
            sides.setdefault(take_of(photo.path), set()).add(split)
    assert all(len(of) == 1 for of in sides.values()), sides
    assert len(sides) == sum(takes.values())
    tested = {dataset.classes[photo.label] for photo in dataset.splits["test"]}
    assert tested == (set(takes) if test else set())
    taught = {dataset.classes[photo.label] for photo in dataset.splits["train"]}
    assert taught == set(takes), "all are taught"


def test_bench_finds_the_same_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = album_of(tmp_path, cup=5, pen=6)
    monkeypatch.setattr("toolchain.runs.grouping._grouping_of", lambda folder: GROUP_BY)
    own = Learner(album, Recorder())._dataset()
    found = open_as_trained(str(album.photographs), [album.run], Recorder())
    assert found.split_sha256("test") == own.split_sha256("test")


def test_a_photograph_that_is_removed_or_damaged_meanwhile_stops_nothing(tmp_path: Path) -> None:
    album = album_of(tmp_path, cup=1)
    learner = Learner(album, Recorder())
    learner._extract = lambda batches: np.concatenate([batch[:, 0, 0].astype(np.float32) for batch in batches])
    first, second = album.paths()[:2]
    whole = second.read_bytes()
    first.unlink()
    assert learner.look_ahead() is False
    first.write_bytes(whole[:100])
    assert learner.look_ahead() is False
    first.write_bytes(whole)
    assert learner.look_ahead() is True
    assert learner.look_ahead() is False, "all have their features"


def test_what_has_its_features_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for twice a second, and an album may lie on a slow memory card."""
    learner = Learner(album_of(tmp_path, cup=2, pen=2), Recorder())
    learner._extract = lambda batches: np.concatenate([batch[:, 0, 0].astype(np.float32) for batch in batches])
    looked: list[Path] = []
    key = learning._key
    monkeypatch.setattr(learning, "_key", lambda path: looked.append(path) or key(path))
    for more in (True, True, True, False, False):
        assert learner.look_ahead() is more
    assert looked == learner.album.paths()


def test_photographs_of_other_names_are_takes_of_their_own(tmp_path: Path) -> None:
    album = Album(tmp_path / "a")
    for thing in ("cup", "pen"):
        (album.photographs / thing).mkdir()
        for number in range(8):
            bgr = picture("cat" if thing == "cup" else "dog", number)
            cv2.imwrite(str(album.photographs / thing / f"IMG-{number}.jpg"), bgr)
    again = Album(tmp_path / "a")
    assert again.count("cup").takes == 8
    dataset = Learner(again, Recorder())._dataset()
    assert sum(map(len, dataset.splits.values())) == 16
    assert dataset.splits["test"]
