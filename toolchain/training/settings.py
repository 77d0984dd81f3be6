"""What a run depends on besides the photographs."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolchain.errors import BadInputError
from toolchain.preprocess import Preprocess


@dataclass(frozen=True)
class Settings:
    """Settings of a run, defaults included; all of them are written into `run.json`.

    Learning rates are for AdamW. `frozen_blocks` is how many of the backbone's first blocks keep their weights.
    `smallest_crop` is the share of a photograph's area that a training crop shows at least.
    """

    data: str
    model: str = "mobilenet_v2"
    weights: str = "imagenet"
    probe_only: bool = False
    epochs: int = 8
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    frozen_blocks: int = 4
    average_decay: float = 0.98
    smallest_crop: float = 0.5
    preprocess: Preprocess = field(default_factory=Preprocess)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise BadInputError(
                f"--epochs must be at least 1, not {self.epochs}", "For no fine-tuning: --probe-only."
            )
        if self.batch_size < 1:
            raise BadInputError(f"--batch-size must be at least 1, not {self.batch_size}")
        if not 0 < self.learning_rate < 1:
            raise BadInputError(f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")
