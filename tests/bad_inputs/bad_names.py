"""File and folder names as they come out of old archives, other systems and other people's habits."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bad_inputs.bad_photographs import encoded, picture
from tests.bad_inputs.entry import GOOD, MODEL, Entry, Make, Stock, Words, camera, predict
from tests.clips import write_clip

NAMES: dict[str, str] = {
    "latin-1": "caf\udce9",
    "half-of-utf-8": "\udce2\udc82",
    "line-break": "two\nlines",
    "carriage-return": "a\rb",
    "tab": "a\tb",
    "escape": "\x1b[2J\x1b[31mred",
    "bell": "ring\x07",
    "spaces": "   ",
    "space-behind": "cat ",
    "dots": "...",
    "dash": "-n",
    "two-dashes": "--json",
    "brackets": "[a-z]",
    "one-bracket": "cat[1",
    "markup": "[bold]cat",
    "markup-closed-only": "[/]",
    "markup-closed-wrongly": "[bold]cat[/red]",
    "star": "*",
    "question-mark": "?",
    "two-stars": "**",
    "exclamation": "Noël ! video",
    "percent": "%d%s%03d",
    "braces": "{0}{name}",
    "dollar": "$HOME",
    "backslash": "a\\b",
    "colon": "file:name",
    "quote": 'it\'s "it"',
    "semicolon": "a;touch pwned",
    "backquote": "`touch pwned`",
    "tilde": "~",
    "hash": "#1",
    "at": "@file",
    "equals": "a=b",
    "comma": "a,b",
    "emoji": "🐈‍⬛",
    "right-to-left": "\u202egpj",
    "invisible": "\u200b",
    "decomposed": "e\u0301",
    "device-of-windows": "CON",
    "nul-of-windows": "NUL",
    "stdin": "stdin",
    "digits": "0",
    "long": "n" * 240,
}


def _photographs(name: str) -> Make:
    """A photograph `NAME.png`, and a data set with a class NAME."""

    def make(stock: Stock, place: Path) -> None:
        photograph = place / "here" / f"{name}.png"
        photograph.parent.mkdir(parents=True)
        photograph.write_bytes(encoded("png"))
        for label in (name.replace("/", "|"), "other"):
            (place / "photos" / label).mkdir(parents=True)
            for number in range(4):
                content = encoded("png", picture(16 + number, 16 + len(label)))
                (place / "photos" / label / f"{number}.png").write_bytes(content)
        os.chdir(place / "here")

    return make


def _all(name: str) -> tuple[Words, ...]:
    model = f"../{MODEL}"
    return (
        predict(f"{name}.png", model=model),
        predict(".", model=model),
        camera(f"./{name}.png", model=model),
        ("data", "info", "../photos"),
        ("data", "check", "../photos"),
    )


PHOTOGRAPHS = tuple(Entry(f"{kind}", _all(name), _photographs(name), (0, 1, 2)) for kind, name in NAMES.items())

NO_TEXT = ("latin-1",)
FOLDERS = (
    "latin-1",
    "line-break",
    "escape",
    "brackets",
    "markup",
    "markup-closed-only",
    "markup-closed-wrongly",
    "exclamation",
    "percent",
    "dash",
)


def _inside(name: str) -> Make:
    """A folder NAME with a model file, a photograph and a clip in it."""

    def make(stock: Stock, place: Path) -> None:
        folder = place / name
        folder.mkdir(parents=True)
        (place / MODEL).rename(folder / MODEL)
        (place / GOOD).rename(folder / GOOD)
        write_clip(place / "clip.mp4", ["red"] * 4).rename(folder / "clip.mp4")

    return make


def _in(kind: str, name: str) -> dict[str, tuple[Words, ...]]:
    """By what is added to the name of the input; the decoder of videos gets names that are no text."""
    model = f"./{name}/{MODEL}"
    named = (("card", model), predict(f"./{name}", model=model), predict(f"./{name}/*.png", model=model))
    played = (camera(f"./{name}/clip.mp4", "--as-fast-as-possible", model=model),)
    return {"": named, "-clip": played} if kind in NO_TEXT else {"": (*named, *played)}


INSIDE = tuple(
    Entry(f"folder-{kind}{word}", commands, _inside(NAMES[kind]), (0, 2), apart=bool(word))
    for kind in FOLDERS
    for word, commands in _in(kind, NAMES[kind]).items()
)

ENCODINGS = ("cp1252", "latin-1", "ascii", "cp437")


def _labelled(stock: Stock, place: Path) -> None:
    from tests.artifacts import tiny_artifact

    tiny_artifact(place / "labelled.onnx", ("赤い猫", "חתול", "čičák"))


LABELLED: tuple[Words, ...] = (
    ("card", "labelled.onnx"),
    predict(GOOD, model="labelled.onnx"),
    camera(GOOD, model="labelled.onnx"),
)
SPOKEN = tuple(
    Entry(f"labels-told-in-{encoding}", LABELLED, _labelled, (0,), encoding=encoding) for encoding in ENCODINGS
)


def _clip(name: str) -> Make:
    def make(stock: Stock, place: Path) -> None:
        write_clip(place / "clip.mp4", ["red"] * 4).rename(place / name)

    return make


CLIPS: dict[str, str] = {
    "exclamation": "Noël ! video.mp4",
    "colon": "rtsp:clip.mp4",
    "slashes": "a:b.mp4",
    "percent": "frame%03d.mp4",
    "brackets": "[clip].mp4",
    "digits": "0",
    "line-break": "two\nlines.mp4",
    "latin-1": "caf\udce9.mp4",
    "pipe": "a|b.mp4",
}
PLAYED = tuple(
    Entry(
        f"clip-{kind}",
        (camera(name if name != "0" else "./0", "--as-fast-as-possible"),),
        _clip(name),
        (0,),
        apart=kind in NO_TEXT,
    )
    for kind, name in CLIPS.items()
)

ENTRIES = (*PHOTOGRAPHS, *INSIDE, *SPOKEN, *PLAYED)
