"""Measuring files against the trained network: what they answer on photographs, on each device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.card import Accuracy, Card, Precision
from toolchain.evaluation import metrics
from toolchain.evaluation.metrics import softmax
from toolchain.export.photographs import RunPhotographs, Sample, Views
from toolchain.export.results import Measurement
from toolchain.runtimes import machine, open_runtime
from toolchain.runtimes.machine import Environment
from toolchain.system.progress import Reporter
from toolchain.timing.protocol import LOCAL

BATCH = 8
NEAR_TIE = 0.1
"""What a view loses whose answer changes, as probabilities have it: 0.05 to 0.09 on the pets. The error of what is
lost is that of one such view at least: where no answer of a few photographs changed, one may among others."""

Logits = NDArray[np.float32]
Pixels = NDArray[np.uint8] | Views
"""uint8 [n, height, width, 3], or what gives it when it is sliced."""


@dataclass(frozen=True)
class ExportContext:
    """The float `model`, to be written to `path` with `card`, and what other files are compared with.

    `reference` are the trained network's logits on the views of `sample`, the split that judges; `float_logits`
    those of the float file on each target. `ways` are the other ways of running targets that this machine has.
    `seed` is that of the run. `machines` are those that int8 is timed on.
    """

    model: onnx.ModelProto
    card: Card
    path: Path
    photographs: RunPhotographs
    sample: Sample
    reference: Logits
    float_logits: dict[str, Logits]
    seed: int
    reporter: Reporter
    ways: tuple[str, ...] = ()
    machines: dict[str, Environment] = field(default_factory=lambda: {LOCAL: machine.describe()})

    @property
    def devices(self) -> tuple[str, ...]:
        """The targets: devices that files are measured on."""
        return tuple(self.float_logits)

    def measure(self, artifact: Artifact, device: str) -> Measurement:
        """Measure an artifact, which need not be written yet."""
        return self.compare(logits_on(artifact, device, self.sample.views), device, artifact.card.precision)

    def compare(self, logits: Logits, device: str, precision: Precision) -> Measurement:
        """Compare logits of the first views of `sample` with the trained network, and with float on `device`."""
        n = len(logits)
        accuracy = accuracy_of(logits, self.reference[:n], self.sample, device, precision)
        base = self.float_logits.get(device, self.reference)[:n]
        return measured(accuracy, base, logits, self.sample.labels, self.card.temperature)


def logits_on(artifact: Artifact, device: str, pixels: Pixels, n: int | None = None) -> NDArray[np.float32]:
    """Logits of `artifact` on `device` for the first `n` of `pixels` (None: all), float32 [n, classes].

    It need not be proven there.
    """
    runtime = open_runtime(artifact, device, unproven=True)
    n = len(pixels) if n is None else n
    # A network of others may quantise by the range of the whole batch: its answers are those to one picture alone.
    batch = 1 if b"DynamicQuantizeLinear" in artifact.model else BATCH
    starts = range(0, n, batch)
    return np.concatenate([runtime.infer(pixels[start : min(start + batch, n)]).logits for start in starts])


def measured(
    accuracy: Accuracy, base: Logits, logits: Logits, labels: NDArray[np.int64], temperature: float
) -> Measurement:
    """What a file with `logits` loses against float with `base`, both of several views of photographs."""
    drop, upper = metrics.accuracy_drop(base, logits, labels)
    lower = -metrics.accuracy_drop(logits, base, labels)[1]
    expected, error = metrics.expected_drop(base, logits, len(labels), temperature)
    error = max(error, 100 * NEAR_TIE / len(base))
    return Measurement(accuracy.device, accuracy, drop, upper, lower, expected, error)


def with_labels(sample: Sample, reference: Logits) -> Sample:
    """`sample` with the network's own answers in the place of labels that are not there.

    `reference` are its logits on the photographs and their mirror images, float32 [2n, classes]. The answer to both
    together is surer than that to either; so rounding may turn an answer towards it, or away from it.
    """
    if (sample.labels >= 0).all():
        return sample
    probabilities = softmax(reference)
    n = len(sample.labels)
    return replace(sample, labels=(probabilities[:n] + probabilities[n : 2 * n]).argmax(1))


def accuracy_of(
    logits: NDArray[np.float32],
    reference: NDArray[np.float32],
    sample: Sample,
    device: str,
    precision: Precision,
) -> Accuracy:
    """Accuracy of `logits` on `sample`, and how far they are from the trained network's `reference`.

    Both are logits of the sample's views, in their order; accuracy is that of the photographs as they are.
    """
    n = len(sample.labels)
    answers = logits.argmax(1)
    found = metrics.accuracy(answers[:n], sample.labels)
    return Accuracy(
        device=device,
        precision=precision,
        split=sample.split,
        split_sha256=sample.split_sha256,
        n=n,
        top1=found.top1,
        per_class_top1=found.per_class_top1,
        agreement=metrics.agreement(answers, reference.argmax(1)),
        relative_difference=metrics.relative_difference(logits, reference),
    )
