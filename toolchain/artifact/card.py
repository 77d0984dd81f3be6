"""The card: all that is needed to run a network and to trust it, as plain data.

Class names, preprocessing, temperature, rejection threshold, how it was quantised, what was measured, on which
photographs, and whose they are. `toolchain.artifact` reads and writes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from msgspec import Meta

from toolchain.images.preprocess import Preprocess
from toolchain.system.text import is_printable

CARD_SCHEMA: Literal["edgetl.card/1"] = "edgetl.card/1"

Fraction = Annotated[float, Meta(ge=0, le=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Score = Literal["max_probability", "energy"]
Precision = Literal["float32", "float16", "int8", "int8-weights"]
"""`int8-weights`: stored as int8, computed in float32."""


@dataclass(frozen=True)
class Reject:
    """When the answer is "none of these": the score (`evaluation.metrics.scores`) is below the threshold."""

    score: Score
    threshold: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError("`threshold` must be a finite number")
        if self.score == "max_probability" and not 0 <= self.threshold <= 1:
            raise ValueError("`threshold` of max_probability must lie between 0 and 1")


@dataclass(frozen=True)
class Accuracy:
    """What was measured at one hop of the way from training to device."""

    device: str
    precision: Precision
    split: str
    split_sha256: Sha256
    n: Annotated[int, Meta(ge=1)]
    top1: Fraction
    per_class_top1: Fraction
    agreement: Fraction | None = None
    """Share of photographs with the same top-1 as the trained network in PyTorch."""
    relative_difference: float | None = None
    """Largest difference of logits from the trained network's, relative to its largest logit."""


@dataclass(frozen=True)
class Speed:
    """Median latency of one photograph in float32 and in int8, side by side on one machine."""

    device: str
    threads: Annotated[int, Meta(ge=1)]
    float_ms: Annotated[float, Meta(gt=0)]
    int8_ms: Annotated[float, Meta(gt=0)]
    min_ratio: float | None = None
    """`ratio` is at least this with 95 % confidence, over several processes; absent in cards of old."""
    on: str = "local"
    """The machine, by its name in `ProvenOn`."""

    @property
    def ratio(self) -> float:
        """How many times as fast int8 is."""
        return self.float_ms / self.int8_ms


@dataclass(frozen=True)
class Tried:
    """A way to int8 that was judged on one device: points of top-1 lost, agreement with the trained network,
    speed-up over float on all cores (None: not measured).

    `drop_lower_pp` and `drop_upper_pp` are the bounds of what is lost, each with 95 % confidence, None in cards of
    old. `look`: 1 for the first that was looked at for the device, 2 for the one after it failed.
    """

    label: str
    device: str
    drop_pp: float
    agreement: Fraction
    speed_up: float | None = None
    drop_lower_pp: float | None = None
    drop_upper_pp: float | None = None
    look: int = 1


@dataclass(frozen=True)
class Compared:
    """A way to int8 beside the float network on one device, on `n` views of photographs whose labels were not used.

    `agreement` is the share with the same top-1, `divergence` the mean one of the probabilities in nats, `speed_up`
    that over float (None: not timed).
    """

    label: str
    device: str
    n: int
    agreement: Fraction
    divergence: float
    speed_up: float | None = None


@dataclass(frozen=True)
class ProvenOn:
    """A machine that the promises of int8 were kept on. `name` is `local` (that of the export) or how ssh found it.
    `flags`: instructions of its `cpu` that decide how int8 is computed, by Linux's names. `top1` is that of the
    validation photographs there, by device; empty for `local`, which has its own entries under `accuracy`."""

    name: str
    cpu: str
    architecture: str
    flags: tuple[str, ...]
    top1: dict[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationRecipe:
    """How the float network was quantised. Only int8 is calibrated on photographs, timed (on `cpu`) and chosen
    among what was `tried`."""

    quantiser: str
    settings: dict[str, Any]
    calibration_sha256: Sha256 | None = None
    calibration_n: Annotated[int, Meta(ge=0)] = 0
    cpu: str = ""
    speeds: tuple[Speed, ...] = ()
    tried: tuple[Tried, ...] = ()
    compared: tuple[Compared, ...] = ()
    """All recipes, by which one was chosen before it was judged; empty in cards of old."""
    cpu_flags: tuple[str, ...] = ()
    """Instructions of `cpu` that decide how int8 is computed, by Linux's names; empty in cards of old."""
    weight_bits: Literal[7, 8] = 8
    """7: integer weights are within ±64, so that no CPU's 16-bit sums of two products saturate."""
    proven: tuple[ProvenOn, ...] = ()
    """Where it was timed; empty where it was not, and in cards of old, which were timed on `cpu`."""

    @property
    def processors(self) -> tuple[ProvenOn, ...]:
        """The machines that it was proven on, of cards of old, too, which name no architecture."""
        return self.proven or (ProvenOn("local", self.cpu, "", self.cpu_flags),)


def _family(device: str) -> set[str]:
    return {device.partition(":")[0].lower()}


def _kinds(device: str) -> set[str]:
    """`openvino:GPU.1` is of the kind `openvino:gpu`; `openvino:HETERO:GPU,CPU` may run on two kinds.

    Another type for floats makes another kind: `openvino:cpu+bf16`.
    """
    place, plus, way = device.lower().partition("+")
    family, _, target = place.partition(":")
    names = target.rpartition(":")[2].split(",") if family == "openvino" else [target.partition(":")[0]]
    return {f"{family}:{name.partition('.')[0]}{plus}{way}" for name in names}


@dataclass(frozen=True)
class Source:
    """Where the network came from, and under which terms."""

    model: str
    run: str
    weights: str
    weights_sha256: Sha256 | None
    data: str
    licences: dict[str, str]
    run_sha256: Sha256 | None = None
    """SHA-256 of the run's `model.safetensors`, by which `bench` finds the float run in PyTorch."""
    taught: tuple[str, ...] = ()
    """The splits that taught the network; empty in cards of old."""
    adopted: bool = False
    """Whether it came as somebody else's ONNX file, which may hold other operators than edgetl's own."""


@dataclass(frozen=True)
class Card:
    """All metadata of an artifact (docs/reference/files.md). Stored as JSON under `edgetl.card`."""

    schema: Literal["edgetl.card/1"]
    labels: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=100_000)]
    preprocess: Preprocess
    temperature: Annotated[float, Meta(gt=0, le=1000)]
    reject: Reject | None
    precision: Precision
    recipe: QuantizationRecipe | None
    accuracy: tuple[Accuracy, ...]
    splits: dict[str, Sha256]
    source: Source
    edgetl_version: str
    input: Literal["image", "frame"] = "image"
    """`frame`: the graph takes frames of any size, and does itself what `preprocess` says."""
    runtimes: tuple[str, ...] = ()
    """Devices on which the answers were checked. All but float32 files run on these runtimes only."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` holds the same name twice")
        if not all(map(is_printable, self.labels)):
            raise ValueError("`labels` holds a name with control characters")
        if (self.precision == "float32") != (self.recipe is None):
            raise ValueError(f"`recipe` must be there unless `precision` is float32; it is {self.precision}")
        if self.recipe and (self.precision == "int8") != bool(self.recipe.calibration_sha256):
            raise ValueError("`recipe` must name its calibration photographs for int8, and only for int8")

    def proven_on(self, device: str) -> bool:
        """Whether this file may run on `device`: float32 files anywhere, others where they were measured.

        For int8 that means the same kind of device: a GPU has other integer kernels than a CPU, or none, and what
        stays float in an int8 file has other answers in bfloat16 (`openvino:CPU+bf16`). float16
        and stored int8 weights are computed in floats, and may run on all devices of the same runtime.
        """
        if self.precision == "float32":
            return True
        if self.precision != "int8":
            return _family(device) <= {name for proven in self.runtimes for name in _family(proven)}
        if device.lower() in {proven.lower() for proven in self.runtimes}:
            return True
        # Devices together (`openvino:HETERO:GPU,CPU`) prove neither: which one answered is not known.
        alone = (proven for proven in self.runtimes if proven.count(":") == 1 or not proven.startswith("openvino:"))
        return _kinds(device) <= {name for proven in alone for name in _kinds(proven)}

    def with_accuracy(self, *more: Accuracy) -> Card:
        """The same card with further measurements."""
        return replace(self, accuracy=self.accuracy + more)
