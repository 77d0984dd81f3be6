"""What the commands of the tutorial reach: the figures of docs/tutorial/guide.md.

    EDGETL_DATA=FOLDER python benchmarks/finetune/tutorial.py --weights V2 --small-weights V3_SMALL \
        --out benchmarks/results/tutorial.csv

Each row is one `edgetl finetune` of the tutorial: the linear probe on the pets (MobileNetV2 and MobileNetV3 small),
on cats versus dogs and on scanned digits, and digits fine-tuned with and without augmentation. V2 and V3_SMALL are
torchvision's ImageNet weights as files. `val_last_top1` is that of the network after its last epoch, whether it was
kept or not.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

COLUMNS = (
    *("arm", "options", "train", "val", "test", "test_top1", "test_error_pp", "test_per_class_top1", "val_top1"),
    *("val_last_top1", "kept", "seconds", "machine", "versions"),
)
PACKAGES = ("python", "torch", "torchvision", "opencv-python-headless")
ROUGH = ("--epochs", "4", "--learning-rate", "1e-3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--small-weights", type=Path, required=True)
    parser.add_argument("--only", help="one arm, whose row takes the place of the old one")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        digits = Path(name) / "digits"
        draw_digits(digits)
        large, small = ("--weights", str(options.weights)), ("--weights", str(options.small_weights))
        arms: dict[str, tuple[str, ...]] = {
            "pets-probe": ("pets", *large, "--probe-only"),
            "pets-probe-v3-small": ("pets", "--model", "mobilenet_v3_small", *small, "--probe-only"),
            "cats-vs-dogs-probe": ("cats-vs-dogs", *large, "--probe-only"),
            "digits-probe": (str(digits), *large, "--probe-only"),
            "digits-usual-views": (str(digits), *large, *ROUGH),
            "digits-no-views": (str(digits), *large, *ROUGH, "--augmentation", "0"),
        }
        rows = read(options.out)
        for arm, words in arms.items():
            if options.only in {None, arm}:
                rows[arm] = measured(arm, words, Path(name) / arm)
                write(options.out, [rows[arm] for arm in arms if arm in rows])


def draw_digits(folder: Path) -> None:
    """The digits as the tutorial writes them: folders of 64 x 64 pictures."""
    import cv2
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        grey = cv2.resize(255 - picture * 255 / 16, (64, 64), interpolation=cv2.INTER_CUBIC).clip(0, 255)
        cv2.imwrite(str(folder / str(label) / f"{number:04}.png"), grey.astype("uint8"))


def measured(arm: str, words: Sequence[str], out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "toolchain", "finetune", *words, "--out", str(out), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - started
    run = json.loads(done.stdout)
    test, val = run["metrics"]["test"], run["metrics"]["val"]
    history = out / "metrics.jsonl"
    epochs = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    shown = [Path(word).name if "/" in word else word for word in words]
    environment = run["environment"]
    return {
        "arm": arm,
        "options": " ".join(shown),
        **{split: run["data"]["counts"][split] for split in ("train", "val", "test")},
        "test_top1": f"{test['top1']:.4f}",
        "test_error_pp": f"{100 * (test['top1'] * (1 - test['top1']) / test['n']) ** 0.5:.1f}",
        "test_per_class_top1": f"{test['per_class_top1']:.4f}",
        "val_top1": f"{val['top1']:.4f}",
        "val_last_top1": f"{json.loads(epochs[-1])['val_top1']:.4f}" if epochs else "",
        "kept": "probe" if run["metrics"] == run["probe_metrics"] else "finetune",
        "seconds": round(seconds),
        "machine": f"{environment['cpu']}, {environment['cores']} cores",
        "versions": "; ".join(f"{name} {environment[name]}" for name in PACKAGES),
    }


def read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
