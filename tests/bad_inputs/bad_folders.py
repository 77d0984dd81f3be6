"""Folders of photographs that are arranged wrongly, hold other things, or lead in circles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bad_inputs.bad_photographs import encoded, picture
from tests.bad_inputs.entry import GOOD, MODEL, Entry, Make, Stock, camera, nothing, predict

DATA = "photos"
INFO, CHECK = ("data", "info", DATA), ("data", "check", DATA)
FINETUNE = ("finetune", DATA, "--weights", "none", "--out", "run", "--device", "cpu", "--no-cache")
READ = (INFO, CHECK)
ALL = (*READ, FINETUNE, ("bench", MODEL, "--data", DATA, "--device", "ort:cpu", "--rounds", "1"))


def _photograph(number: int) -> bytes:
    return encoded("png", picture(24, 24 + number))


def _tree(*names: str, other: Mapping[str, bytes] | None = None) -> Make:
    """Photographs, each another, and other files; a name that ends in / is an empty folder."""

    def make(stock: Stock, place: Path) -> None:
        for number, name in enumerate(names):
            path = place / DATA / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            else:
                path.write_bytes(_photograph(number))
        for name, content in (other or {}).items():
            path = place / DATA / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return make


def _then(make: Make, act: Callable[[Path], object]) -> Make:
    def both(stock: Stock, place: Path) -> None:
        make(stock, place)
        act(place / DATA)

    return both


def _many(folder: str, count: int) -> tuple[str, ...]:
    return tuple(f"{folder}/{number}.png" for number in range(count))


TWO = (*_many("cat", 6), *_many("dog", 6))
REFUSED: dict[str, Make] = {
    "missing": nothing,
    "empty": _tree("./"),
    "one-class": _tree(*_many("cat", 6)),
    "loose-photographs": _tree("1.png", "2.png"),
    "empty-classes": _tree("cat/", "dog/"),
    "one-empty-class": _tree(*_many("cat", 6), "dog/"),
    "classes-of-text": _tree(other={"cat/1.txt": b"cat", "dog/1.txt": b"dog"}),
    "one-photograph-each": _tree("cat/1.png", "dog/1.png"),
    "val-alone": _tree("val/cat/1.png", "val/dog/1.png"),
    "val-with-a-class-more": _tree(
        *(f"train/{name}" for name in TWO), *_many("val/cat", 2), *_many("val/dog", 2), *_many("val/fish", 2)
    ),
    "train-twice": _tree(*(f"train/{name}" for name in TWO), *(f"training/{name}" for name in TWO)),
    "hidden-classes": _tree(".cat/1.png", ".dog/1.png"),
    "set-aside-alone": _tree("cat.set-aside/1.png", "dog.set-aside/1.png"),
    "all-broken": _tree(other={f"{name}/{number}.jpg": b"?" for name in ("cat", "dog") for number in range(5)}),
    "all-empty": _tree(other={f"{name}/{number}.jpg": b"" for name in ("cat", "dog") for number in range(5)}),
    "all-the-same": _tree(
        other={f"{name}/{number}.png": _photograph(0) for name in ("cat", "dog") for number in range(5)}
    ),
    "a-file": lambda stock, place: (place / DATA).write_bytes(b"no folder") and None,
    "a-link-to-itself": lambda stock, place: (place / DATA).symlink_to(DATA),
    "a-link-to-nothing": lambda stock, place: (place / DATA).symlink_to("gone"),
    "a-pipe": lambda stock, place: os.mkfifo(place / DATA),
}
USABLE_IN_PART = {"all-broken", "all-empty", "all-the-same", "one-photograph-each"}
LISTED = {
    "one-class",
    "empty-classes",
    "one-empty-class",
    "classes-of-text",
    "val-alone",
    "val-with-a-class-more",
    "train-twice",
}
"""What is wrong with them is what `data check` finds."""
WRONG = tuple(
    Entry(
        name,
        ALL,
        make,
        (0, 1, 2) if name in USABLE_IN_PART else (1, 2) if name in LISTED else (2,),
        leaves=("place/run*",),
    )
    for name, make in REFUSED.items()
)


def _pipe_among(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.jpg")


def _circle(folder: Path) -> None:
    (folder / "cat" / "again").symlink_to(folder, target_is_directory=True)


def _circle_of_files(folder: Path) -> None:
    (folder / "cat" / "a.jpg").symlink_to("b.jpg")
    (folder / "cat" / "b.jpg").symlink_to("a.jpg")


def _dangling(folder: Path) -> None:
    (folder / "cat" / "gone.jpg").symlink_to("nowhere.jpg")


def _class_is_a_link_to_above(folder: Path) -> None:
    (folder / "fish").symlink_to("..", target_is_directory=True)


def _folder_called_jpg(folder: Path) -> None:
    (folder / "cat" / "folder.jpg").mkdir()


def _link_to_zero(folder: Path) -> None:
    (folder / "cat" / "zero.jpg").symlink_to("/dev/null")


def _deep(folder: Path) -> None:
    path = folder / "cat"
    for _ in range(60):
        path /= "deeper"
    path.mkdir(parents=True)
    (path / "1.png").write_bytes(_photograph(99))


def _wide(folder: Path) -> None:
    for number in range(300):
        (folder / f"class-{number:03}").mkdir()
        (folder / f"class-{number:03}" / "1.png").write_bytes(_photograph(number))


def _macos(folder: Path) -> None:
    (folder / "cat" / "._1.jpg").write_bytes(b"\0\5\26\7")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "__MACOSX").mkdir()
    (folder / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def _same_in_two(folder: Path) -> None:
    shutil.copyfile(folder / "cat/0.png", folder / "dog/copy.png")


def _one_broken(folder: Path) -> None:
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")


AMONG: dict[str, Callable[[Path], object]] = {
    "pipe": _pipe_among,
    "circle-of-folders": _circle,
    "circle-of-files": _circle_of_files,
    "dangling-link": _dangling,
    "class-that-leads-up": _class_is_a_link_to_above,
    "folder-called-jpg": _folder_called_jpg,
    "link-to-a-device": _link_to_zero,
    "60-folders-deep": _deep,
    "300-classes-of-one": _wide,
    "what-macos-and-windows-leave": _macos,
    "same-photograph-in-two-classes": _same_in_two,
    "one-broken": _one_broken,
}
MIXED = tuple(
    Entry(
        f"among-{name}",
        (*READ, predict(DATA), camera(DATA, "--seconds-per-image", "0.01")),
        _then(_tree(*TWO), act),
        (0, 1, 2),
        limit_s=5,
    )
    for name, act in AMONG.items()
)

WORDS: dict[str, tuple[str, ...]] = {
    "data-empty-word": ("data", "info", ""),
    "data-unknown": ("data", "info", "flowers"),
    "data-nearly-known": ("data", "check", "drawn_pets"),
    "data-of-the-kernel": ("data", "info", "/proc/self/fdinfo"),
    "data-a-device": ("data", "check", "/dev/null"),
    "data-a-model": ("data", "info", MODEL),
    "data-a-photograph": ("data", "check", GOOD),
    "data-a-url": ("data", "info", "https://127.0.0.1:9/photos"),
    "data-of-300-bytes": ("data", "info", "d" * 300),
    "data-of-600-bytes": ("data", "info", "d/" * 300),
    "data-home-of-nobody": ("data", "info", "~nobody-at-all/photos"),
    "data-named-and-missing": ("data", "info", "pets"),
    "outliers-missing": (*FINETUNE, "--outliers", "gone"),
    "outliers-a-file": (*FINETUNE, "--outliers", GOOD),
    "weights-missing": ("finetune", DATA, "--weights", "gone.pth", "--out", "run", "--device", "cpu"),
    "weights-a-photograph": ("finetune", DATA, "--weights", GOOD, "--out", "run", "--device", "cpu"),
    "weights-a-model": ("finetune", DATA, "--weights", MODEL, "--out", "run", "--device", "cpu"),
    "weights-a-folder": ("finetune", DATA, "--weights", DATA, "--out", "run", "--device", "cpu"),
}
NAMED = tuple(Entry(name, (words,), _tree(*TWO), (2, 3), leaves=("place/run*",)) for name, words in WORDS.items())

ENTRIES = (*WRONG, *MIXED, *NAMED)
