"""Do int8 files always answer? 1,000 random images and 1,000 crops of photographs through each, on each runtime.

    edgetl export RUN --int8    (for each run)
    EDGETL_DATA=FOLDER python benchmarks/int8/answers.py RUN... --out benchmarks/results/int8-answers.csv

Random images are noise of several contrasts, plain colours and checkerboards; crops are of the run's test
photographs, of any size, place and shape. Logits and probabilities must be finite, and probabilities sum to 1
within 1e-5. A file is asked on the devices and in the ways that its card names. Exit code 1 where one does not
hold.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact, read_artifact
from toolchain.cli.console import Console
from toolchain.export.photographs import RunPhotographs
from toolchain.runs import read_run
from toolchain.runtimes import open_runtime
from toolchain.runtimes.devices import cpu_name, probe

N = 1000
BATCH = 8
MAX_ERROR = 1e-5
COLUMNS = ("network", "run", "file", "device", "images", "n", "finite", "largest_error_of_sum", "holds", "cpu")


def random_images(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 [N, height, width, 3]."""
    images = np.empty((N, height, width, 3), np.uint8)
    for place in range(N):
        kind = place % 4
        if kind == 0:
            images[place] = rng.integers(0, 256, (height, width, 3))
        elif kind == 1:
            images[place] = np.clip(rng.normal(rng.uniform(0, 255), rng.uniform(1, 80), (height, width, 3)), 0, 255)
        elif kind == 2:
            images[place] = rng.choice([0, 255, rng.integers(0, 256)], 3)
        else:
            size = int(rng.integers(1, 64))
            board = np.indices((height, width)).sum(0) // size % 2
            images[place] = np.where(board[..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3))
    return images


def crops(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 [N, height, width, 3], from `pixels` of the same form."""
    n, height, width, _ = pixels.shape
    images = np.empty((N, height, width, 3), np.uint8)
    for place in range(N):
        high, wide = (int(rng.integers(size // 8, size + 1)) for size in (height, width))
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        crop = pixels[rng.integers(n), top : top + high, left : left + wide]
        images[place] = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_LINEAR)
    return images


def rows(folder: Path, artifact: Artifact, asked: dict[str, NDArray[np.uint8]]) -> Iterator[dict[str, object]]:
    """One row for each device and kind of image."""
    for device in artifact.card.runtimes:
        if not probe(device).available:
            continue
        runtime = open_runtime(artifact, device)
        for kind, images in asked.items():
            finite, error = True, 0.0
            for start in range(0, N, BATCH):
                found = runtime.infer(images[start : start + BATCH])
                finite &= bool(np.isfinite(found.logits).all() and np.isfinite(found.probabilities).all())
                sums = found.probabilities.astype(np.float64).sum(1)
                error = max(error, float(np.abs(sums - 1).max()))
            yield {
                "network": artifact.card.source.model,
                "run": folder.name,
                "file": artifact.path.name,
                "device": device,
                "images": kind,
                "n": N,
                "finite": finite,
                "largest_error_of_sum": f"{error:.1e}",
                "holds": finite and error <= MAX_ERROR,
                "cpu": cpu_name(),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    console = Console()
    found = []
    for folder in options.runs:
        run, rng = read_run(folder), np.random.default_rng(0)
        test = RunPhotographs(folder, run, None, console).read("test").pixels
        asked = {"random": random_images(*test.shape[1:3], rng), "crops": crops(test, rng)}
        for path in sorted(folder.glob("model.int8*.onnx")):
            for row in rows(folder, read_artifact(path), asked):
                console.say(", ".join(str(value) for value in row.values()))
                found.append(row)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    sys.exit(0 if found and all(row["holds"] for row in found) else 1)


if __name__ == "__main__":
    main()
