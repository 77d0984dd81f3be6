"""Folders as people have them, each odd in one way, and how to tell that no file in them was passed over.

All begin with the classes cat and dog, twelve small photographs each.
"""

from __future__ import annotations

import io
import json
import os
import socket
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from toolchain.images.preprocess import HEIC_NEEDS

BASE = 24
"""Photographs that are there before a folder gets odd."""


@cache
def picture(seed: int, kind: str = "JPEG") -> bytes:
    """A small picture of its own, encoded; its end is cut off where `kind` is "cut"."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    image = PIL.Image.fromarray(cv2.resize(pixels, (80, 72), interpolation=cv2.INTER_CUBIC))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if kind == "cut" else kind)
    data = buffer.getvalue()
    return data[:-300] if kind == "cut" else data


def heic() -> bytes:
    """The beginning of an iPhone's photograph: enough to be recognised, not to be decoded."""
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(300)


VIDEO = b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  " + bytes(100)
RAW = b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(100)


@dataclass(frozen=True)
class Odd:
    """One folder. `more` photographs are used besides the `BASE`; `reasons` are said of what is not.

    `build` gets the data's folder and one elsewhere. With `problem`, it cannot be trained on, and that is why.
    """

    build: Callable[[Path, Path], None]
    more: int = 0
    reasons: tuple[str, ...] = ()
    problem: str = ""
    needs: str = ""
    """`linux`; `permissions`: somebody whom they bind. Links need POSIX anyway."""


def base(root: Path) -> None:
    for label, first in (("cat", 0), ("dog", 100)):
        put(root, {f"{label}/{number}.jpg": picture(first + number) for number in range(12)})


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def files(contents: dict[str, bytes]) -> Callable[[Path, Path], None]:
    return lambda root, elsewhere: put(root, contents)


def _links(links: dict[str, str], contents: dict[str, bytes] | None = None) -> Callable[[Path, Path], None]:
    """Links by name; `@` stands for the folder elsewhere, which holds three photographs."""

    def build(root: Path, elsewhere: Path) -> None:
        put(
            elsewhere, {f"{name}.jpg": picture(500 + number) for number, name in enumerate(("one", "two", "three"))}
        )
        put(root, contents or {})
        for name, target in links.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target.replace("@", str(elsewhere)))

    return build


def _locked(name: str) -> Callable[[Path, Path], None]:
    def build(root: Path, elsewhere: Path) -> None:
        put(root, {"cat/private/a.jpg": picture(600), "cat/b.jpg": picture(601)})
        (root / name).chmod(0)

    return build


def _no_files(root: Path, elsewhere: Path) -> None:
    os.mkfifo(root / "cat" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root / "dog", os.O_RDONLY)  # a socket's path must be short
        server.bind(f"/proc/self/fd/{here}/socket.jpg")
        os.close(here)


def _not_text(root: Path, elsewhere: Path) -> None:
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/caf\xe9.jpg")).write_bytes(picture(700))
    folder = Path(os.fsdecode(os.fsencode(root / "dog") + b"/caf\xe9"))
    put(folder, {"a.jpg": picture(701)})


def _sides(root: Path, elsewhere: Path) -> None:
    (root / "train").mkdir()
    for label in ("cat", "dog"):
        (root / label).rename(root / "train" / label)
    put(
        root,
        {
            f"{side}/{label}/1.jpg": picture(hash_of(side, label))
            for side in ("val", "test")
            for label in ("cat", "dog")
        },
    )
    put(root, {"extra/cat/a.jpg": picture(820), "loose.jpg": picture(821), "train/stray.jpg": picture(822)})


def hash_of(*words: str) -> int:
    return 10_000 + sum(map(ord, "".join(words)))


def _copy_in_test(root: Path, elsewhere: Path) -> None:
    (root / "train").mkdir()
    for label in ("cat", "dog"):
        (root / label).rename(root / "train" / label)
    put(root, {"test/cat/held.jpg": picture(0), "test/dog/held.jpg": picture(901)})


COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
RUN = json.dumps({"schema": "edgetl.run/1", "command": "edgetl finetune"}).encode()
BENCH = json.dumps({"schema": "edgetl.bench/1"}).encode()
PAGE = b'<!doctype html>\n<html lang="en">\n<meta name="generator" content="edgetl 0.1.0">'
THUMBNAILS = {
    f"{label}/@eaDir/{n}.jpg/SYNOPHOTO_THUMB_XL.jpg": picture(300 + n) for label in ("cat", "dog") for n in range(4)
}

ODD: dict[str, Odd] = {
    "as it should be": Odd(files({})),
    "names of phones and browsers": Odd(
        files(
            {
                "cat/a.jfif": picture(200),
                "cat/b.JPE": picture(201),
                "cat/c.jpg.1": picture(202),
                "cat/no suffix": picture(203),
                "dog/d.avif": picture(204, "AVIF"),
                "dog/e.jp2": picture(205, "JPEG2000"),
                "dog/download.webp_large": picture(206, "WEBP"),
                "dog/f.dat": picture(207, "PNG"),
            }
        ),
        more=8,
    ),
    "iPhone": Odd(files({"cat/IMG_1.HEIC": heic(), "cat/IMG_1.MOV": VIDEO}), reasons=("video", HEIC_NEEDS)),
    "HEIC under another name": Odd(files({"dog/IMG_2.heif": heic(), "dog/IMG_3": heic()}), reasons=(HEIC_NEEDS,)),
    "a camera's card": Odd(
        files({"cat/a.CR2": RAW, "cat/a.NEF": b"II*\x00" + bytes(60), "cat/a.MP4": VIDEO, "cat/a.xmp": b"<x/>"}),
        reasons=("camera raw", "video", "text"),
    ),
    "backups and thumbnails": Odd(
        files({"cat/0.jpg_original": picture(220), "dog/0.jpg~": picture(221), "dog/MVI_1.THM": picture(222)}),
        reasons=("a backup of the file beside it", "the thumbnail of a video"),
    ),
    "a backup of nothing": Odd(files({"cat/gone.jpg_original": picture(223)}), more=1),
    "papers": Odd(
        files({"cat/a.pdf": b"%PDF-1.4\n", "dog/labels.csv": b"a,b\n", "dog/all.zip": b"PK\x03\x04", "dog/x": b""}),
        reasons=("PDF", "text", "archive", "an empty file"),
    ),
    "file managers": Odd(
        files({"cat/.DS_Store": b"\0", "cat/Thumbs.db": b"\0", "dog/desktop.ini": b"[x]", "dog/._1.jpg": b"\0\5"}),
        reasons=("a file of the system",),
    ),
    "hidden": Odd(
        files({"cat/.a.jpg": picture(210), ".git/objects/x": b"x", "dog/.old/b.jpg": picture(211)}),
        reasons=("hidden",),
    ),
    "Synology": Odd(files(THUMBNAILS), reasons=("in a helper folder of the system",)),
    "Synology beside the classes": Odd(
        files({"@eaDir/cat/x.jpg": picture(310), "#recycle/a.jpg": picture(311)}),
        reasons=("in a helper folder of the system",),
    ),
    "Windows": Odd(
        files({"$RECYCLE.BIN/S-1/a.jpg": picture(312), "System Volume Information/x.dat": b"\0\1"}),
        reasons=("in a helper folder of the system",),
    ),
    "a disk of Linux": Odd(
        files({"lost+found/#12": picture(313), ".Trash-1000/files/a.jpg": picture(314)}),
        reasons=("in a helper folder of the system",),
    ),
    "unpacked on another system": Odd(
        files({"__MACOSX/cat/._1.jpg": b"\0", "cat/__MACOSX/a.jpg": picture(315)}),
        reasons=("in a helper folder of the system",),
    ),
    "a photo program's library": Odd(
        files({"cat/Photos.photoslibrary/resources/derivatives/a.jpg": picture(316)}),
        reasons=("in the library of a photo program",),
    ),
    "runs below the data": Odd(
        files({"runs/a/run.json": RUN, "runs/a/confusion.png": picture(400, "PNG"), "runs/x/bench.json": BENCH}),
        reasons=("written by edgetl",),
    ),
    "an unfinished run": Odd(
        files({"run/checkpoint/settings.json": b'{"settings": {}, "data_sha256": "0"}', "run/splits.json": b"{}"}),
        reasons=("written by edgetl",),
    ),
    "explanations": Odd(
        files({"looked/index.html": PAGE, "looked/a.png": picture(401), "explain/why-1/b.png": picture(402)}),
        reasons=("written by edgetl",),
    ),
    "set aside below the data": Odd(
        files({"cat.set-aside/1/a.jpg": picture(403), "cat.set-aside/1.json": b"{}", ".set-aside/1.json": b"{}"}),
        reasons=("written by edgetl",),
    ),
    "a class called runs": Odd(
        files(
            {f"runs/{n}.jpg": picture(410 + n) for n in range(9)}
            | {"runs/1/run.json": RUN, "runs/1/a.png": picture(404)}
        ),
        more=9,
        reasons=("written by edgetl",),
    ),
    "a picture saved from the camera's window": Odd(
        files({"cat/edgetl-20260101-120000.png": picture(405, "PNG")}), reasons=("written by edgetl",)
    ),
    "files beside the classes": Odd(
        files({"cover.jpg": picture(420), "README.md": b"# Photographs\n", "labels.txt": b"cat\ndog\n"}),
        reasons=("outside the class folders", "text"),
    ),
    "a class in two spellings": Odd(
        files(
            {f"{COMPOSED}/{n}.jpg": picture(430 + n) for n in range(8)}
            | {f"{DECOMPOSED}/{n}.jpg": picture(440 + n) for n in range(7)}
        ),
        more=15,
        needs="linux",
    ),
    "a linked folder of more photographs": Odd(_links({"cat/more": "@"}), more=3, needs="linux"),
    "the same folder linked twice": Odd(
        _links({"cat/more": "@", "cat/again": "@"}), 3, reasons=("a link to a folder that is searched already",)
    ),
    "a link to a folder of the same class": Odd(
        _links({"cat/a link": "real"}, {"cat/real/x.jpg": picture(450)}),
        more=1,
        reasons=("a link to a folder that is searched already",),
    ),
    "links in circles": Odd(
        _links({"cat/self": ".", "cat/up": "..", "dog/round": "about", "dog/about": "round", "all": "."}),
        reasons=("a link back to a folder that it lies in", "a link that leads nowhere"),
    ),
    "links that lead nowhere": Odd(
        _links({"cat/gone.jpg": "@/gone.jpg", "dog/folder": "@/gone"}), reasons=("a link that leads nowhere",)
    ),
    "a class that is a link": Odd(_links({"bird": "@"}), more=3),
    "a linked photograph": Odd(_links({"cat/linked.jpg": "@/one.jpg"}), more=1),
    "an unreadable folder": Odd(
        _locked("cat/private"), more=1, reasons=("cannot be read: Permission denied",), needs="permissions"
    ),
    "an unreadable file": Odd(
        _locked("cat/b.jpg"), more=2, reasons=("cannot be read: Permission denied",), needs="permissions"
    ),
    "pipes and sockets": Odd(_no_files, reasons=("neither a file nor a folder",), needs="linux"),
    "names that are not text": Odd(_not_text, more=1, reasons=("its name is not valid text",), needs="linux"),
    "names of every kind": Odd(
        files({"cat/[bold].jpg": picture(460), "dog/a\nb.jpg": picture(461), "dog/кошка 🐱.jpg": picture(462)}),
        more=3,
        needs="linux",
    ),
    "deep": Odd(files({f"cat/{'/'.join('abcdefgh')}/x.jpg": picture(470)}), more=1),
    "train, val and test, and more": Odd(
        _sides, more=4, reasons=("in a folder beside train", "outside the class folders")
    ),
    "a class called train": Odd(files({f"train/{n}.jpg": picture(480 + n) for n in range(9)}), more=9),
    "a copy in test": Odd(_copy_in_test, more=2, reasons=("the same photograph is in test",)),
    "no pictures under the names of pictures": Odd(
        files({"cat/a.jpg": b"words", "cat/b.png": b"", "dog/c.jpg": picture(490, "cut")}), more=3
    ),
    "empty class folders": Odd(
        files({"fish/readme.txt": b"none yet", "bird/.DS_Store": b"\0", "emu/a.HEIC": heic()}),
        problem="3 class folders hold no photographs: bird, emu",
        reasons=("text", "a file of the system"),
    ),
    "a stranger in test": Odd(
        lambda root, elsewhere: (_copy_in_test(root, elsewhere), put(root, {"test/emu/a.jpg": picture(902)}))[0],
        more=3,
        problem="test holds the class emu, which train does not",
    ),
}  # fmt: skip


def on_disk(root: Path) -> set[str]:
    """All that is below `root` and no folder itself: files, links, pipes. Not looked up with edgetl's own eyes."""
    found = set()
    for parent, folders, names in os.walk(root):
        below = Path(parent).relative_to(root)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found |= {(below / name).as_posix() for name in (*names, *links)}
    return found


def passed_over(root: Path, used: Iterable[str], left_out: Iterable[str]) -> set[str]:
    """Files that are neither used nor left out by name, and names that are both, twice or nowhere on disk."""
    used, left_out = list(used), list(left_out)
    names = used + left_out
    wrong = {name for name in names if names.count(name) > 1}
    folders = {name for name in left_out if name.endswith("/")}
    disk = on_disk(root)
    for name in disk - set(names):
        # A folder that cannot be read or is linked is named itself; a link that is followed by what lies behind it.
        if f"{name}/" not in folders and not any(other.startswith(f"{name}/") for other in names):
            wrong.add(name)
    known = disk | {f"{name}/" for name in disk}
    links = tuple(f"{name}/" for name in disk if (root / name).is_dir())
    wrong |= {
        name for name in names if name not in known and not name.startswith(links) and not (root / name).is_dir()
    }
    return wrong
