"""The network that is explained: a run with its gradients, and the names of its classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from toolchain.artifact import read_artifact
from toolchain.backbones import build, normalised
from toolchain.errors import BadInputError
from toolchain.preprocess import Preprocess
from toolchain.ready_made import ready_made_artifact, ready_made_weights
from toolchain.runs import WEIGHTS_FILE, read_run

MODEL_FILES = {".onnx", ".xml", ".bin"}


@dataclass(frozen=True)
class Subject:
    """A trained network in evaluation mode, float32, its weights frozen: gradients are those of pictures.

    `name` is the run folder as it was given, `model` the backbone, `temperature` that of its probabilities.
    """

    name: str
    model: str
    network: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    temperature: float

    def logits(self, pixels: Tensor) -> Tensor:
        """float32 [batch, classes] for RGB `pixels` [batch, height, width, 3], 0 to 255, any dtype."""
        logits: Tensor = self.network(normalised(pixels)).float()
        return logits

    def probabilities(self, pixels: Tensor) -> Tensor:
        """float32 [batch, classes] after the temperature, as the deployed graph has them."""
        return (self.logits(pixels) / self.temperature).softmax(1)


def open_run(folder: Path) -> Subject:
    """Load the network of a finished run, to take gradients of.

    Raises BadInputError for anything else; an artifact alone holds no gradients.
    """
    if folder.suffix in MODEL_FILES and folder.is_file():
        raise BadInputError(
            f"{folder} is a deployed file, which has no gradients", "Name the run folder that it was exported from."
        )
    run = read_run(folder)
    network = build(run.model.name, len(run.data.classes))
    network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    labels = tuple(run.data.classes)
    return Subject(str(folder), run.model.name, _frozen(network), labels, run.preprocess, run.temperature)


def ready_made() -> Subject:
    """The classifier of breeds that comes with edgetl. Raises MissingError where edgetl came without it."""
    card = read_artifact(ready_made_artifact()).card
    network = build(card.source.model, len(card.labels))
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(ready_made_weights()).items()})
    return Subject(
        "ready-made pets", card.source.model, _frozen(network), card.labels, card.preprocess, card.temperature
    )


def class_index(labels: Sequence[str], name: str) -> int:
    """The place of the class that a person calls `name`; letters' case, spaces, `-` and `_` do not matter.

    Raises BadInputError that suggests the nearest name.
    """
    folded = [_folded(label) for label in labels]
    wanted = _folded(name)
    exact = [index for index, label in enumerate(labels) if label == name]
    found = exact or [index for index, label in enumerate(folded) if label == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"{name!r} is the name of {len(found)} classes", "Write it exactly as one of them.")
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.5)
    hint = f"Do you mean {labels[folded.index(near[0])]!r}?" if near else f"Classes: {', '.join(labels)}."
    raise BadInputError(f"there is no class {name!r}", hint)


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)
