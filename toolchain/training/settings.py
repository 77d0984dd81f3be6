"""The settings of a training run, in one annotated class.

Each field is an option of `edgetl finetune`, a key that `run.json` keeps and, unless it says otherwise, one that
`[finetune]` in a recipe may set; all are checked by the bounds beside them. To add one, add a field and use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from toolchain.errors import BadInputError
from toolchain.system import strict
from toolchain.system.options import Option, renamed, settings_of

if TYPE_CHECKING:
    from toolchain.backbones.recipes import TrainingRecipe
    from toolchain.images.preprocess import Preprocess
else:
    Preprocess = Any  # `edgetl finetune --help` reads this module, and should not wait for OpenCV

Balance = Literal["logit-adjustment", "weights", "none"]
Optimizer = Literal["adamw", "adam", "rmsprop", "sgd"]
Schedule = Literal["cosine", "linear", "step", "constant"]
HeadInit = Literal["probe", "random", "zeros"]
BatchNorm = Literal["auto", "frozen", "trained"]
Precision = Literal["auto", "float32"]

Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Minutes = Annotated[float, Meta(gt=0, le=1e6)]
Rate = Annotated[float, Meta(gt=0, lt=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Area = Annotated[float, Meta(gt=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0, le=1e9)]

GENTLE_RATES: dict[Optimizer, float] = {"adamw": 6e-5, "adam": 6e-5, "rmsprop": 2e-5, "sgd": 3e-3}
SCRATCH_RATES: dict[Optimizer, float] = {"adamw": 1e-3, "adam": 1e-3, "rmsprop": 3e-4, "sgd": 5e-2}
"""Learning rates of pretrained and random weights. SGD does not divide gradients by their size: it needs more."""


TRICKS = "Training tricks (none is needed)"


def _run_option(help: str, metavar: str | None = None, **more: Any) -> Option:
    return Option(help, metavar, recipe=False, **more)


def _trick(help: str, metavar: str | None = None, **more: Any) -> Option:
    return Option(help, metavar, section=TRICKS, **more)


def _usual_preprocess() -> Preprocess:
    from toolchain.images import preprocess

    return preprocess.Preprocess()


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run, defaults included; all of them are written into `run.json`.

    `from_run` is the folder of the run that it goes on from (`--from`): `weights` are those of this run then.

    None stands for a default that depends on something else: the learning rate on optimizer and weights, dropout on
    the backbone, `folds` on how large test is, `crop_size` on the size of the network's input, `patience` on the
    number of epochs.
    """

    data: str
    model: Annotated[
        str, _run_option("The network: one of --list-models, or timm:NAME for one of timm.", "NAME")
    ] = "mobilenet_v2"
    weights: Annotated[
        str,
        _run_option(
            "What to start from: a state dict (.safetensors or .pth) in the names of torchvision or timm, their "
            "best published weights, torchvision's first ones, the features of the pets model that comes with "
            "edgetl (a mobilenet_v2; offline), or nothing.",
            "FILE|imagenet|imagenet-v1|ready-made|none",
        ),
    ] = "imagenet"
    probe_only: Annotated[bool, _run_option("Train only a new head on frozen features.")] = False
    epochs: Annotated[
        Natural,
        Option(
            "Default: the recipe's. auto: as many as the number of photographs asks for.",
            "N|auto",
            hint="For no fine-tuning: --probe-only.",
        ),
    ] = 6
    """0 is `auto`: then `patience` may end them early."""
    patience: Annotated[
        Natural | None,
        Option(
            "Stop after N epochs without a better validation; 0 never stops early. Default: 0, or 4 with --epochs "
            "auto.",
            "N",
        ),
    ] = None
    max_minutes: Annotated[
        Minutes | None,
        Option("Fine-tune for at most M minutes, refitting included, with as many epochs as fit.", "M"),
    ] = None
    seed: Annotated[int, Meta(ge=0, le=2**31), _run_option("Seed of all random numbers.", "N")] = 0
    device: Annotated[str, _run_option("auto, cpu, cuda, cuda:N or mps.", "DEVICE")] = "auto"
    precision: Annotated[
        Precision,
        _run_option(
            "Numbers to train with; auto: bfloat16 where the machine is fast at it. Metrics are those of float32."
        ),
    ] = "auto"
    group_by: Annotated[
        str | None,
        _run_option(
            "Keep groups of photographs (takes, bursts, patients) on one side of the split: by the folder below "
            "that of the class; by prefix, the name up to a last -, _ or space and number (not for names that a "
            "camera counts, as IMG_0001.jpg); or by the first parenthesis of a pattern. Groups of one name in "
            "several classes are one.",
            "folder|prefix|regex:PATTERN",
        ),
    ] = None
    outliers: Annotated[
        str | None,
        _run_option(
            "Pictures of other things, by which the rejection threshold is chosen. Default for named data sets: "
            "not-pets beside them, if it exists.",
            "FOLDER",
        ),
    ] = None
    teacher: Annotated[
        tuple[str, ...],
        _run_option(
            "A finished run of a better network, whose answers are learnt, too. Of several, their mean.", "RUN"
        ),
    ] = ()
    refit: Annotated[
        bool,
        _run_option(
            "When all is chosen on validation, train once more on all photographs but test, validation included. "
            "Takes twice as long; export then judges int8 on test."
        ),
    ] = False
    folds: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        _run_option(
            "Cross-validate the linear probe over all photographs in K parts. Default: only where test is small.",
            "K",
        ),
    ] = None
    cache: Annotated[bool, _run_option("Do not keep decoded photographs for the next run.")] = True
    preprocess: Preprocess = field(default_factory=_usual_preprocess)
    from_run: str | None = None
    head_init: Annotated[
        HeadInit,
        _trick("The head that fine-tuning starts from. Default: probe, the one that the linear probe has found."),
    ] = "probe"
    trained_blocks: Annotated[Natural, _trick("How many blocks fine-tuning changes, from the last one.", "N")] = 5
    """Random weights are trained whole."""
    batch_norm: Annotated[
        BatchNorm,
        _trick(
            "Statistics of BatchNorm in these blocks: those that came with the weights, or the photographs' own. "
            "Default: frozen.",
            choices=("frozen", "trained"),
        ),
    ] = "auto"
    """`auto` keeps pretrained statistics, and learns them where weights are random."""
    dropout: Annotated[
        Share | None, _trick("Share of the features before the head. Default: the network's.", "SHARE")
    ] = None
    optimizer: Annotated[Optimizer, _trick("Default: adamw. sgd has Nesterov's momentum of 0.9.")] = "adamw"
    learning_rate: Annotated[
        Rate | None, _trick("The highest learning rate. Default: the recipe's, or the optimizer's.", "RATE")
    ] = None
    schedule: Annotated[
        Schedule,
        _trick("How the rate falls. Default: cosine. step: to a tenth after a third, and again after two thirds."),
    ] = "cosine"
    warm_up: Annotated[Share, _trick("Share of the steps in which the rate rises. Default: 0.1.", "SHARE")] = 0.1
    max_grad_norm: Annotated[
        NotNegative,
        _trick(
            "Gradients are clipped to this length. Default: 1; 0 does not clip.",
            "NORM",
            former="clip_norm",
            hint="0 does not clip.",
        ),
    ] = 1.0
    weight_decay: Annotated[NotNegative, _trick("Default: 0.01.", "DECAY")] = 0.01
    batch_size: Annotated[Count, _trick("Default: the recipe's.", "N")] = 32
    ema_decay: Annotated[
        Share,
        _trick(
            "Decay of the exponential moving average of the weights; 0: no average.",
            "DECAY",
            former="average_decay",
        ),
    ] = 0.98
    label_smoothing: Annotated[
        Share, _trick("Share of the target that is spread over all classes. Default: 0.", "SHARE")
    ] = 0.0
    augmentation: Annotated[
        float,
        Meta(ge=0, le=2),
        _trick("Strength of crops, mirroring and changes of light: 0 for none, 1 as usual, up to 2.", "STRENGTH"),
    ] = 1.0
    min_crop_area: Annotated[
        Area,
        _trick(
            "Share of a photograph that a crop shows at least. Default: the recipe's.",
            "SHARE",
            former="smallest_crop",
        ),
    ] = 0.5
    crop_size: Annotated[
        Annotated[int, Meta(ge=32, le=1024)] | None,
        _trick("Side of training crops in pixels. Default: the recipe's, by --size, or that of the input.", "N"),
    ] = None
    """Crops show things larger than whole photographs do; in smaller pictures they have their size again (Touvron
    et al., NeurIPS 2019), and cost less."""
    balance: Annotated[
        Balance, _trick("What to do for classes with few photographs. Default: logit-adjustment.")
    ] = "logit-adjustment"

    def __post_init__(self) -> None:
        for one in settings_of(TrainSettings):
            one.check(getattr(self, one.name))
        if self.learning_rate is None:
            rates = SCRATCH_RATES if self.from_scratch else GENTLE_RATES
            object.__setattr__(self, "learning_rate", rates[self.optimizer])
        if self.batch_norm == "frozen" and self.from_scratch:
            raise BadInputError(
                "random weights have no statistics of BatchNorm to keep", "Leave --batch-norm frozen out."
            )

    @property
    def crop_shape(self) -> tuple[int, int]:
        """Height and width of training crops in pixels."""
        spec = self.preprocess
        return (self.crop_size or spec.height, self.crop_size or spec.width)

    @property
    def trains_statistics(self) -> bool:
        """Whether BatchNorm learns the statistics of the photographs; random weights have none worth keeping."""
        return self.from_scratch or self.batch_norm == "trained"

    @property
    def from_scratch(self) -> bool:
        """Whether the network starts from random weights."""
        return self.weights == "none"


def read_stored(stored: Mapping[str, Any]) -> TrainSettings:
    """Settings as `run.json` or a checkpoint keeps them. Raises msgspec.ValidationError, BadInputError."""
    from toolchain.images import preprocess

    document = renamed(TrainSettings, strict.convert(stored, dict[str, Any]))
    if "preprocess" in document:
        document["preprocess"] = strict.convert(document["preprocess"], preprocess.Preprocess)
    return strict.convert(document, TrainSettings)


def recipe_settings(recipe: TrainingRecipe, *, taught: bool = False) -> dict[str, Any]:
    """What `[finetune]` of a recipe sets; where a teacher helps, `[taught]` goes before it.

    Raises BadInputError naming the file and the key that is wrong.
    """
    found = _section(recipe, "finetune", recipe.finetune)
    with_teacher = _section(recipe, "taught", recipe.taught)
    return found | with_teacher if taught else found


def _section(recipe: TrainingRecipe, section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{recipe.path}: " if recipe.path else ""
    given = renamed(TrainSettings, table)
    known = [one.name for one in fields(_recipe_class())]
    for key in given:
        if key not in known:
            raise BadInputError(f"{where}unknown key `{section}.{key}`", f"Known: {', '.join(known)}.")
    try:
        strict.convert(given, _recipe_class())
    except msgspec.ValidationError as error:
        # msgspec ends with the place: "Expected `int` - at `$.epochs`".
        raise BadInputError(f"{where}{str(error).replace('`$.', f'`{section}.')}") from None
    return given


@cache
def _recipe_class() -> type:
    """A dataclass of the settings that a recipe may hold."""
    keys = [one for one in settings_of(TrainSettings) if one.option.recipe]
    return make_dataclass("RecipeSettings", [(one.name, one.annotation | None, None) for one in keys])


def settings_for(data: str, model: str, recipe: TrainingRecipe, **given: Any) -> TrainSettings:
    """Settings of a run from a recipe; what is `given` and not None goes before it.

    Raises BadInputError for values that make no sense.
    """
    from toolchain.backbones import preprocess_of, recipe_of

    chosen = recipe_settings(recipe, taught=bool(given.get("teacher")))
    is_own = recipe == recipe_of(model)
    if given.get("weights") == "none" and is_own:
        # A network's own recipe is made for pretrained weights; random ones need a larger learning rate.
        chosen.pop("learning_rate", None)
    if given.get("optimizer") not in (None, chosen.get("optimizer", "adamw")):
        # It is also made for one optimiser.
        chosen.pop("learning_rate", None)
    usual = preprocess_of(model)
    spec = given.get("preprocess") or usual
    if is_own and (crop := chosen.get("crop_size")):
        # It is chosen for the size that the network is usually given.
        chosen["crop_size"] = min(max(round(crop * spec.height / usual.height), 32), 1024)
    chosen |= {key: value for key, value in given.items() if value is not None}
    chosen.setdefault("preprocess", usual)
    return TrainSettings(data=data, model=model, **chosen)
