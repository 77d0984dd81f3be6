"""What one scale for all weights of a layer costs, which some NPUs want (`edgetl export --per-tensor`).

    EDGETL_DATA=FOLDER python benchmarks/int8/per_tensor.py RUN... [--out FILE.csv]

For each run, edgetl's first recipe and ONNX Runtime's own quantiser, per channel and per tensor, calibrated on the
run's calibration photographs: top-1 and agreement with the float file on its test photographs, on ONNX Runtime.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import onnx

from toolchain.artifact import FLOAT_FILE, make_artifact, read_artifact
from toolchain.export.int8.quantisers import Candidate, Task, recipes
from toolchain.export.measure import logits_on
from toolchain.export.photographs import RunPhotographs
from toolchain.runs import read_run
from toolchain.system.progress import Silent

LABELS = ("edgetl", "ONNX Runtime, min-max")
DEVICE = "ort:cpu"


def measure(folder: Path) -> list[dict[str, object]]:
    """A row for each way to quantise the network of a run."""
    run = read_run(folder)
    photographs = RunPhotographs(folder, run, None, Silent())
    test, calibration = (photographs.read(split) for split in ("test", "calibration"))
    artifact = read_artifact(folder / FLOAT_FILE)
    model = onnx.load_model_from_string(artifact.model)
    del model.metadata_props[:]
    reference = logits_on(artifact, DEVICE, test.pixels).argmax(1)

    def row(label: str, weights: str, answers: np.ndarray) -> dict[str, object]:
        return {
            "model": run.model.name,
            "recipe": label,
            "weights": weights,
            "top1": round(float((answers == test.labels).mean()), 4),
            "agreement": round(float((answers == reference).mean()), 4),
            "n": len(test.labels),
        }

    def answers(candidate: Candidate) -> np.ndarray:
        # The card is that of the float file, so that any runtime takes it.
        file = make_artifact(candidate.model, artifact.card, folder / "int8.onnx")
        return logits_on(file, DEVICE, test.pixels).argmax(1)

    rows = [row("float", "float32", reference)]
    for per_tensor in (False, True):
        for recipe in recipes(Task(model, calibration.pixels, per_tensor=per_tensor)):
            if recipe.label in LABELS:
                candidate = recipe.make()
                rows.append(row(recipe.label, candidate.settings["weights"], answers(candidate)))
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    rows = [row for folder in words.runs for row in measure(folder)]
    if words.out:
        with words.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
