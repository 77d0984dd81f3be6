"""Arguments in the wrong place: a photograph where a model belongs, a clip where photographs belong, and so on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from toolchain.errors import BadInputError

Kind = Literal["photograph", "video", "model", "run", "photographs", "benchmark"]

NAMES: Mapping[Kind, str] = {
    "photograph": "a photograph",
    "video": "a video",
    "model": "a model file",
    "run": "the folder of a run",
    "photographs": "a folder of photographs",
    "benchmark": "a benchmark",
}
VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts"}
)
MODELS = frozenset({".onnx", ".xml", ".tflite"})
MODEL: tuple[Kind, ...] = ("model", "run")
"""Kinds that can be given as MODEL."""
PICTURES: tuple[Kind, ...] = ("photograph", "photographs")
LOOKED_AT = 20
"""How many folders are searched before a folder counts as unknown."""
DEPTH = 2


def kind_of(word: str | os.PathLike[str]) -> Kind | None:
    """What a word of the command line seems to name, judged by its name, or by the content of a folder; None if
    that is open."""
    from toolchain.images.encoded import is_called_picture

    path = Path(word)
    if path.is_dir():
        return _kind_of_folder(path)
    suffix = path.suffix.lower()
    if is_called_picture(path.name):
        return "photograph"
    kinds: dict[Kind, frozenset[str]] = {"video": VIDEOS, "model": MODELS, "benchmark": frozenset({".json"})}
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), None)


def refuse(word: str | os.PathLike[str], place: str, wanted: str, hints: Mapping[Kind, str]) -> None:
    """Raise BadInputError if `word` is of one of the kinds in `hints`, which say what to type instead.

    `place` is the name of the argument, `wanted` what belongs there.
    """
    kind = kind_of(word)
    if kind is not None and kind in hints:
        raise BadInputError(f"{word} is {NAMES[kind]}, and {place} is {wanted}", hints[kind])


def refuse_as_model(word: str | os.PathLike[str], hints: Mapping[Kind, str]) -> None:
    """The same for the argument MODEL."""
    refuse(word, "MODEL", "a model file or a run folder", hints)


def refuse_swapped(command: str, model: str | os.PathLike[str], others: Sequence[str]) -> None:
    """Check the arguments of a command that takes a model and photographs.

    Raises BadInputError if they are in the wrong order, if there is no model, or for a video instead of
    photographs. `command` is what a person types before them.
    """
    kinds = {kind_of(word) for word in others}
    if any(kind_of(word) in MODEL for word in others):
        first = next(word for word in others if kind_of(word) in MODEL)
        rest = [str(model), *(word for word in others if word != first)]
        refuse_as_model(model, dict.fromkeys((*PICTURES, "video"), f"{command} {shlex.join([first, *rest])}"))
    name = f"{command} MODEL {shlex.join([str(model), *others])}"
    refuse_as_model(model, dict.fromkeys((*PICTURES, "video"), f"The model comes first: {name}"))
    if kinds == {"video"}:
        words = shlex.join([str(model), "--source", others[0]])
        raise BadInputError(f"{others[0]} is a video, and photographs are wanted", f"edgetl camera {words}")


def refuse_file(run: Path, command: str, *, place: str) -> None:
    """Raise BadInputError for a model file where a run folder is wanted, and name the folder that it is in."""
    from toolchain.runs import RUN_FILE

    is_beside = (run.parent / RUN_FILE).is_file()
    hint = (
        f"{command} {shlex.quote(str(run.parent))}" if is_beside else "Make one: edgetl finetune PHOTOS --out RUN"
    )
    refuse(run, place, "the folder of a run", {"model": hint})


def refuse_source(model: str | os.PathLike[str] | None, source: str) -> None:
    """For `edgetl camera`: raise BadInputError for a picture or camera as MODEL, and for a model as --source."""
    if model is not None:
        hint = f"edgetl camera --source {shlex.quote(str(model))}"
        refuse_as_model(model, dict.fromkeys((*PICTURES, "video"), hint))
        if str(model).isdecimal() and not Path(model).exists():
            raise BadInputError(f"{model} is a camera's number, and MODEL is a model file or a run folder", hint)
    refuse(source, "--source", "what the camera sees", dict.fromkeys(MODEL, f"edgetl camera {shlex.quote(source)}"))


def _is_model(name: str, beside: Sequence[str]) -> bool:
    """Whether a file is called as a model's; `.xml` are also annotations of photographs, which have no `.bin`."""
    path = Path(name)
    return path.suffix in MODELS and (path.suffix != ".xml" or f"{path.stem}.bin" in beside)


def _kind_of_folder(path: Path) -> Kind | None:
    from toolchain.images.encoded import is_called_picture
    from toolchain.runs import RUN_FILE

    for number, (parent, folders, names) in enumerate(os.walk(path)):
        if number == 0 and (RUN_FILE in names or any(_is_model(name, names) for name in names)):
            return "run"
        if any(is_called_picture(name) for name in names):
            return "photographs"
        if number == LOOKED_AT:
            break
        # Photographs are in folders of classes, and these may be in train and test: no deeper.
        folders[:] = sorted(folders) if len(Path(parent).relative_to(path).parts) < DEPTH else []
    return None
