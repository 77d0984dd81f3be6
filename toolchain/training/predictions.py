"""What the kept network answered on every photograph of val and test, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from toolchain.datasets import Dataset
from toolchain.runs import PREDICTIONS_FILE
from toolchain.system import files
from toolchain.system.text import escaped
from toolchain.training.report import Answers


def write_predictions(folder: Path, dataset: Dataset, answers: Mapping[str, Answers]) -> None:
    """Write `predictions.csv`: split, name, label, answer, the answer's probability and that of the label."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["split", "name", "label", "answer", "probability", "label_probability"])
    for split, given in answers.items():
        for photo, row in zip(given.photos, given.probabilities, strict=True):
            answer = int(row.argmax())
            names = dataset.classes[photo.label], dataset.classes[answer]
            writer.writerow([split, escaped(photo.name), *names, f"{row[answer]:.6f}", f"{row[photo.label]:.6f}"])
    files.write_bytes(folder / PREDICTIONS_FILE, text.getvalue().encode())
