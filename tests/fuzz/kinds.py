"""What is made of whole things: each function lays a changed input into a folder, and tells the command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import changing, networks
from tests.fuzz.changing import as_json, as_toml, changed_boxes, changed_bytes, changed_tree

Draw = Callable[[Random, Path, Path], list[str]]
"""Of the folder of whole things and the folder to lay the input into (the current one): the words of a command."""

PICTURES = ("png", "jpg", "progressive.jpg", "webp", "bmp", "tif", "gif", "avif")
BOXES = {
    "png": (8, changing.png_chunk),
    "jpg": (2, changing.jpeg_segment),
    "avif": (0, changing.mp4_box),
    "mp4": (0, changing.mp4_box),
    "webp": (12, changing.riff_chunk),
    "avi": (12, changing.riff_chunk),
}
"""Where the parts of a file begin, and how long each is."""
NO_BOXES = 0, lambda data, at: 0
CLIPS = ("mp4", "avi", "gif", "webp")


def _lay(source: Path, target: Path) -> None:
    """Copy a folder; large files that nobody changes are the same file."""
    shutil.copytree(source, target, copy_function=lambda one, other: _copy(Path(one), Path(other)))


def _copy(one: Path, other: Path) -> None:
    os.link(one, other) if one.stat().st_size > 1 << 20 else shutil.copyfile(one, other)


def _replace(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def run(rng: Random, stock: Path, place: Path) -> list[str]:
    """A finished run of which a record or the weights are changed."""
    _lay(stock / "run", place / "run")
    name = rng.choice(("run.json", "run.json", "splits.json", "model.safetensors", "recommended.json"))
    path = place / "run" / name
    if name == "model.safetensors":
        _replace(path, _safetensors(rng, path.read_bytes()))
        return rng.choice((["explain", "features", "run", "--list-layers"], ["explain", "why", "run", "good.png"]))
    document = json.loads(path.read_bytes()) if path.exists() else {"schema": "edgetl.recommended/1", "found": []}
    _replace(path, as_json(rng, changed_tree(rng, document)))
    if name == "recommended.json":
        return ["predict", "run", "good.png", "--threads", "1"]
    nowhere = ["export", "run", "--data", ".", "--threads", "1"]
    return rng.choice((["explain", "features", "run", "--list-layers"], nowhere, nowhere))


def _safetensors(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.7:
        header = as_json(rng, changed_tree(rng, json.loads(header)))
    else:
        body = changed_bytes(rng, body)
    claimed = rng.choice((len(header),) * 9 + (0, 2**63, len(header) + 1))
    return claimed.to_bytes(8, "little") + header + body


def checkpoint(rng: Random, stock: Path, place: Path) -> list[str]:
    """A run that has not finished, of which settings, state, epochs or splits are changed."""
    _lay(stock / "unfinished", place / "run")
    name = rng.choice(("checkpoint/settings.json", "checkpoint/state.safetensors", "metrics.jsonl", "splits.json"))
    path = place / "run" / name
    if name.endswith("safetensors"):
        _replace(path, _safetensors(rng, path.read_bytes()))
    elif name == "metrics.jsonl":
        lines = path.read_bytes().splitlines(keepends=True) or [b"{}\n"]
        lines[rng.randrange(len(lines))] = as_json(rng, changed_tree(rng, json.loads(lines[0])))
        _replace(path, b"".join(lines))
    else:
        _replace(path, as_json(rng, changed_tree(rng, json.loads(path.read_bytes()))))
    return ["finetune", "--resume", "run"]


def recipe(rng: Random, stock: Path, place: Path) -> list[str]:
    tables = {
        "network": {"parameters": 2271269, "macs": 299541632, "size_mb": 9.1, "features": 1280},
        "finetune": {"epochs": 8, "learning_rate": 1e-4, "trained_blocks": 8, "ema_decay": 0.99, "crop_size": 176},
        "taught": {"epochs": 16},
        "measured": {"pets_top1": 0.898},
    }  # fmt: skip
    changed = changed_tree(rng, tables)
    tree = (
        {str(key): one for key, one in changed.items() if isinstance(one, dict)}
        if isinstance(changed, dict)
        else {}
    )
    (place / "r.toml").write_bytes(as_toml(rng, tree))
    return ["finetune", "nowhere", "--recipe", "r.toml", "--out", "out"]


def bench(rng: Random, stock: Path, place: Path) -> list[str]:
    document = json.loads((stock / "bench.json").read_bytes())
    names = ["new.json", "old.json"]
    rng.shuffle(names)
    (place / names[0]).write_text(json.dumps(document))
    (place / names[1]).write_bytes(as_json(rng, changed_tree(rng, document)))
    return ["bench", "new.json", "--compare", "old.json"]


def record(rng: Random, stock: Path, place: Path) -> list[str]:
    """What `data check --fix` set aside, with links and other things on the way."""
    aside = place / "photos.set-aside" / "1"
    outside = place / "outside"
    for folder in (place / "photos" / "cat", aside / "cat", outside):
        folder.mkdir(parents=True)
    (aside / "cat" / "bad.jpg").write_bytes(b"bad")
    (outside / "private").write_bytes(b"private")
    odd = rng.choice(
        (place / "photos" / "link", aside / "link", aside / "cat" / "more", place / "photos" / "cat" / "x")
    )
    match rng.randrange(4):
        case 0:
            odd.symlink_to(rng.choice((outside, Path("/etc"), odd, Path("/dev/zero"))))
        case 1:
            os.mkfifo(odd)
        case 2:
            odd.mkdir()
            (odd / "private").write_bytes(b"other")
        case _:
            odd.write_bytes(b"bad")
    names = (
        "cat/bad.jpg",
        "link/private",
        "link",
        "cat/more",
        "cat/x",
        "cat",
        "cat/../cat/bad.jpg",
        "link/../outside/x",
    )
    moved = [{"name": rng.choice(names), "reason": "?"} for _ in range(rng.randint(0, 3))]
    document: Any = {"schema": "edgetl.set-aside/1", "data": "photos", "moved": moved}
    if rng.random() < 0.4:
        document = changed_tree(rng, document)
    aside.with_suffix(".json").write_bytes(as_json(rng, document))
    return ["data", "restore", "photos.set-aside/1.json"]


def journal(rng: Random, stock: Path, place: Path) -> list[str]:
    """What a review decided; one photograph was moved, one set aside, one kept."""
    folder, aside = place / "photos", place / "photos.set-aside" / "1"
    pictures = sorted((stock / "photos" / "cat").glob("*.jpg"))[:3]
    homes = folder / "dog" / "0.jpg", aside / "1.jpg", folder / "cat" / "2.jpg"
    entries: list[Any] = []
    for step, (picture, home, now) in enumerate(zip(pictures, homes, (True, True, False), strict=True)):
        home.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, home)
        entries.append(
            {
                "step": step,
                "name": f"cat/{step}.jpg",
                "sha256": hashlib.sha256(picture.read_bytes()).hexdigest(),
                "now": str(home.relative_to(place)) if now else None,
                "label": ("dog", None, None)[step],
            }
        )
    if rng.random() < 0.3:
        entries[0]["now"] = rng.choice(("good.png", "/etc/passwd", "photos/../good.png", "photos"))
    document: Any = {"schema": "edgetl.review/1", "folder": "photos", "entries": entries}
    aside.with_suffix(".json").write_bytes(as_json(rng, changed_tree(rng, document)))
    return ["data", "restore", "photos.set-aside/1.json"]


def collected(rng: Random, stock: Path, place: Path) -> list[str]:
    """The lines that `camera --collect` writes, beside pictures."""
    folder = place / "kept"
    folder.mkdir()
    names = ("20261126T120000Z-1.jpg", "20261126T120001Z-2.jpg")
    for name in names[: rng.randint(0, 2)]:
        shutil.copyfile(stock / "whole.jpg", folder / name)
    answers = [["cat", 0.6], ["dog", 0.4]]
    common = {"time": "2026-11-26T12:00:00.000Z", "label": "cat", "probabilities": answers, "rejected": False}
    lines = [json.dumps({"file": name} | common | {"why": "uncertain"}).encode() for name in names]
    place_of = rng.randrange(2)
    if rng.random() < 0.7:
        lines[place_of] = as_json(rng, changed_tree(rng, json.loads(lines[place_of])))
    data = b"\n".join(lines) + b"\n"
    (folder / "collected.jsonl").write_bytes(changed_bytes(rng, data) if rng.random() < 0.5 else data)
    return ["-review", "kept"]


def album(rng: Random, stock: Path, place: Path) -> list[str]:
    """The folder of a lesson: its things, and what was learnt."""
    folder = place / "things"
    for name in ("cat", "dog"):
        shutil.copytree(stock / "photos" / name, folder / "photographs" / name)
    (folder / "run").mkdir()
    things: Any = {"schema": "edgetl.teach/1", "things": ["dog", "cat", "nothing_of_these"]}
    learnt: Any = {
        "run": "run", "things": ["dog", "cat"], "pictures": 12, "top1": 0.9, "top1_ci95": [0.7, 0.97], "takes": 2,
        "by_thing": {"dog": 1.0, "cat": None}, "others_rejected": None, "test": None, "seconds": 4.5,
    }  # fmt: skip
    if rng.random() < 0.6:
        things = changed_tree(rng, things)
    else:
        learnt = changed_tree(rng, learnt)
    (folder / "teach.json").write_bytes(as_json(rng, things))
    (folder / "run" / "taught.json").write_bytes(as_json(rng, learnt))
    return ["-album", "things"]


def photograph(rng: Random, stock: Path, place: Path) -> list[str]:
    kind = rng.choice([kind for kind in PICTURES if (stock / f"whole.{kind}").exists()])
    data = (stock / f"whole.{kind}").read_bytes()
    name = f"odd.{kind.rpartition('.')[2]}"
    folder = place / "photos" / "cat"
    folder.mkdir(parents=True)
    start, box = BOXES.get(name[4:], NO_BOXES)
    structured = rng.random() < 0.6
    (folder / name).write_bytes(changed_boxes(rng, data, start, box) if structured else changed_bytes(rng, data))
    return rng.choice(
        (["predict", "tiny.onnx", f"photos/cat/{name}", "--threads", "1"], ["data", "check", "photos"])
    )


def video(rng: Random, stock: Path, place: Path) -> list[str]:
    kind = rng.choice([kind for kind in CLIPS if (stock / f"clip.{kind}").exists()])
    data = (stock / f"clip.{kind}").read_bytes()
    start, box = BOXES.get(kind, NO_BOXES)
    structured = rng.random() < 0.6
    clip = changed_boxes(rng, data, start, box) if structured else changed_bytes(rng, data)
    (place / f"clip.{kind}").write_bytes(clip)
    return ["camera", "tiny.onnx", "--source", f"clip.{kind}", "--headless", "--frames", "3", "--threads", "1",
            "--as-fast-as-possible"]  # fmt: skip


def cache(rng: Random, stock: Path, place: Path) -> list[str]:
    """Rows of the cache, and the file's own bytes. The photographs are those that it was filled with."""
    folder = place / "cache"
    shutil.copytree(stock / "cache", folder)
    [path] = folder.glob("*.sqlite")
    if rng.random() < 0.4:
        _replace(path, changed_bytes(rng, path.read_bytes()))
    else:
        values = (0, -1, 2**40, None, "x", b"", b"\0" * 99, 2**62, 1.5)
        with sqlite3.connect(path) as connection:
            for _ in range(rng.randint(1, 4)):
                column = rng.choice(("height", "width", "crc32", "pixels", "variant", "sha256"))
                command = f"UPDATE OR IGNORE pictures SET {column} = ? WHERE rowid % 3 = ?"
                try:
                    connection.execute(command, (rng.choice(values), rng.randrange(3)))
                except sqlite3.IntegrityError:
                    continue
            if rng.random() < 0.2:
                connection.execute(rng.choice(("DROP TABLE pictures", "DROP TABLE used", "CREATE TABLE x (y)")))
        connection.close()
    os.environ["EDGETL_CACHE"] = str(folder)
    return rng.choice((["data", "cache"], ["data", "cache", "--clear"], ["-reader", str(stock / "photos")]))


def archive(rng: Random, stock: Path, place: Path) -> list[str]:
    kind = rng.choice(("zip", "tar", "tar.gz", "tar.xz", "tar.bz2"))
    data = (stock / f"whole.{kind}").read_bytes()
    if kind == "tar" and rng.random() < 0.7:
        # A header is signed again, so that what it says is looked at.
        header = bytearray(data)
        at = 512 * rng.choice(
            [n for n in range(len(data) // 512) if data[n * 512 + 257 : n * 512 + 262] == b"ustar"]
        )
        block = bytearray(changed_bytes(rng, bytes(header[at : at + 148])))[:148].ljust(148, b"\0")
        block += b" " * 8 + header[at + 156 : at + 512]
        if rng.random() < 0.5:
            block[156] = rng.choice(b"0123456789xgLKS\0")
        block[148:156] = f"{sum(block):06o}\0 ".encode()
        data = bytes(header[:at] + block + header[at + 512 :])
    else:
        data = changed_bytes(rng, data)
    (place / f"archive.{kind}").write_bytes(data)
    return ["-unpack", f"archive.{kind}"]


KINDS: dict[str, Draw] = {
    "graph": networks.graph,
    "card": networks.card,
    "ir": networks.ir,
    "litert": networks.litert,
    "run": run,
    "checkpoint": checkpoint,
    "recipe": recipe,
    "bench": bench,
    "record": record,
    "journal": journal,
    "collected": collected,
    "album": album,
    "photograph": photograph,
    "video": video,
    "cache": cache,
    "archive": archive,
}
