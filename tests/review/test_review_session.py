"""What is shown, in which order, and what becomes of each decision."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from review_support import collect, line, near_copy

from tests.conftest import Recorder
from toolchain.errors import BadInputError
from toolchain.review.items import Item, collected, is_collected
from toolchain.review.session import Review, check_class, placed
from toolchain.system.progress import Silent

ANSWERS = [
    ("cat", {"cat": 0.9, "dog": 0.05}),
    ("dog", {"cat": 0.45, "dog": 0.44}),
    ("fish", {"fish": 0.6, "cat": 0.3}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return collect(tmp_path / "collected", ANSWERS)


def _review(folder: Path, into: Path | None) -> Review:
    return Review(folder, collected(folder, Silent()), into, Silent())


def test_the_least_sure_comes_first(folder: Path) -> None:
    assert is_collected(folder)
    assert [item.probabilities[0][0] for item in collected(folder, Silent())] == ["cat", "fish", "cat"]
    assert [round(item.margin, 2) for item in collected(folder, Silent())] == [0.01, 0.3, 0.85]


def test_lines_that_are_damaged_or_lead_elsewhere_are_passed_over(folder: Path) -> None:
    (folder.parent / "outside.jpg").write_bytes(b"x")
    (folder / "link.jpg").symlink_to(folder.parent / "outside.jpg")
    with (folder / "collected.jsonl").open("a") as file:
        file.write("{half\n" + line("../outside.jpg", {"cat": 1.0}) + line("link.jpg", {"cat": 1.0}))
        file.write(line("gone.jpg", {"cat": 1.0}) + line(f"{300 * 'x'}.jpg", {"cat": 1.0}))
    recorder = Recorder()
    assert len(collected(folder, recorder)) == 3
    assert recorder.warned == [f"{folder / 'collected.jsonl'}: 2 lines are damaged, and passed over"]


def test_pictures_that_look_alike_are_folded_into_the_most_useful(folder: Path) -> None:
    first = collected(folder, Silent())[0].name
    near_copy(folder, first, "copy.jpg")
    with (folder / "collected.jsonl").open("a") as file:
        file.write(line("copy.jpg", {"cat": 0.8, "dog": 0.1}))
    (folder / "broken.jpg").write_bytes(b"no picture")
    with (folder / "collected.jsonl").open("a") as file:
        file.write(line("broken.jpg", {"cat": 0.8}))
    recorder = Recorder()
    review = Review(folder, collected(folder, Silent()), None, recorder)
    folds = {item.name: item.fold for item in review.items.values()}
    assert folds["copy.jpg"] == folds[first] == 0
    assert len(set(folds.values())) == 3
    assert any("broken.jpg" in warning for warning in recorder.warned)


def test_a_fold_is_never_larger_than_what_can_be_decided_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = collected(folder, Silent())[0].name
    for number in range(4):
        near_copy(folder, first, f"copy-{number}.jpg")
        with (folder / "collected.jsonl").open("a") as file:
            file.write(line(f"copy-{number}.jpg", {"cat": 0.8, "dog": 0.1}))
    monkeypatch.setattr("toolchain.review.items.MAX_FOLD", 2)
    review = Review(folder, collected(folder, Silent()), None, Silent())
    folds = Counter(item.fold for item in review.items.values())
    assert sorted(folds.values()) == [1, 1, 1, 2, 2]


def test_pictures_go_into_class_folders_stay_or_are_set_aside(folder: Path, tmp_path: Path) -> None:
    review = _review(folder, tmp_path / "photos")
    first, second, third = review.left
    names = [item.name for item in review.items.values()]
    review.move([first], "dog")
    review.keep([second])
    review.set_aside([third])
    assert (tmp_path / "photos/dog" / names[0]).is_file()
    assert (folder / names[1]).is_file()
    assert not (folder / names[2]).exists()
    assert review.path(first) == tmp_path / "photos/dog" / names[0]
    done = review.done()
    assert (done.moved, done.kept, done.set_aside, done.left) == ({"dog": 1}, 1, 1, 0)
    review.close()
    again = _review(folder, tmp_path / "photos")
    assert again.left == (), "what was kept is not asked again"


def test_undo_shows_it_again_in_its_place(folder: Path, tmp_path: Path) -> None:
    review = _review(folder, tmp_path / "photos")
    order = review.left
    review.move([order[1]], "cat")
    assert review.left == (order[0], order[2])
    assert review.undo() == (order[1],)
    assert review.left == order
    assert review.undo() == ()


def test_a_new_class_and_a_train_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    review = _review(folder, tmp_path / "photos")
    assert review.classes == ["cat", "dog", "fish"]
    review.move([review.left[0]], "  Great Dane ")
    assert len(list((tmp_path / "photos/train/Great Dane").iterdir())) == 1
    assert "Great Dane" in review.classes


@pytest.mark.parametrize(
    "name", ["", "  ", ".hidden", "..", "a/b", "a\\b", "a\nb", "c:d", "train", "Test", "x" * 101, "\u202ecat"]
)
def test_what_cannot_be_a_class(name: str) -> None:
    with pytest.raises(BadInputError, match="cannot be the name of a class"):
        check_class(name)


def test_decisions_that_cannot_be_are_refused(folder: Path, tmp_path: Path) -> None:
    review = _review(folder, None)
    number = review.left[0]
    with pytest.raises(BadInputError, match="no folder to move pictures into"):
        review.move([number], "cat")
    with pytest.raises(BadInputError, match="was decided already"):
        review.keep([99])
    review.keep([number])
    with pytest.raises(BadInputError, match="was decided already"):
        review.set_aside([number])


def test_suspects_move_between_the_classes_of_their_split(tmp_path: Path, drawn_folder: Path) -> None:
    shutil.copytree(drawn_folder, tmp_path / "data/train")
    shutil.copytree(drawn_folder, tmp_path / "data/test")
    photo = min((tmp_path / "data/test/cat").iterdir())
    items = [
        Item(f"{side}/cat/{photo.name}", "", "cat", (("dog", 0.97), ("cat", 0.01)), "")
        for side in ("test", "train")
    ]
    review = Review(tmp_path / "data", items, tmp_path / "data", Silent())
    review.move(list(review.left), "dog")
    for side in ("test", "train"):
        assert (tmp_path / "data" / side / "dog" / photo.name).is_file()
        assert not (tmp_path / "data" / side / "cat" / photo.name).exists()
    assert len(review.undo()) == 2, "what was decided together is undone together"


def test_a_suspect_stays_in_its_group_and_in_a_folder_of_any_spelling(tmp_path: Path) -> None:
    """Archives of a Mac spell umlauts as two signs; groups are folders below those of the classes."""
    kitten, spelt = "K\u00e4tzchen", "Ka\u0308tzchen"
    for level, label in ((50, spelt), (200, "dog")):
        (tmp_path / label / "garden-1").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / label / "garden-1/3.jpg"), np.full((40, 40, 3), level, np.uint8))
    names = {kitten: f"{spelt}/garden-1/3.jpg", "dog": "dog/garden-1/3.jpg"}
    answer = (("dog", 0.97), (kitten, 0.01))
    items = [Item(name, "", label, answer, "") for label, name in names.items()]
    assert all(placed(item) for item in items)
    review = Review(tmp_path, items, tmp_path, Silent())
    assert review.classes == [kitten, "dog"]
    numbers = {item.label: number for number, item in review.items.items()}
    review.move([numbers[kitten]], "dog")
    review.move([numbers["dog"]], kitten)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")}
    assert found == {"dog/garden-1/3-2.jpg", f"{spelt}/garden-1/3.jpg"}


def test_what_lies_elsewhere_has_no_place_among_the_classes() -> None:
    for name in ("PetImages/cat/1.jpg", "images/cat_1.jpg", "cat.jpg"):
        assert placed(Item(name, "", "cat", (), "")) is None
    assert placed(Item("Train/cat/a/1.jpg", "", "cat", (), "")) == (PurePosixPath("Train"), PurePosixPath("a"))
