"""What a run depends on besides the photographs."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolchain.errors import BadInputError
from toolchain.preprocess import Preprocess

GENTLE_RATE = 6e-5
SCRATCH_RATE = 1e-3


@dataclass(frozen=True)
class Settings:
    """Settings of a run, defaults included; all of them are written into `run.json`.

    `learning_rate` is that of AdamW at its highest; None chooses one for pretrained or for random weights.
    `trained_blocks` is how many of a pretrained backbone's last blocks fine-tuning changes; random weights are
    trained whole. `average_decay` is that of the exponential average of the weights. `smallest_crop` is the share
    of a photograph's area that a training crop shows at least.
    """

    data: str
    model: str = "mobilenet_v2"
    weights: str = "imagenet"
    probe_only: bool = False
    epochs: int = 6
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    trained_blocks: int = 5
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
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", SCRATCH_RATE if self.from_scratch else GENTLE_RATE)
        elif not 0 < self.learning_rate < 1:
            raise BadInputError(f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")

    @property
    def from_scratch(self) -> bool:
        """Whether the network starts from random weights."""
        return self.weights == "none"
