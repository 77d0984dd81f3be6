"""The argument MODEL: the network that a command is about, named in the same way in every command."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import click
from click.shell_completion import CompletionItem

from toolchain.errors import BadInputError
from toolchain.system.text import folded

Kind = Literal["folder", "file", "ready-made", "published", "missing"]

READY_MADE = "ready-made"
"""As in `toolchain.runs.ready_made`, which is too heavy for `--help`."""

_PETS = "ready-made (the classifier of cat and dog breeds that comes with edgetl)"
MODEL_OR_FILE = f"MODEL is a run folder, a model file (.onnx, .xml or .tflite), or {_PETS}."
MODEL_WITH_GRADIENTS = (
    f"MODEL is a run folder, the name of a published network such as mobilenet_v2, or {_PETS}. "
    "--model NAME is the same as a published network in the place of MODEL."
)
MODEL_OR_PUBLISHED = (
    f"MODEL is a run folder, the name of a published network such as vgg16 (see `edgetl finetune --list-models`), "
    f"or {_PETS}."
)
"""For the help of commands: those that need no gradients, those that do, and those that need no classes."""

MODEL_SUFFIXES = frozenset({".onnx", ".xml", ".bin", ".tflite"})
MANY_CLASSES = 40
"""So many are listed where none is near to the one that was asked for."""
MAX_LISTED = 1000
"""How many names of a folder are compared with a misspelled one."""


@dataclass(frozen=True)
class ModelName(os.PathLike[str]):
    """A network as it was named: `word` is what was typed, and `kind` what it names.

    A file or folder comes before `ready-made` and the names of published networks.
    """

    word: str
    kind: Kind

    @classmethod
    def of(cls, word: str) -> ModelName:
        path = Path(word)
        if path.is_dir():
            return cls(word, "folder")
        if os.path.lexists(path):
            return cls(word, "file")
        if word == READY_MADE:
            return cls(word, "ready-made")
        return cls(word, "published" if word.partition(":")[0] in _published() else "missing")

    def __str__(self) -> str:
        return self.word

    def __fspath__(self) -> str:
        return self.word

    def path(self) -> Path | None:
        """The folder or file; None for the ready-made network. Raises BadInputError where there is neither."""
        if self.kind == "missing":
            raise BadInputError(f"{self.word} does not exist", _suggestion(self.word))
        if self.kind == "published":
            raise BadInputError(
                f"{self.word} is a network as it was published, which knows none of your classes",
                f"Take it with ImageNet's classes: edgetl adopt {self.word} --out RUN. "
                f"Train it: edgetl finetune PHOTOS --model {self.word}.",
            )
        return None if self.kind == "ready-made" else Path(self.word)

    def artifact_file(self) -> Path:
        """The model file to use: the file itself, the best one in a run folder, or the ready-made one.

        Raises BadInputError where there is none.
        """
        from toolchain.artifact import find_artifact
        from toolchain.runs.ready_made import ready_made_artifact

        path = self.path()
        return ready_made_artifact() if path is None else find_artifact(path)

    def artifact_files(self) -> list[Path]:
        """All its model files: of a run, float and int8. Raises BadInputError where there is none."""
        from toolchain.artifact import find_artifacts
        from toolchain.runs.ready_made import ready_made_artifact

        path = self.path()
        return [ready_made_artifact()] if path is None else find_artifacts(path)

    def run_folder(self) -> Path | None:
        """The folder of a finished run, whose network has gradients; None for the ready-made network.

        Raises BadInputError for all else. (No torch in here: a slip is told before torch is loaded.)
        """
        from toolchain.runs import RUN_FILE, no_gradients, read_run

        path = self.path()
        if path is None:
            return None
        if path.suffix in MODEL_SUFFIXES and path.is_file():
            beside = f": {path.parent}" if (path.parent / RUN_FILE).is_file() else ""
            raise BadInputError(
                f"{path} is a deployed file, which has no gradients",
                f"Name the run folder that it was exported from{beside}.",
            )
        if read_run(path).model.kept == "file":
            raise no_gradients(path)
        return path

    def labels(self) -> tuple[str, ...]:
        """The names of its classes. Raises BadInputError where it has none."""
        from toolchain.artifact import read_artifact
        from toolchain.runs import RUN_FILE, read_run

        path = self.path()
        if path is not None and (path / RUN_FILE).is_file():
            return read_run(path).data.classes
        return read_artifact(self.artifact_file()).card.labels


class ModelArgument(click.ParamType[ModelName]):
    """The type of the argument MODEL. What is not there is told by the methods of `ModelName`: a word that seems to
    name something else, such as a photograph, gets a better answer (see `toolchain.cli.swapped`)."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ModelName:
        return value if isinstance(value, ModelName) else ModelName.of(os.fsdecode(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # In this order: for a file, bash forgets the words that came before.
        return [CompletionItem(incomplete, type="file"), *completions((READY_MADE,), incomplete)]


class PublishedModelArgument(ModelArgument):
    """The same, where the name of a published network is as good."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, param, incomplete), *completions(published_names(), incomplete)]


def completions(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those of `names` that begin with what was typed so far, in upper or lower case."""
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def class_index(labels: Sequence[str], name: str) -> int:
    """The place of the class that a person calls `name`; letters' case, spaces, `-` and `_` do not matter.

    Raises BadInputError that suggests the nearest name.
    """
    names = [folded(label) for label in labels]
    wanted = folded(name)
    exact = [index for index, label in enumerate(labels) if label == name]
    found = exact or [index for index, label in enumerate(names) if label == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"{name!r} is the name of {len(found)} classes", "Write it exactly as one of them.")
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    more = f" and {len(labels) - MANY_CLASSES} more" if len(labels) > MANY_CLASSES else ""
    listed = f"Classes: {', '.join(labels[:MANY_CLASSES])}{more}."
    hint = f"Do you mean {labels[names.index(near[0])]!r}?" if near else listed
    raise BadInputError(f"there is no class {name!r}", hint)


def _published() -> tuple[str, ...]:
    """Their names, and the word before the colon of those such as `timm:NAME`."""
    from toolchain.backbones import BACKBONES

    return BACKBONES.names()


def published_names() -> tuple[str, ...]:
    """The names to choose from; `timm:` is to be completed."""
    return tuple(f"{name}:" if name == "timm" else name for name in _published())


def _suggestion(word: str) -> str:
    """What may have been meant by a word that names nothing."""
    path = Path(word)
    known = [READY_MADE, *_published(), *_neighbours(path.parent), *_neighbours(Path("runs"))]
    same = [name for name in known if Path(name).name == path.name]  # RUN for runs/RUN
    near = same or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    meant = f"Did you mean {shlex.quote(near[0])}? " if near else ""
    return f"{meant}Name a run folder, a model file, or {READY_MADE}."


def _neighbours(folder: Path) -> Iterator[str]:
    """The folders and model files in `folder`."""
    try:
        for path in islice(folder.iterdir(), MAX_LISTED):
            if path.suffix in MODEL_SUFFIXES or path.is_dir():
                yield str(path)
    except OSError:  # it is not there, or it is not for us
        return
