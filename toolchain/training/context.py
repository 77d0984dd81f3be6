"""What every step of a training run shares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from toolchain.datasets import Dataset, Photograph
from toolchain.images.reader import Reader
from toolchain.system.progress import Reporter
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

AUTO_PICTURES = 20_000
AUTO_EPOCHS = (4, 30)
"""`--epochs auto`: as many epochs as show this many pictures, between these."""

AUTO_PATIENCE = 4

TRAINING = "epoch */*"
EVALUATION = "epoch * on *"
"""Tasks by their descriptions: an epoch's training, and its evaluation."""


@dataclass(frozen=True)
class TrainContext:
    """What is trained, on what, and where: the run is written to `folder` and computed on `device`.

    `dataset` holds only photographs that can be read, by `reader`; `outliers` are pictures of other things.
    `seconds` is filled with what each step took.
    """

    settings: TrainSettings
    dataset: Dataset
    outliers: tuple[Photograph, ...]
    reader: Reader
    device: torch.device
    team: Team
    folder: Path
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def photos(self) -> tuple[Photograph, ...]:
        """The photographs that fine-tuning learns from."""
        return self.dataset.splits["train"]

    @property
    def probed(self) -> tuple[Photograph, ...]:
        """What the linear probe is fitted on: photographs for training and for calibration.

        What int8 is calibrated on may teach: its promises are kept on val, which neither trains nor calibrates.
        """
        return self.photos + self.dataset.splits["calibration"]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.dataset.classes)

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        least, most = AUTO_EPOCHS
        return self.settings.epochs or min(max(round(AUTO_PICTURES / len(self.photos)), least), most)

    @property
    def patience(self) -> int:
        """How many epochs may pass without a better one; 0 for all of them."""
        return self.settings.patience or (0 if self.settings.epochs else AUTO_PATIENCE)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to `seconds[step]`."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - started, 3)
