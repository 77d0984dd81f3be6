"""What all files of one export are made from and measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.card import Accuracy, Card
from toolchain.evaluation.metrics import accuracy_drop
from toolchain.export.measure import Sample, accuracy_of, logits_on
from toolchain.system.progress import Reporter

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Measurement:
    """One file on one device.

    `drop_pp` is the top-1 lost against float on the same device, over all views of the photographs; at most
    `drop_upper_pp` with 95 % confidence.
    """

    device: str
    accuracy: Accuracy
    drop_pp: float | None = None
    drop_upper_pp: float | None = None


@dataclass(frozen=True)
class ExportContext:
    """The float `model`, to be written to `path` with `card`, and what other files are compared with.

    `reference` are the trained network's logits on the views of `sample`, `bases` those of the float file on each
    device that is measured on. `photographs` are the files of `sample`. `read` reads another split of the run.
    """

    model: onnx.ModelProto
    card: Card
    path: Path
    sample: Sample
    reference: Logits
    bases: dict[str, Logits]
    photographs: tuple[Path, ...]
    read: Callable[[str], Sample]
    seed: int
    reporter: Reporter

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.bases)

    def hop(self, artifact: Artifact, device: str) -> Measurement:
        """Measure an artifact, which need not be written yet."""
        logits = logits_on(artifact, device, self.sample.views)
        accuracy = accuracy_of(logits, self.reference, self.sample, device, artifact.card.precision)
        drop, upper = accuracy_drop(self.bases.get(device, self.reference), logits, self.sample.labels)
        return Measurement(device, accuracy, drop, upper)
