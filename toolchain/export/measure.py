"""What an artifact answers on photographs, on each runtime, and how that differs from the trained network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.card import Accuracy, Precision
from toolchain.errors import MissingError
from toolchain.evaluation import metrics
from toolchain.images.preprocess import Preprocess, read
from toolchain.runs import SplitFile
from toolchain.runtimes import open_runtime
from toolchain.runtimes.devices import cores
from toolchain.system import files

BATCH = 8

MAX_CALIBRATION = 96
"""Photographs that int8 is calibrated on; where the calibration split holds fewer, training photographs help."""

SHIFT = 6
"""Pixels by which a view is moved, down and to the right or up and to the left."""


@dataclass(frozen=True)
class Sample:
    """A split of a run, decoded: pixels uint8 [n, height, width, 3], labels int64 [n]."""

    split: str
    split_sha256: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def views(self) -> NDArray[np.uint8]:
        """The photographs, their mirror images, and both moved a little: uint8 [6 n, height, width, 3].

        A rounded network turns each of them almost independently, so a small split tells more by its views.
        """
        height, width = self.pixels.shape[1:3]
        padded = np.pad(self.pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "edge")
        moved = [padded[:, at : at + height, at : at + width] for at in (SHIFT, 0, 2 * SHIFT)]
        return np.concatenate([view for one in moved for view in (one, one[:, :, ::-1])])


def calibration_of(splits: Mapping[str, Sequence[SplitFile]]) -> tuple[SplitFile, ...]:
    """What int8 is calibrated on: the calibration split, filled up from train, classes taking turns.

    Ranges from a few photographs cut off what others need. Those of training are as good, since no labels are used
    and promises are kept on val.
    """
    own = taking_turns(splits.get("calibration", ()))[:MAX_CALIBRATION]
    return own + taking_turns(splits["train"])[: MAX_CALIBRATION - len(own)]


def taking_turns(listed: Sequence[SplitFile]) -> tuple[SplitFile, ...]:
    """The same photographs, one of each class after the other, so that the first few are of all classes."""
    by_class: dict[str, list[SplitFile]] = defaultdict(list)
    for file in listed:
        by_class[file.label].append(file)
    ranked = [(turn, file) for files in by_class.values() for turn, file in enumerate(files)]
    return tuple(file for _, file in sorted(ranked, key=lambda one: one[0]))


def read_sample(
    root: Path,
    split: str,
    split_sha256: str,
    listed: Iterable[SplitFile],
    classes: tuple[str, ...],
    spec: Preprocess,
) -> Sample:
    """Read the photographs of a split from below `root` and check that they are the ones the run used.

    Raises MissingError when one is gone or has changed.
    """
    listed = tuple(listed)
    index = {name: label for label, name in enumerate(classes)}

    def one(file: SplitFile) -> NDArray[np.uint8]:
        path = root / file.name
        hint = "Say where the run's photographs are now with --data FOLDER: they are known by their content."
        if not path.is_file():
            raise MissingError(f"{path}, a {split} photograph of the run, is not there", hint)
        if files.sha256_of(path) != file.sha256:
            raise MissingError(f"{path}, a {split} photograph of the run, has changed", hint)
        return spec(read(path))

    with ThreadPoolExecutor(cores()) as pool:
        pixels = list(pool.map(one, listed))
    stacked = np.stack(pixels) if pixels else np.zeros((0, spec.height, spec.width, 3), np.uint8)
    return Sample(split, split_sha256, stacked, np.array([index[file.label] for file in listed], np.int64))


def logits_on(artifact: Artifact, device: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of `artifact` on `device`, float32 [n, classes], whether it is proven there or not."""
    runtime = open_runtime(artifact, device, unproven=True)
    starts = range(0, len(pixels), BATCH)
    return np.concatenate([runtime.infer(pixels[start : start + BATCH]).logits for start in starts])


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
