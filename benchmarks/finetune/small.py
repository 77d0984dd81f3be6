"""What people come with: five classes of twenty photographs. Do the figures hold on photographs never seen?

    EDGETL_DATA=FOLDER python benchmarks/finetune/small.py WEIGHTS --int8 --out benchmarks/results/small-5x20.csv

Each draw takes breeds of the pets and photographs of them at random, and puts them into a folder as a person would.
The other photographs of these breeds are unseen. They are answered through the deployed files: their likelihood
beside that of the best temperature there is, how many are accepted, how many pictures of other things are rejected,
and what int8 loses where the gate let a file through (speed is left out: `--min-speed-up 0`). `--classes` and
`--each` draw other sizes.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import toolchain
from toolchain.backbones import recipes
from toolchain.cli.console import Console
from toolchain.datasets import SPLITS, Photograph
from toolchain.datasets.catalogue import data_root, open_dataset
from toolchain.export.exporting import export
from toolchain.export.results import QuantizationSettings as Int8
from toolchain.training.finetune import finetune
from toolchain.training.settings import settings_for

COLUMNS = (
    *("network", "classes", "each", "draw", "train", "val", "calibration", "test", "kept", "temperature"),
    *("temperature_low", "temperature_high", "best_temperature", "nll", "best_nll", "unseen", "top1"),
    *("folds_top1", "accepted", "others_rejected", "int8_drop_pp"),
)
UNSEEN = 60
"""Unseen photographs that a breed must have at least."""
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pets = open_dataset("pets")
    by_breed: list[list[Photograph]] = [[] for _ in pets.classes]
    for split in SPLITS:
        for photo in pets.splits[split]:
            by_breed[photo.label].append(photo)
    usable = [label for label, photos in enumerate(by_breed) if len(photos) >= options.each + UNSEEN]
    others = sorted(path for path in (data_root() / "not-pets").rglob("*") if path.is_file())
    console = Console()
    rows = []
    for draw in range(options.draws):
        rng = np.random.default_rng([draw, options.classes, options.each])
        with TemporaryDirectory(prefix="Été 2026 ") as folder:
            root = Path(folder) / "photos"
            unseen: list[Photograph] = []
            for label in rng.choice(usable, options.classes, replace=False):
                (root / pets.classes[label]).mkdir(parents=True)
                photos = [by_breed[label][index] for index in rng.permutation(len(by_breed[label]))]
                for photo in photos[: options.each]:
                    shutil.copy(photo.path, root / pets.classes[label])
                unseen += photos[options.each :]
            settings = settings_for(
                str(root), options.model, recipes.load(options.model), weights=str(options.weights), seed=draw
            )
            truth = [pets.classes[photo.label] for photo in unseen]
            paths = [photo.path for photo in unseen]
            figures = _measured(settings, Path(folder) / "run", paths, truth, others, options.int8)
        rows.append([options.model, options.classes, options.each, draw, *figures])
        console.say(", ".join(f"{name} {value}" for name, value in zip(COLUMNS, rows[-1], strict=True)))
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _measured(settings, folder, paths, truth, others, int8):  # type: ignore[no-untyped-def]
    """Train, export, and answer what was not seen, through the files."""
    run = finetune(settings, folder)
    done = export(folder, int8=Int8(min_speed_up=0) if int8 else None)
    classifier = toolchain.load(done.float_file)
    labels = np.array([run.data.classes.index(name) for name in truth])
    logits, accepted = _answers(classifier, paths)
    top1 = (logits.argmax(1) == labels).mean()
    _, others_accepted = _answers(classifier, others)

    def nll(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())

    best = float(np.exp(minimize_scalar(lambda t: nll(np.exp(t)), bounds=(-4, 4), method="bounded").x))
    drops = []
    for device, file in done.int8_files.items():
        if device not in done.broken:
            rounded, _ = _answers(toolchain.load(file, device), paths)
            drops.append(f"{device} {100 * (top1 - (rounded.argmax(1) == labels).mean()):.2f}")
    fit, crossed = run.temperature_fit, run.cross_validation
    return [
        *(run.data.counts[split] for split in ("train", "val", "calibration", "test")),
        *(run.model.kept, round(run.temperature, 3)),
        *(
            round(fit.low, 3),
            round(fit.high, 3),
            round(best, 3),
            round(nll(run.temperature), 4),
            round(nll(best), 4),
        ),
        *(len(labels), round(float(top1), 4), round(crossed.metrics.top1, 4) if crossed else ""),
        *(round(float(accepted.mean()), 4), round(1 - float(others_accepted.mean()), 4)),
        "; ".join(drops) if int8 else "",
    ]


def _answers(classifier: toolchain.Classifier, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n, classes], and whether each photograph is accepted."""
    predictions = []
    for start in range(0, len(paths), BATCH):
        predictions += classifier.predict_batch(list(paths[start : start + BATCH]))
    return np.stack([one.logits for one in predictions]), np.array([not one.rejected for one in predictions])


if __name__ == "__main__":
    main()
