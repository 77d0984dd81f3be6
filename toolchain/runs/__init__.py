"""The run folder: what `finetune` writes and `export` and `bench` read. Plain data; no torch in here."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from toolchain.artifact.card import Reject
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess
from toolchain.system import claims, files

RUN_SCHEMA: Literal["edgetl.run/1"] = "edgetl.run/1"
RUN_FILE = "run.json"
WEIGHTS_FILE = "model.safetensors"
ADOPTED_FILE = "adopted.onnx"
"""In the place of the weights, where a network came as an ONNX file: its graph in edgetl's form."""
METRICS_FILE = "metrics.jsonl"
SPLITS_FILE = "splits.json"
EARLIER_FILE = "earlier_splits.json"
"""Where a run goes on from another one: SHA-256 and split of photographs that were known before, but are gone."""
LEFT_OUT_FILE = "left_out.json"
METRICS_CSV_FILE = "metrics.csv"
PREDICTIONS_FILE = "predictions.csv"
REPORT_FILE = "report.html"
CHECKPOINT_FOLDER = "checkpoint"
SETTINGS_FILE = "settings.json"
"""In the checkpoint's folder: the settings of the run."""
MAX_SPLITS_BYTES = 256 << 20
"""Two million photographs."""
CONFUSION_CLASSES = 100
"""`run.json` holds the confusion matrices of up to so many classes."""


@dataclass(frozen=True)
class DataRecord:
    """Which photographs: `sha256` is the hash of all splits, `split_sha256` of each.

    A network that was adopted has no splits: `counts`, `split_sha256` and `splits.json` are empty. `path` then is a
    folder of any photographs, or empty.
    """

    name: str
    path: str
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    counts: dict[str, int]
    skipped: int
    sha256: str
    split_sha256: dict[str, str]
    licences: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """Files of the data that are in no split, by reason; `left_out.json` has their names."""


@dataclass(frozen=True)
class TeacherRecord:
    """A run that fine-tuning learned from beside the labels: its network, and what its own weights began as."""

    name: str
    sha256: str
    weights: str
    weights_licence: str


@dataclass(frozen=True)
class ModelRecord:
    """Which network; `sha256` is that of `model.safetensors` or `adopted.onnx`. `kept` tells whether fine-tuning
    beat the probe; `published`, `file`: edgetl did not train it, and has its weights, or an ONNX file alone."""

    name: str
    parameters: int
    weights: str
    weights_sha256: str | None
    weights_licence: str
    sha256: str
    kept: Literal["probe", "finetune", "published", "file"]
    best_epoch: int
    teachers: tuple[TeacherRecord, ...] = ()
    refit: bool = False
    """Whether val has taught it too, after all was chosen on val."""

    @property
    def taught(self) -> tuple[str, ...]:
        """The splits that taught it: linear probe, fine-tuning, or both."""
        if self.kept in {"published", "file"}:
            return ()
        return ("train", "calibration", "val") if self.refit else ("train", "calibration")

    @property
    def judged_on(self) -> str:
        """The split that files are measured on: labelled photographs that have not taught the network."""
        return "test" if self.refit else "val"


@dataclass(frozen=True)
class Metrics:
    """Accuracy on one split. Fractions, 0 to 1. `confusion[i][j]`: photographs of class i that were called j.

    Above CONFUSION_CLASSES `confusion` is empty: a matrix of 1,000 classes has a million numbers, nearly all 0, and
    `predictions.csv` has every answer. `per_class_top1` is the mean over the classes that the split holds. `nll`
    and `ece` (15 bins, Guo et al. 2017) are after the temperature.
    """

    n: int
    top1: float
    top5: float
    per_class_top1: float
    nll: float
    ece: float
    ece_uncalibrated: float
    confusion: list[list[int]]


@dataclass(frozen=True)
class Rejection:
    """How "none of these" was chosen. Shares are fractions; these `outliers` were not part of the choice."""

    reject: Reject
    accepted: dict[str, float]
    """By split (`val`, `test`): share of photographs of the classes that are not rejected."""
    outliers: int = 0
    outliers_rejected: float | None = None


@dataclass(frozen=True)
class TemperatureFit:
    """How well the temperature is known: it lies between `low` and `high` with 95 % confidence.

    It was chosen on `val` validation photographs of the kept network, and on the answers of linear probes to
    `out_of_fold` training photographs that they were not fitted on.
    """

    low: float
    high: float
    val: int
    out_of_fold: int


@dataclass(frozen=True)
class CrossValidation:
    """The linear probe over all photographs, each answered by a head that was not fitted on it.

    `metrics` are those of all these answers, with the run's temperature; `top1_ci95` is Wilson's interval.
    """

    folds: int
    metrics: Metrics
    top1_ci95: tuple[float, float]


@dataclass(frozen=True)
class Continuation:
    """What a run went on from, and both networks on the same test photographs, which have taught neither.

    `n` photographs are of the `kept` classes, which both know: there the new network is right more often by `gain`
    (a fraction; 95 % interval). `added_n` are of the `added` ones. Accuracies are null where there are none.
    """

    run: str
    sha256: str
    """Of the old weights."""
    kept: tuple[str, ...]
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    n: int
    old_top1: float | None
    new_top1: float | None
    gain: float
    gain_ci95: tuple[float, float]
    added_n: int
    added_top1: float | None

    @property
    def verdict(self) -> Literal["better", "worse", "not told apart"]:
        """How the new network compares with the old one, as far as these photographs can tell."""
        low, high = self.gain_ci95
        return "better" if low > 0 else "worse" if high < 0 else "not told apart"


@dataclass(frozen=True)
class Run:
    """`run.json`."""

    schema: Literal["edgetl.run/1"]
    edgetl_version: str
    command: str
    data: DataRecord
    model: ModelRecord
    preprocess: Preprocess
    temperature: Annotated[float, Meta(gt=0)]
    reject: Reject | None
    settings: dict[str, Any]
    environment: dict[str, Any]
    timings_s: dict[str, float]
    metrics: dict[str, Metrics]
    """By split (`val`, `test`): the network that was kept. After a refit, val is of the network before."""
    probe_metrics: dict[str, Metrics]
    """The same for the linear probe that fine-tuning started from."""
    rejection: Rejection | None = None
    temperature_fit: TemperatureFit | None = None
    cross_validation: CrossValidation | None = None
    before_refit: dict[str, Metrics] = field(default_factory=dict)
    """By split: the network that was refitted, where it was."""
    continuation: Continuation | None = None


class SplitFile(msgspec.Struct, frozen=True, gc=False):
    """One photograph in `splits.json`. Of hundreds of thousands, a dataclass takes seconds to read."""

    name: str
    sha256: str
    label: str


def check_free(out: Path) -> None:
    """Raise BadInputError where `out` cannot become the folder of a new run: it holds something already."""
    if out.exists() and (not out.is_dir() or not claims.is_empty(out)):
        raise not_free(out)


def not_free(out: Path) -> BadInputError:
    resume = ""
    with suppress(BadInputError):
        check_resumable(out)
        resume = f", or --resume {shlex.quote(str(out))}"
    return BadInputError(f"{out} is there already and not empty", f"Choose another --out{resume}")


def check_resumable(folder: Path) -> None:
    """Raise BadInputError where `folder` holds neither a finished run of `finetune` nor one that has begun."""
    run = read_run(folder) if (folder / RUN_FILE).exists() else None
    if run is not None and run.model.taught and not run.timings_s:  # only `teach` times nothing
        hint = f"Go on with its things: edgetl teach --out {shlex.quote(str(folder.parent))}"
        raise BadInputError(f"{folder} was taught by `edgetl teach`: there is nothing to resume", hint)
    if run is not None and not run.model.taught:
        weights = folder / WEIGHTS_FILE
        train = f"Fine-tune it: edgetl finetune PHOTOS --weights {shlex.quote(str(weights))}"
        hint = train if weights.exists() else "An ONNX file cannot be trained further."
        raise BadInputError(f"{folder} was adopted, not trained: there is nothing to resume", hint)
    if run is None and not (folder / CHECKPOINT_FOLDER / SETTINGS_FILE).exists():
        hint = "Start a run with `edgetl finetune DATA --out RUN`."
        raise BadInputError(f"{folder} holds nothing to resume", hint)


def read_run(folder: Path) -> Run:
    """Read `run.json` of a finished run. Raises BadInputError when there is none or it is damaged."""
    path = folder / RUN_FILE
    try:
        run = files.read_json(path, Run)
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (folder / CHECKPOINT_FOLDER).is_dir()
        if unfinished:
            raise BadInputError(
                f"{folder} is a run that has not finished",
                f"Continue it: edgetl finetune --resume {shlex.quote(str(folder))}",
            ) from None
        raise BadInputError(
            f"{folder} is not a run folder: it has no {RUN_FILE}", "Make one with `edgetl finetune DATA --out RUN`."
        ) from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{path} is damaged: {error}", "Run `edgetl finetune` again.") from None
    weights = folder / (ADOPTED_FILE if run.model.kept == "file" else WEIGHTS_FILE)
    if not weights.is_file():
        command = "finetune" if run.model.taught else "adopt"
        raise BadInputError(f"{weights} is missing", f"Run `edgetl {command}` again.")
    return run


def read_splits(folder: Path) -> dict[str, tuple[SplitFile, ...]]:
    """Read `splits.json`. Raises BadInputError when it is missing or damaged."""
    path = folder / SPLITS_FILE
    try:
        return files.read_json(path, dict[str, tuple[SplitFile, ...]], MAX_SPLITS_BYTES)
    except FileNotFoundError:
        raise BadInputError(f"{path} is missing", "Run `edgetl finetune` again.") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{path} is damaged: {error}", "Run `edgetl finetune` again.") from None


def read_earlier(folder: Path) -> dict[str, str]:
    """The split of each photograph, by SHA-256, of the runs before that in `folder` which its `splits.json` lacks.

    Raises BadInputError where the file is damaged; most runs have none.
    """
    path = folder / EARLIER_FILE
    try:
        return files.read_json(path, dict[str, str], MAX_SPLITS_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{path} is damaged: {error}", "Run `edgetl finetune` again.") from None


def no_gradients(folder: Path) -> BadInputError:
    """The error for a run that came as an ONNX file, where the network itself is wanted."""
    hint = f"See where it looks, by occlusion: edgetl explain why {shlex.quote(str(folder))} IMAGE"
    return BadInputError(f"{folder} was adopted from an ONNX file, which has no gradients", hint)
