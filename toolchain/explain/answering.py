"""Who answers to an attacked picture: the run in PyTorch, its deployed files on every runtime, and other networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain import files
from toolchain.artifact import FLOAT_FILE, read_artifact
from toolchain.bench.runner import find_artifacts
from toolchain.classifier import Classifier, load
from toolchain.errors import ArtifactError, BadInputError, MissingError
from toolchain.explain.subject import Subject, open_run
from toolchain.preprocess import Image, read
from toolchain.progress import Reporter
from toolchain.runs import RUN_FILE, WEIGHTS_FILE

TORCH = "torch:cpu"
BATCH = 16


class Answering(Protocol):
    """Answers to photographs (paths, or uint8 RGB of any size) through its own preprocessing.

    `own`: whether it is the attacked run or was exported from it.
    """

    name: str
    device: str
    labels: tuple[str, ...]
    own: bool

    def probabilities(self, photographs: Sequence[Path | Image]) -> NDArray[np.float32]:
        """float32 [n, classes]."""


@dataclass(frozen=True)
class InTorch:
    """A run, as it was trained."""

    subject: Subject
    own: bool

    device = TORCH

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self.subject.labels

    @torch.no_grad()
    def probabilities(self, photographs: Sequence[Path | Image]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(photographs), BATCH):
            chunk = photographs[start : start + BATCH]
            images = [read(one) if isinstance(one, Path) else one for one in chunk]
            pixels = np.stack([self.subject.preprocess(image) for image in images])
            parts.append(self.subject.probabilities(torch.from_numpy(pixels)).numpy())
        return np.concatenate(parts)


@dataclass(frozen=True)
class Deployed:
    """A model file on one device."""

    name: str
    classifier: Classifier
    own: bool

    @property
    def device(self) -> str:
        return self.classifier.runtime.device

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classifier.card.labels

    def probabilities(self, photographs: Sequence[Path | Image]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(photographs), BATCH):
            chunk = [self.classifier.preprocess(one) for one in photographs[start : start + BATCH]]
            parts.append(self.classifier.infer(chunk).probabilities)
        return np.concatenate(parts)


def own_answers(folder: Path, subject: Subject, reporter: Reporter) -> list[Answering]:
    """The run of `folder` in PyTorch, and the files exported from it, each on every runtime that it is proven on.

    Files that were exported from other weights are left out, with a warning.
    """
    found: list[Answering] = [InTorch(subject, own=True)]
    if not (folder / FLOAT_FILE).is_file():
        reporter.say(f"{folder} holds no {FLOAT_FILE}: the run itself answers, in PyTorch")
        return found
    weights = files.sha256_of(folder / WEIGHTS_FILE)
    for path in find_artifacts(folder):
        if read_artifact(path).card.source.run_sha256 != weights:
            reporter.warn(f"left out: {path} was exported from other weights than the run's; export it again")
        else:
            found += _on_its_devices(path, own=True, reporter=reporter)
    return found


def others(path: Path, reporter: Reporter) -> list[Answering]:
    """Another run, by its deployed files where it has any, else in PyTorch; or a model file.

    Raises BadInputError for anything else.
    """
    if not path.is_dir():
        return _on_its_devices(path, own=False, reporter=reporter)
    try:
        paths = find_artifacts(path)
    except BadInputError:
        if not (path / RUN_FILE).is_file():
            raise ArtifactError(
                f"{path} is neither a run nor a model file",
                "Name a run folder, or a file that `edgetl export` wrote.",
            ) from None
        return [InTorch(open_run(path), own=False)]
    return [one for artifact in paths for one in _on_its_devices(artifact, own=False, reporter=reporter)]


def _on_its_devices(path: Path, *, own: bool, reporter: Reporter) -> list[Answering]:
    artifact = read_artifact(path)
    found: list[Answering] = []
    for device in artifact.card.runtimes or ("ort:cpu",):
        try:
            found.append(Deployed(str(path), load(artifact, device), own))
        except MissingError as error:
            reporter.warn(f"{path.name} does not answer on {device}: {error.message}")
    return found
