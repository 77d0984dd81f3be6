"""What each step of the road to an accurate network gives: recipe, teacher, refit, mirror averaging.

    EDGETL_DATA=FOLDER python benchmarks/finetune/road.py pets --model mobilenet_v3_small --weights FILE \\
        --teacher RUN --seeds 0,1,2 --out benchmarks/results

A run with `--refit` is judged on test before and after validation teaches it too; the exported file then answers
test photographs and their mirror images. Choose recipes and teachers on validation before: here test is looked at.
Rows are written after each run; a repeated run takes the place of its old rows.
"""

from __future__ import annotations

import argparse
import csv
import io
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import toolchain
from toolchain.backbones import recipe_of
from toolchain.datasets.catalogue import open_dataset
from toolchain.evaluation.metrics import Top1, accuracy
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Reader
from toolchain.runs import Run, read_run
from toolchain.runtimes.devices import cores
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.training.finetune import finetune
from toolchain.training.settings import settings_for

COLUMNS = (
    "model",
    "teachers",
    "seed",
    "step",
    "photographs",
    "top1",
    "per_class_top1",
    "kept",
    "machine",
    "versions",
)
PACKAGES = ("torch", "torchvision", "openvino", "onnxruntime", "opencv-python-headless")

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--teacher", action="append", default=[])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--keep", type=Path, help="folder to leave the runs in")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    path = options.out / f"road-{options.data}.csv"
    rows = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    for seed in map(int, options.seeds.split(",")):
        new = measured(options.data, options.model, options.weights, tuple(options.teacher), seed, options.keep)
        mine = {_key(row) for row in new}
        rows = [row for row in rows if _key(row) not in mine] + new
        files.write_bytes(path, _csv(rows))
        for row in new:
            print(
                row["model"],
                row["teachers"],
                row["seed"],
                row["step"],
                row["top1"],
                row["per_class_top1"],
                flush=True,
            )


def measured(
    data: str, model: str, weights: str, teachers: tuple[str, ...], seed: int, keep: Path | None
) -> list[Row]:
    """Train once with `seed`; a row for each step on test. The run stays in `keep`, if that is given."""
    recipe = recipe_of(model)
    settings = settings_for(data, model, recipe, weights=weights, teacher=teachers, refit=True, seed=seed)
    with TemporaryDirectory() as name:
        folder = (keep or Path(name)) / f"{model.removeprefix('timm:')}-{len(teachers)}-{seed}"
        finetune(settings, folder, reporter=Silent())
        return rows_of(folder, data, seed)


def rows_of(folder: Path, data: str, seed: int) -> list[Row]:
    """What the finished run in `folder` reached on test, step by step."""
    run = read_run(folder)
    mirrored = on_test(folder, run, data)
    common = {
        "model": run.model.name,
        "teachers": "+".join(one.name for one in run.model.teachers),
        "seed": str(seed),
        "kept": f"{run.model.kept} {run.model.best_epoch}",
        "machine": f"{run.environment['device_name']}, {cores()} cores",
        "versions": " ".join(versions()),
    }
    steps = {
        "probe": run.probe_metrics["test"],
        "fine-tuned": run.before_refit["test"],
        "refit": run.metrics["test"],
        "mirror average": mirrored,
    }
    return [
        common
        | {
            "step": step,
            "photographs": str(run.metrics["test"].n),
            "top1": f"{found.top1:.4f}",
            "per_class_top1": f"{found.per_class_top1:.4f}",
        }
        for step, found in steps.items()
    ]


def on_test(folder: Path, run: Run, data: str) -> Top1:
    """Accuracy of the exported file on test, answers to pictures and their mirror images averaged."""
    photos = open_dataset(data, reporter=Silent()).splits["test"]
    reader = Reader(run.preprocess, cache_folder(), Silent())
    classifier = toolchain.load(folder, mirror_average=True)
    answers = [
        classifier.infer([reader.input(photo) for photo in photos[at : at + 8]]).logits.argmax(1)
        for at in range(0, len(photos), 8)
    ]
    return accuracy(np.concatenate(answers), np.array([photo.label for photo in photos]))


def versions() -> list[str]:
    """Those of the packages that are installed."""
    found = [f"edgetl {toolchain.__version__}"]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def _key(row: Row) -> tuple[str, ...]:
    return row["model"], row["teachers"], row["seed"], row["step"]


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    main()
