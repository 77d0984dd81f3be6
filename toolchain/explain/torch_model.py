"""The network that is explained: that of a run in PyTorch, which has gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from toolchain.artifact import read_artifact
from toolchain.backbones import IMAGENET
from toolchain.backbones.networks import load_network, load_ready_made, normalised
from toolchain.backbones.published import open_published
from toolchain.images.preprocess import Preprocess
from toolchain.runs import read_run
from toolchain.runs.ready_made import ready_made_artifact


@dataclass(frozen=True)
class TorchModel:
    """A trained network in evaluation mode, float32. Its weights are frozen: gradients are taken of pictures.

    `name` is the run folder as it was given, or the network and its weights; `backbone` its architecture,
    `temperature` that of its probabilities.
    """

    name: str
    backbone: str
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
        return self.probabilities_of(self.logits(pixels))

    def probabilities_of(self, logits: Tensor) -> Tensor:
        """float32 [batch, classes]: the same for `logits` that are there already."""
        return (logits / self.temperature).softmax(1)


def open_model(run: Path | None = None) -> TorchModel:
    """The network of the finished `run`; without one, the ready-made network.

    Raises BadInputError for a folder that is no run (an artifact alone holds no gradients), or whose weights are
    damaged; MissingError and ArtifactError where the ready-made network is not there or damaged.
    """
    if run is None:
        card = read_artifact(ready_made_artifact()).card
        network = load_ready_made(card).eval().requires_grad_(False)
        return TorchModel(
            "ready-made pets", card.source.model, network, card.labels, card.preprocess, card.temperature
        )
    trained = read_run(run)
    network = load_network(run, trained).eval().requires_grad_(False)
    labels = tuple(trained.data.classes)
    return TorchModel(str(run), trained.model.name, network, labels, trained.preprocess, trained.temperature)


def published_model(name: str, weights: str = IMAGENET) -> TorchModel:
    """The published network `name` with the head of its `weights`, and ImageNet's classes. Raises as
    `open_published`."""
    opened = open_published(name, weights)
    told = opened.told
    return TorchModel(
        f"{name} ({opened.pretrained.source})", name, opened.network, told.labels, told.preprocess, 1.0
    )
