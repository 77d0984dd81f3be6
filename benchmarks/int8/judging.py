"""Runs whose int8 files are judged by validation photographs, also mirrored; the rows that come of it."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from toolchain.artifact import make_artifact, read_artifact
from toolchain.artifact.card import QuantizationRecipe
from toolchain.cli.console import Console
from toolchain.evaluation import metrics
from toolchain.export.int8.quantisers import Candidate, Task
from toolchain.export.measure import logits_on
from toolchain.export.photographs import RunPhotographs
from toolchain.runs import read_run

COLUMNS = ("divergence", "agreement", "expected_drop_pp", "n")
DEVICES = ("ort:cpu", "openvino:CPU")


class Judge:
    """The exported run in `folder`: its float `model`, its `photographs`, and how near a candidate comes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.console = folder, Console()
        self.run = read_run(folder)
        self.base = read_artifact(folder / "model.onnx")
        self.photographs = RunPhotographs(folder, self.run, None, self.console)
        self.model = onnx.load_model_from_string(self.base.model)
        del self.model.metadata_props[:]
        calibration = self.photographs.read("calibration")
        self.task = Task(self.model, calibration.pixels)
        self._views = self.photographs.read("val").views
        recipe = QuantizationRecipe("benchmark", {}, calibration.split_sha256, len(calibration.pixels))
        self._card = replace(self.base.card, precision="int8", recipe=recipe, runtimes=DEVICES)
        self._exact = cache(self._float)

    def judged(self, candidate: Candidate, device: str) -> tuple[str, ...]:
        """What `candidate` is worth on `device`, as in COLUMNS: divergence in nats, and points of top-1."""
        n = len(self._views.pixels)
        artifact = make_artifact(candidate.model, self._card, self.folder / "candidate.onnx")
        exact, logits = self._exact(device), logits_on(artifact, device, self._views, 2 * n)
        divergence = metrics.divergence(logits, exact, self.run.temperature).mean()
        agreement = metrics.agreement(logits.argmax(1), exact.argmax(1))
        lost, _ = metrics.expected_drop(exact, logits, n, self.run.temperature)
        return f"{divergence:.2e}", f"{agreement:.4f}", f"{lost:.3f}", str(n)

    def _float(self, device: str) -> NDArray[Any]:
        return logits_on(self.base, device, self._views, 2 * len(self._views.pixels))


Row = Sequence[object]


def record(what: str | None, columns: Sequence[str], rows_of: Callable[[Path], Iterable[Row]]) -> None:
    """The program `SCRIPT RUN... --out FILE`: print the rows of each run, and write them under `columns`.

    `what` is its description.
    """
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for folder in options.runs:
            for row in rows_of(folder):
                print(*row, flush=True)
                writer.writerow(row)
