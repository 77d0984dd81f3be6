"""What a run depends on besides the photographs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from toolchain.backbones import preprocess_of, recipes
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess

Balance = Literal["logit-adjustment", "weights", "none"]
Optimizer = Literal["adamw", "adam", "rmsprop", "sgd"]
Schedule = Literal["cosine", "linear", "step", "constant"]
HeadInit = Literal["probe", "random", "zeros"]
BatchNorm = Literal["auto", "frozen", "trained"]
Precision = Literal["auto", "float32"]

GENTLE_RATES: dict[Optimizer, float] = {"adamw": 6e-5, "adam": 6e-5, "rmsprop": 2e-5, "sgd": 3e-3}
SCRATCH_RATES: dict[Optimizer, float] = {"adamw": 1e-3, "adam": 1e-3, "rmsprop": 3e-4, "sgd": 5e-2}
"""Learning rates of pretrained and random weights. SGD does not divide gradients by their size: it needs more."""

STRONGEST_AUGMENTATION = 2.0


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run, defaults included; all of them are written into `run.json`.

    `epochs` 0 means `auto`: as many as the number of photographs asks for, ended early by `patience`.
    `patience` is how many epochs may pass without a better one on validation; 0 never stops early.
    `max_minutes` is the time that fine-tuning may take. `learning_rate` is that of the optimiser at its highest;
    None chooses one for it, and for pretrained or for random weights. `schedule` is how it falls, `warm_up` the
    share of the steps in which it rises. `clip_norm` is the largest length of the gradient; 0 does not bound it.
    `trained_blocks` is how many of a pretrained backbone's last blocks fine-tuning changes; random weights are
    trained whole. `batch_norm` is whether their BatchNorm keeps its statistics; `auto` keeps pretrained ones.
    `head_init` is the head that fine-tuning starts from. `dropout` is the share of features that is dropped before
    the head (None: the backbone's own). `average_decay` is that of the exponential average of the weights.
    `smallest_crop` is the share of a photograph's area that a training crop shows at least,
    `crop_size` its side in pixels (None: that of the network's input). Crops show things larger than whole
    photographs do; in smaller pictures they have their size again (Touvron et al., NeurIPS 2019), and cost less.
    `augmentation` is how far crops, mirroring and light may go, 1 as usual, 0 not at all.
    `balance` says what is done for classes with few photographs. `outliers` is a folder of pictures of other
    things, by which the rejection threshold is chosen. `cache` is whether decoded photographs are kept. `precision`
    `auto` trains in bfloat16 where the machine is fast at it; metrics are always those of float32. `folds` is in
    how many parts all photographs are cross-validated by the linear probe (None: where test is small).
    """

    data: str
    model: str = "mobilenet_v2"
    weights: str = "imagenet"
    probe_only: bool = False
    epochs: int = 6
    patience: int = 0
    max_minutes: float | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    trained_blocks: int = 5
    average_decay: float = 0.98
    smallest_crop: float = 0.5
    crop_size: int | None = None
    label_smoothing: float = 0.0
    balance: Balance = "logit-adjustment"
    outliers: str | None = None
    cache: bool = True
    precision: Precision = "auto"
    preprocess: Preprocess = field(default_factory=Preprocess)
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    warm_up: float = 0.1
    clip_norm: float = 1.0
    head_init: HeadInit = "probe"
    batch_norm: BatchNorm = "auto"
    dropout: float | None = None
    augmentation: float = 1.0
    folds: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise BadInputError(
                f"--epochs must be at least 1, not {self.epochs}", "For no fine-tuning: --probe-only."
            )
        if self.batch_size < 1:
            raise BadInputError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.patience < 0:
            raise BadInputError(f"--patience must not be negative: {self.patience}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise BadInputError(f"--max-minutes must be more than 0, not {self.max_minutes:g}")
        if self.learning_rate is None:
            rates = SCRATCH_RATES if self.from_scratch else GENTLE_RATES
            object.__setattr__(self, "learning_rate", rates[self.optimizer])
        elif not 0 < self.learning_rate < 1:
            raise BadInputError(f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")
        for name in ("average_decay", "label_smoothing", "warm_up", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                option = name.replace("_", "-")
                raise BadInputError(f"--{option} must be at least 0 and below 1, not {value:g}")
        if not 0 <= self.weight_decay < float("inf"):
            raise BadInputError(f"--weight-decay must not be negative: {self.weight_decay:g}")
        if not 0 <= self.clip_norm < float("inf"):
            raise BadInputError(f"--clip-norm must not be negative: {self.clip_norm:g}", "0 does not clip.")
        if not 0 <= self.augmentation <= STRONGEST_AUGMENTATION:
            raise BadInputError(
                f"--augmentation must lie between 0 and {STRONGEST_AUGMENTATION:g}, not {self.augmentation:g}"
            )
        if self.batch_norm == "frozen" and self.from_scratch:
            raise BadInputError(
                "random weights have no statistics of BatchNorm to keep", "Leave --batch-norm frozen out."
            )
        if not 0 < self.smallest_crop <= 1:
            raise BadInputError(f"--smallest-crop must be above 0 and at most 1, not {self.smallest_crop:g}")
        if self.crop_size is not None and not 32 <= self.crop_size <= 1024:
            raise BadInputError(f"crop_size must lie between 32 and 1024, not {self.crop_size}")
        if self.folds is not None and self.folds < 2:
            raise BadInputError(f"--folds must be at least 2, not {self.folds}")
        if self.trained_blocks < 0:
            raise BadInputError(f"--trained-blocks must not be negative: {self.trained_blocks}")

    @property
    def crop_shape(self) -> tuple[int, int]:
        """Height and width of training crops in pixels."""
        spec = self.preprocess
        return (self.crop_size or spec.height, self.crop_size or spec.width)

    @property
    def trains_statistics(self) -> bool:
        """Whether BatchNorm learns the statistics of the photographs; there are none worth keeping at random."""
        return self.from_scratch or self.batch_norm == "trained"

    @property
    def from_scratch(self) -> bool:
        """Whether the network starts from random weights."""
        return self.weights == "none"


def settings_for(data: str, model: str, recipe: recipes.TrainingRecipe, **given: Any) -> TrainSettings:
    """Settings of a run from a recipe; what is `given` and not None goes before it.

    Raises BadInputError for values that make no sense.
    """
    own = {one.name for one in fields(TrainSettings)}
    chosen: dict[str, Any] = {key: value for key, value in recipe.finetune.items() if key in own}
    if given.get("weights") == "none":
        # A recipe is made for pretrained weights; random ones need a larger learning rate.
        chosen.pop("learning_rate", None)
    if given.get("optimizer") not in (None, chosen.get("optimizer", "adamw")):
        # It is also made for one optimiser.
        chosen.pop("learning_rate", None)
    chosen |= {key: value for key, value in given.items() if value is not None}
    chosen.setdefault("preprocess", preprocess_of(model))
    return TrainSettings(data=data, model=model, **chosen)
