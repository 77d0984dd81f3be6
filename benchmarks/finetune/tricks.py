"""What each training trick is worth: one option of `edgetl finetune` changed at a time, everything else the same.

    EDGETL_DATA=FOLDER python benchmarks/finetune/tricks.py pets --model mobilenet_v3_small --weights FILE \\
        --epochs 3 --seeds 0,1 --out benchmarks/results

An arm is a set of options, `batch-norm=trained` or `learning-rate=1e-3,max-grad-norm=0`; the arm `default` comes
first. What is evaluated is the network after its last epoch (its average), whether or not the run kept it: a run
keeps the linear probe where fine-tuning spoiled it, and would hide what an option did. Arms with the same seed
answer the same test photographs, so their difference is known better than either: its standard error is that of
paired answers.

Rows are written after each run, and a repeated run takes the place of its old row.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from toolchain.backbones import recipes
from toolchain.backbones.networks import body_of, build
from toolchain.datasets import Dataset
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Reader
from toolchain.runs import Run
from toolchain.runtimes.devices import cores, cpu_name
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.training.checkpoint import STATE_FILE
from toolchain.training.features import Frozen, features_of, labels_of, logits_of
from toolchain.training.finetune import finetune
from toolchain.training.photographs import opened
from toolchain.training.records import read_lines
from toolchain.training.settings import TrainSettings, settings_for

ARMS = (
    *("default", "head-init=random", "head-init=zeros", "batch-norm=trained", "dropout=0", "dropout=0.5"),
    *("optimizer=adam", "optimizer=rmsprop", "optimizer=sgd", "schedule=linear", "schedule=step"),
    *("schedule=constant", "warm-up=0", "max-grad-norm=0", "max-grad-norm=0.1", "label-smoothing=0.1"),
    *("augmentation=0", "augmentation=2", "ema-decay=0", "weight-decay=0.1", "balance=none"),
    *("trained-blocks=0", "trained-blocks=13", "learning-rate=1e-3", "learning-rate=1e-3,max-grad-norm=0"),
)
COLUMNS = (
    *("arm", "seed", "epochs", "train_loss", "val_nll", "val_top1", "test_top1", "difference_pp", "error_pp"),
    *("probe_test_top1", "kept", "seconds", "machine", "versions"),
)
PACKAGES = ("edgetl", "torch", "torchvision", "openvino", "opencv-python-headless")

Right = NDArray[np.bool_]
Row = dict[str, str]


def main() -> None:
    options = _options()
    path = options.out / f"tricks-{options.data}-{options.model}.csv"
    rows = _read(path)
    for seed in options.seeds:
        default: Right | None = None
        for arm in options.arms:
            given = {} if arm == "default" else _given(arm)
            settings = settings_for(
                options.data,
                options.model,
                recipes.load(options.model),
                **{"weights": options.weights, "epochs": options.epochs, "seed": seed, **given},
            )
            row, right = measured(arm, settings)
            default = right if arm == "default" else default
            if default is not None and arm != "default":
                row |= difference(right, default)
            rows[arm, str(seed)] = row
            _write(path, list(rows.values()))
            print(", ".join(f"{key} {row[key]}" for key in COLUMNS[:9]), flush=True)


def measured(arm: str, settings: TrainSettings) -> tuple[Row, Right]:
    """Train once; return the row and which test photographs the network of the last epoch answers rightly."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "run"
        started = time.perf_counter()
        run = finetune(settings, folder)
        seconds = time.perf_counter() - started
        last = read_lines(folder)[-1]
        right = _right_after_last_epoch(run, settings, folder)
    row = {
        "arm": arm,
        "seed": str(settings.seed),
        "epochs": str(settings.epochs),
        "train_loss": f"{last['loss']:.3f}",
        "val_nll": f"{last['val_nll']:.4f}",
        "val_top1": f"{last['val_top1']:.4f}",
        "test_top1": f"{right.mean():.4f}",
        "difference_pp": "",
        "error_pp": "",
        "probe_test_top1": f"{run.probe_metrics['test'].top1:.4f}",
        "kept": run.model.kept,
        "seconds": f"{seconds:.0f}",
        "machine": f"{cpu_name()}, {cores()} cores",
        "versions": "; ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return row, right


def difference(right: Right, default: Right) -> Row:
    """Points of top-1 gained over the default, and the standard error of that, from paired answers."""
    change = right.astype(float) - default.astype(float)
    error = change.std(ddof=1) / math.sqrt(len(change))
    return {"difference_pp": f"{100 * change.mean():+.2f}", "error_pp": f"{100 * error:.2f}"}


def _right_after_last_epoch(run: Run, settings: TrainSettings, folder: Path) -> Right:
    network = build(settings.model, len(run.data.classes))
    state = load_file(folder / "checkpoint" / STATE_FILE)
    network.load_state_dict(
        {name.removeprefix("average/"): tensor for name, tensor in state.items() if name.startswith("average/")}
    )
    dataset: Dataset = opened(settings, Silent())
    photos, spec = dataset.splits["test"], settings.preprocess
    body = Frozen(body_of(network), (spec.height, spec.width), torch.device("cpu"), pooled=True)
    decoded = Reader(spec, cache_folder() if settings.cache else None, Silent())
    features = features_of(photos, body.extractor(many=len(photos), exact=True), decoded, Silent(), "test")
    right: Right = logits_of(network, features).argmax(1) == labels_of(photos)
    return right


def _given(arm: str) -> dict[str, Any]:
    """`learning-rate=1e-3,max-grad-norm=0` as settings."""
    given: dict[str, Any] = {}
    for part in arm.split(","):
        name, _, value = part.partition("=")
        given[name.replace("-", "_")] = _value(value)
    return given


def _value(text: str) -> int | float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and "e" not in text and "." not in text else number


def _read(path: Path) -> dict[tuple[str, str], Row]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}


def _write(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_bytes(path, text.getvalue().encode())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="mobilenet_v3_small")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--arms", nargs="+", default=ARMS, metavar="ARM", help="put `default` first")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
