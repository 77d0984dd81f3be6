from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from datasets_support import Remembering, Server

from toolchain.datasets.catalogue import open_dataset
from toolchain.datasets.cats_vs_dogs import CATS_VS_DOGS
from toolchain.datasets.fetch import DOWNLOADS, fetch
from toolchain.datasets.named import Download, NamedDataset
from toolchain.datasets.pets import PETS
from toolchain.errors import BadInputError, MissingError

BREEDS = (("Abyssinian", 1, "1 1"), ("beagle", 5, "2 4"))


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for name, content in files.items():
            package.writestr(name, content)
    return buffer.getvalue()


def served(server: Server, entry: NamedDataset, archives: dict[str, bytes]) -> NamedDataset:
    """The data set `entry`, coming from the local server."""
    downloads = []
    for name, content in archives.items():
        server.files[f"/{name}"] = content
        digest = f"md5:{hashlib.md5(content).hexdigest()}" if entry is PETS else ""
        downloads.append(Download(f"{server.url}/{name}", len(content), digest))
    return replace(entry, downloads=tuple(downloads))


@pytest.fixture
def pets(server: Server) -> NamedDataset:
    lines = {
        side: "".join(
            f"{breed}_{number} {class_id} {rest}\n" for breed, class_id, rest in BREEDS for number in numbers
        )
        for side, numbers in (("trainval", range(1, 30)), ("test", range(30, 35)))
    }
    images = {
        f"images/{breed}_{number}.jpg": f"{breed} {number}".encode()
        for breed, _, _ in BREEDS
        for number in range(1, 35)
    }
    return served(
        server,
        PETS,
        {
            "images.tar.gz": tar_of(images),
            "annotations.tar.gz": tar_of(
                {f"annotations/{side}.txt": text.encode() for side, text in lines.items()}
            ),
        },
    )


def test_pets_arrive_and_open(
    pets: NamedDataset,
    server: Server,
    tmp_path: Path,
    reporter: Remembering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "data"
    server.cut_after = [300]
    folder = fetch(pets, root, reporter=reporter, pause=lambda seconds: None)
    assert folder == root / "oxford-iiit-pet"
    assert [path.name for path in root.iterdir()] == ["oxford-iiit-pet"]
    monkeypatch.setenv("EDGETL_DATA", str(root))
    dataset = open_dataset("pets")
    assert dataset.classes == ("Abyssinian", "beagle")
    assert len(dataset.splits["test"]) == 10

    requests = len(server.ranges_seen)
    assert fetch(pets, root, reporter=reporter) == folder
    assert len(server.ranges_seen) == requests
    assert any("already" in line for line in reporter.said)


def test_an_empty_folder_that_is_a_link_to_another_disk_is_filled(
    pets: NamedDataset, tmp_path: Path, reporter: Remembering
) -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as disk:
        (tmp_path / "oxford-iiit-pet").symlink_to(disk)
        folder = fetch(pets, tmp_path, reporter=reporter, pause=lambda seconds: None)
        assert folder.is_symlink()
        assert sorted(path.name for path in Path(disk).iterdir()) == ["annotations", "images"]
        assert [path.name for path in tmp_path.iterdir()] == ["oxford-iiit-pet"]


@pytest.mark.parametrize("is_mounted", [True, False])
def test_what_a_killed_fetch_has_left_goes_and_a_new_disk_counts_as_empty(
    is_mounted: bool, pets: NamedDataset, tmp_path: Path, reporter: Remembering
) -> None:
    disk = tmp_path / "oxford-iiit-pet"
    left = (disk if is_mounted else tmp_path) / ".oxford-iiit-pet.abcd1234" / "oxford-iiit-pet"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"half")
    if is_mounted:
        (disk / "lost+found").mkdir()
    assert fetch(pets, tmp_path, reporter=reporter, pause=lambda seconds: None) == disk
    expected = ["annotations", "images", *["lost+found"] * is_mounted]
    assert sorted(path.name for path in disk.iterdir()) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["oxford-iiit-pet"]


def test_cats_vs_dogs_arrive_and_open(
    server: Server, tmp_path: Path, reporter: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        f"PetImages/{name}/{number}.jpg": f"{name}{number}".encode()
        for name in ("Cat", "Dog")
        for number in range(40)
    }
    dataset = served(server, CATS_VS_DOGS, {"kagglecatsanddogs_5340.zip": zip_of(files | {"readme[1].txt": b"r"})})
    assert fetch(dataset, tmp_path, reporter=reporter) == tmp_path / "cats-vs-dogs" / "PetImages"
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path))
    assert open_dataset("cats-vs-dogs").classes == ("cat", "dog")


def test_a_harmful_archive_leaves_nothing_behind(server: Server, tmp_path: Path, reporter: Remembering) -> None:
    dataset = served(server, CATS_VS_DOGS, {"a.zip": zip_of({"PetImages/Cat/1.jpg": b"1", "../escape.jpg": b"2"})})
    root = tmp_path / "data"
    with pytest.raises(BadInputError, match="leads out"):
        fetch(dataset, root, reporter=reporter)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_something_else_in_its_place_is_not_touched(
    pets: NamedDataset, server: Server, tmp_path: Path, reporter: Remembering
) -> None:
    (tmp_path / "oxford-iiit-pet" / "annotations").mkdir(parents=True)
    (tmp_path / "oxford-iiit-pet" / "annotations" / "mine.txt").write_text("mine")
    with pytest.raises(BadInputError, match="does not hold the data set pets"):
        fetch(pets, tmp_path, reporter=reporter)
    assert server.ranges_seen == []
    assert (tmp_path / "oxford-iiit-pet" / "annotations" / "mine.txt").read_text() == "mine"


def test_too_little_room_is_told_before_the_download(
    pets: NamedDataset, server: Server, tmp_path: Path, reporter: Remembering
) -> None:
    huge = replace(pets, downloads=tuple(replace(d, size_bytes=10**18) for d in pets.downloads))
    with pytest.raises(MissingError, match="needs 4200000000"):
        fetch(huge, tmp_path, reporter=reporter)
    assert server.ranges_seen == []


def test_offline(tmp_path: Path, reporter: Remembering) -> None:
    dataset = replace(PETS, downloads=(Download("http://127.0.0.1:9/images.tar.gz", 1000, ""),))
    with pytest.raises(MissingError, match="cannot be downloaded"):
        fetch(dataset, tmp_path, reporter=reporter)
    assert not (tmp_path / DOWNLOADS).exists()


def test_read_only_folders(pets: NamedDataset, tmp_path: Path, reporter: Remembering) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0o555)
    with pytest.raises(BadInputError, match="read-only"):
        fetch(pets, root, reporter=reporter)
