"""What fine-tuning is given to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from toolchain.datasets import Photograph
from toolchain.runs import Metrics
from toolchain.system.progress import Reporter
from toolchain.training.settings import TrainSettings
from toolchain.training.shown import Show
from toolchain.training.team import Team

AUTO_PICTURES = 20_000
AUTO_EPOCHS = (4, 30)
"""`--epochs auto`: as many epochs as show this many pictures, between these."""

AUTO_PATIENCE = 4

TRAINING = "epoch */*"
JUDGING = "epoch * on *"
"""Tasks by their descriptions: an epoch's training, and what it is worth."""

Judge = Callable[[nn.Module, str], Metrics]
"""Measures a network on validation; the text says what is being measured."""


def planned_epochs(settings: TrainSettings, photographs: int) -> int:
    """How many epochs are planned for so many training photographs."""
    least, most = AUTO_EPOCHS
    return settings.epochs or min(max(round(AUTO_PICTURES / photographs), least), most)


@dataclass(frozen=True)
class TrainContext:
    """What is trained on what, and where: `show` makes the pictures of `photos` on `device`."""

    photos: tuple[Photograph, ...]
    settings: TrainSettings
    device: torch.device
    folder: Path
    show: Show
    judge: Judge
    team: Team
    reporter: Reporter

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        return planned_epochs(self.settings, len(self.photos))

    @property
    def patience(self) -> int:
        """How many epochs may pass without a better one; 0 for all of them."""
        return self.settings.patience or (0 if self.settings.epochs else AUTO_PATIENCE)
