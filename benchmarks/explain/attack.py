"""Do attacked dogs become a chosen cat, and do the saved files still do so elsewhere?

    python benchmarks/explain/attack.py RUN [--data pets] [--target Persian] [--limit 120] [--out FOLDER]

RUN holds model.onnx and model.int8.onnx. Dogs of the test split that the run answers right are attacked with PGD
(L-infinity) and saved as PNG, whole photographs at the network's scale. Then nothing of edgetl is used any more:
Pillow reads the files back, NumPy cuts out the centre, and ONNX Runtime runs both files. One CSV has a line for
each photograph, the other what came of it, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import csv
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from toolchain.cli.model_argument import class_index
from toolchain.datasets.catalogue import open_dataset
from toolchain.datasets.pets import FOLDER
from toolchain.explain.attack import AttackConfig, attack
from toolchain.explain.attack.dataset import sample
from toolchain.explain.pictures import CroppedImage, as_png
from toolchain.explain.torch_model import open_model
from toolchain.images.preprocess import read
from toolchain.runtimes.devices import cores, cpu_name
from toolchain.system.progress import Silent

FILES = {"float": "model.onnx", "int8": "model.int8.onnx"}
BATCH = 16


def by_hand(path: Path, height: int, width: int) -> np.ndarray:
    """The centre of a PNG, uint8 [height, width, 3], as Pillow reads it."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def answers(model: Path, paths: list[Path]) -> np.ndarray:
    """Class indices, int [n], by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape
    found = []
    for start in range(0, len(paths), BATCH):
        images = np.stack([by_hand(path, height, width) for path in paths[start : start + BATCH]])
        found.append(session.run(["logits"], {"image": images})[0].argmax(1))
    return np.concatenate(found)


def dogs(root: Path) -> set[str]:
    """Names of dogs' photographs, by the species in the publisher's list."""
    lines = (root / "annotations" / "test.txt").read_text().splitlines()
    return {words[0] for words in map(str.split, lines) if words[2:3] == ["2"]}


def largest_change(before: Path, after: Path) -> int:
    """The most that a value of two PNGs differs, as Pillow reads them."""
    pictures = [np.asarray(Image.open(path)).astype(int) for path in (before, after)]
    return int(np.abs(pictures[1] - pictures[0]).max())


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="pets")
    parser.add_argument("--target", default="Persian")
    parser.add_argument("--budgets", default="1,4")
    parser.add_argument("--limit", type=int, default=120, help="dogs that the run answers right")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    subject = open_model(options.run)
    target = class_index(subject.labels, options.target)
    dataset = open_dataset(options.data)
    assert dataset.root.name == FOLDER.rsplit("/", 1)[-1], "the species stand in the pets' own lists"
    known = dogs(dataset.root)
    every = sample(dataset, "test", 0, subject, options.run, target, Silent())
    chosen = [(photo, label) for photo, label in every if Path(photo.name).stem in known]
    folder = Path(tempfile.mkdtemp(prefix="edgetl-attack-"))

    names, labels, places = [], [], []
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        there = [CroppedImage.of(read(photo.path), subject.preprocess) for photo, _ in part]
        clean = [folder / f"{Path(photo.name).stem}.png" for photo, _ in part]
        for path, placed in zip(clean, there, strict=True):
            path.write_bytes(as_png(placed.whole))
        for path, (_, label), placed, said in zip(
            clean, part, there, answers(options.run / FILES["float"], clean), strict=True
        ):
            if said == label and len(names) < options.limit:
                names.append(path.stem)
                labels.append(label)
                places.append(placed)
        if len(names) >= options.limit:
            break
    clean = [folder / f"{name}.png" for name in names]
    before = {kind: answers(options.run / name, clean) for kind, name in FILES.items()}
    pixels, truth = np.stack([placed.pixels for placed in places]), np.array(labels)
    right = before["int8"] == truth
    rows, summary = [], []
    for budget in (int(word) for word in options.budgets.split(",")):
        began = time.perf_counter()
        done = attack(subject, pixels, budget, target=target, config=AttackConfig())
        seconds = time.perf_counter() - began
        saved = [folder / f"{name}-{budget}.png" for name in names]
        for path, placed, one in zip(saved, places, done.pixels, strict=True):
            path.write_bytes(as_png(placed.with_pixels(one)))
        after = {kind: answers(options.run / name, saved) for kind, name in FILES.items()}
        # By the files themselves: what a pixel of the saved picture differs from that of the photograph.
        largest = [largest_change(*both) for both in zip(clean, saved, strict=True)]
        for number, name in enumerate(names):
            rows.append(
                {"photograph": name, "label": subject.labels[labels[number]], "budget": budget}
                | {"largest_change": largest[number]}
                | {f"{kind}_before": subject.labels[before[kind][number]] for kind in FILES}
                | {f"{kind}_after": subject.labels[after[kind][number]] for kind in FILES}
            )
        summary.append(
            {
                "target": options.target,
                "budget": budget,
                "dogs": len(names),
                "float_to_target": round(float((after["float"] == target).mean()), 4),
                "int8_right_before": int(right.sum()),
                "int8_to_target": round(float((after["int8"] == target)[right].mean()), 4),
                "int8_wrong": round(float((after["int8"] != truth)[right].mean()), 4),
                "largest_change": max(largest),
                "seconds": round(seconds, 1),
                "cpu": cpu_name(),
                "cores": cores(),
                "platform": platform.platform(terse=True),
                **{name: version(name) for name in ("torch", "onnxruntime", "pillow", "numpy")},
            }
        )
        print({key: value for key, value in summary[-1].items() if key not in ("cpu", "platform")}, flush=True)
        write(options.out / "attack.csv", summary)
        write(options.out / "attack-photographs.csv", rows)
    print(f"pictures: {folder}")


if __name__ == "__main__":
    main()
