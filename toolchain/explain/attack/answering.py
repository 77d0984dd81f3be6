"""Who answers to an attacked picture: the run in PyTorch, its deployed files on every runtime, other networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain.artifact import FLOAT_FILE, find_artifacts, read_artifact
from toolchain.artifact.card import Precision
from toolchain.classifier import Classifier, load
from toolchain.errors import BadInputError, MissingError
from toolchain.explain.torch_model import TorchModel, open_run
from toolchain.images.preprocess import Image, read
from toolchain.runs import RUN_FILE, WEIGHTS_FILE
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.system import files
from toolchain.system.progress import Reporter

TORCH = "torch:cpu"
BATCH = 16

Photograph = Path | Image
"""A file, or uint8 RGB of any size."""


@dataclass(frozen=True)
class Answering:
    """A network on a device, with its own preprocessing. `name` is its file or its run folder.

    `own`: it is the attacked run, or was exported from it. `ask` gives probabilities, float32 [n, classes], for a
    few photographs.
    """

    name: str
    device: str
    precision: Precision
    labels: tuple[str, ...]
    own: bool
    ask: Callable[[Sequence[Photograph]], NDArray[np.float32]]

    @property
    def title(self) -> str:
        """For a person: the file or the folder, without where it lies, and the device."""
        return f"{Path(self.name).name} on {self.device}"

    def probabilities(self, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        """float32 [n, classes], for any number of photographs, at least one."""
        starts = range(0, len(photographs), BATCH)
        return np.concatenate([self.ask(photographs[start : start + BATCH]) for start in starts])


def own_answers(run: Path | None, subject: TorchModel, reporter: Reporter) -> list[Answering]:
    """`subject` in PyTorch, and the files exported from its `run`, each on every runtime that it is proven on.

    Without a run, `subject` is the ready-made network. Files that were exported from other weights than those of
    the run are left out, with a warning.
    """
    found = [_in_torch(subject, own=True)]
    if run is None:
        return found + _on_its_devices(ready_made_artifact(), own=True, reporter=reporter)
    if not (run / FLOAT_FILE).is_file():
        reporter.say(f"{run} holds no {FLOAT_FILE}: the run itself answers, in PyTorch")
        return found
    weights = files.sha256_of(run / WEIGHTS_FILE)
    for path in find_artifacts(run):
        if read_artifact(path).card.source.run_sha256 != weights:
            reporter.warn(f"left out: {path} was exported from other weights than the run's; export it again")
        else:
            found += _on_its_devices(path, own=True, reporter=reporter)
    return found


def other_answers(path: Path, reporter: Reporter) -> list[Answering]:
    """A model file; or a run, by the files in it, or in PyTorch where there are none.

    Raises BadInputError for anything else.
    """
    if path.is_dir() and not (path / FLOAT_FILE).is_file() and (path / RUN_FILE).is_file():
        return [_in_torch(open_run(path), own=False)]
    return [
        one for artifact in find_artifacts(path) for one in _on_its_devices(artifact, own=False, reporter=reporter)
    ]


def _in_torch(subject: TorchModel, *, own: bool) -> Answering:
    @torch.no_grad()
    def ask(photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        images = [read(one) if isinstance(one, Path) else one for one in photographs]
        pixels = np.stack([subject.preprocess(image) for image in images])
        probabilities: NDArray[np.float32] = subject.probabilities(torch.from_numpy(pixels)).numpy()
        return probabilities

    return Answering(subject.name, TORCH, "float32", subject.labels, own, ask)


def _on_its_devices(path: Path, *, own: bool, reporter: Reporter) -> list[Answering]:
    artifact = read_artifact(path)
    card = artifact.card
    found = []
    for device in card.runtimes or ("ort:cpu",):
        classifier = _load_or_say(artifact.path, device, reporter)
        if classifier is not None:
            found.append(Answering(str(path), device, card.precision, card.labels, own, _asking(classifier)))
    if not found:
        raise MissingError(f"{path} runs on none of its runtimes here: {', '.join(card.runtimes)}")
    return found


def _asking(classifier: Classifier) -> Callable[[Sequence[Photograph]], NDArray[np.float32]]:
    def ask(photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        return classifier.infer([classifier.preprocess(one) for one in photographs]).probabilities

    return ask


def _load_or_say(path: Path, device: str, reporter: Reporter) -> Classifier | None:
    try:
        return load(path, device)
    except (MissingError, BadInputError) as error:
        reporter.warn(f"{path.name} does not answer on {device}: {error.message}")
        return None
