from __future__ import annotations

from pathlib import Path

import pytest

from toolchain.datasets.catalogue import DATASETS, data_root, open_dataset, photographs_of
from toolchain.datasets.drawn_pets import make
from toolchain.drawn import pets as drawn
from toolchain.errors import BadInputError, ExitCode, MissingError
from toolchain.system.progress import Silent


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw two pictures for each class instead of eighty."""
    monkeypatch.setattr(drawn, "COUNTS", {"train": 1, "test": 1})


def test_a_folder_by_path(drawn_folder: Path) -> None:
    dataset = open_dataset(str(drawn_folder))
    assert dataset.classes == ("cat", "dog", "fish")
    assert {split: len(photos) for split, photos in dataset.splits.items()} == {
        "train": 15,
        "val": 3,
        "calibration": 3,
        "test": 3,
    }
    (few,) = dataset.warnings
    assert few.startswith("fewer than 50 photographs of cat (8), dog (8), fish (8)")


def test_a_bare_name_is_the_catalogues_and_a_path_is_a_folder(root: Path, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "pets" / label / f"{number}.jpg").write_bytes(f"{label} {number}".encode())
    with pytest.raises(MissingError):
        open_dataset("pets")
    assert open_dataset("./pets").classes == ("cat", "dog")


def test_a_named_data_set_that_is_not_here(root: Path) -> None:
    with pytest.raises(MissingError) as caught:
        open_dataset("pets")
    assert caught.value.exit_code == ExitCode.MISSING
    assert str(root / "oxford-iiit-pet") in caught.value.message
    assert "edgetl data fetch pets" in caught.value.hint
    assert "EDGETL_DATA" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("petz", "Did you mean pets?"),
        ("cats_vs_dogs", "Did you mean cats-vs-dogs?"),
        ("Drawn-Pets", "Did you mean drawn-pets?"),
    ],
)
def test_near_misses(root: Path, data: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_dataset(data)
    assert said in caught.value.hint


@pytest.mark.parametrize("data", ["", "flowers"])
def test_unknown_names_list_what_is_known(root: Path, data: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_dataset(data)
    assert "Did you mean" not in caught.value.hint
    assert "pets, cats-vs-dogs, drawn-pets" in caught.value.hint


def test_the_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("EDGETL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root().name == "edgetl"


@pytest.mark.usefixtures("few")
def test_drawn_pets_are_drawn_once_and_again_when_incomplete(root: Path) -> None:
    folder = make(root, Silent())
    assert folder == root / "drawn-pets-v1"
    pictures = {path: path.read_bytes() for path in folder.glob("*/*/*.jpg")}
    assert len(pictures) == 12
    first = folder / "train" / "cat" / "cat-000.jpg"
    before = first.stat().st_mtime_ns
    assert make(root, Silent()) == folder
    assert first.stat().st_mtime_ns == before

    first.write_bytes(b"")
    (folder / "test" / "dog" / "dog-001.jpg").unlink()
    assert make(root, Silent()) == folder
    assert {path: path.read_bytes() for path in folder.glob("*/*/*.jpg")} == pictures
    assert [path.name for path in root.iterdir()] == ["drawn-pets-v1"]


def test_the_name_drawn_pets_opens_them_with_their_own_splits(root: Path) -> None:
    folder = root / drawn.FOLDER
    for side, count in drawn.COUNTS.items():
        for label in drawn.CLASSES:
            (folder / side / label).mkdir(parents=True)
            for number in range(count):
                (folder / side / label / f"{number}.jpg").write_bytes(f"{side} {label} {number}".encode())
    dataset = open_dataset("drawn-pets")
    assert (dataset.name, dataset.classes) == ("drawn-pets", drawn.CLASSES)
    assert {side: len(photos) for side, photos in dataset.splits.items()}["test"] == 120
    assert sum(len(photos) for photos in dataset.splits.values()) == 480
    assert dataset.licences


@pytest.mark.usefixtures("few")
def test_drawn_pets_go_to_the_cache_when_the_data_folder_is_read_only(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    root.mkdir()
    root.chmod(0o555)
    try:
        assert make(root, Silent()) == tmp_path / "cache" / "drawn-pets-v1"
        assert list(root.iterdir()) == []
    finally:
        root.chmod(0o755)


def test_photographs_of_a_run_are_found_where_they_are_now(
    tmp_path: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = str(tmp_path / "old" / drawn_folder.name)
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "nowhere"))
    assert photographs_of("x", str(drawn_folder)) == drawn_folder
    assert photographs_of("x", gone) == Path(gone), "to be named in the error"
    assert photographs_of("x", gone, str(drawn_folder)) == drawn_folder
    monkeypatch.setenv("EDGETL_DATA", str(drawn_folder.parent))
    assert photographs_of("x", gone) == drawn_folder
    with pytest.raises(BadInputError):
        photographs_of("x", str(drawn_folder), gone)


def test_each_built_in_entry_has_the_name_it_is_registered_by() -> None:
    assert {name: entry.name for name, entry in DATASETS.all().items()} == {name: name for name in DATASETS.names()}
    for entry in DATASETS.all().values():
        assert bool(entry.downloads) != bool(entry.make), "it is fetched or made"
        assert all(source.digest for source in entry.downloads)
