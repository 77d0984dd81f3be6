"""The networks that are shown attacked pictures: the run in PyTorch, its files on each runtime, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain.artifact import FLOAT_FILE, find_artifacts, read_artifact
from toolchain.artifact.card import Precision
from toolchain.classifier import Classifier, load
from toolchain.errors import BadInputError, MissingError
from toolchain.explain.torch_model import TorchModel, open_model
from toolchain.images.preprocess import Image, read
from toolchain.runs import RUN_FILE, WEIGHTS_FILE
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes.devices import plain
from toolchain.system import files
from toolchain.system.progress import Reporter

TORCH = "torch:cpu"
BATCH = 16

Photograph = Path | Image
"""A file, or uint8 RGB of any size."""


@dataclass(frozen=True)
class Victim:
    """A network on a device, with its own preprocessing. `name` is its file or its run folder.

    `own`: it is the attacked run itself, or was exported from it. `ask` returns probabilities, float32
    [n, classes], for a few photographs at once.
    """

    name: str
    device: str
    precision: Precision
    labels: tuple[str, ...]
    own: bool
    ask: Callable[[Sequence[Photograph]], NDArray[np.float32]]

    def probabilities(self, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], for one photograph or more."""
        starts = range(0, len(photographs), BATCH)
        return np.concatenate([self.ask(photographs[start : start + BATCH]) for start in starts])


def own_victims(run: Path | None, model: TorchModel, reporter: Reporter, *, alone: bool = False) -> list[Victim]:
    """`model` in PyTorch, and the files exported from its `run`, each on every runtime that it was proven on.

    Without a run, `model` is the ready-made network, or `alone`: a published one, which has no files. Files that
    were exported from older weights of the run are left out, with a warning.
    """
    found = [_in_torch(model, own=True)]
    if alone:
        return found
    if run is None:
        return found + _on_its_devices(ready_made_artifact(), own=True, reporter=reporter)
    if not (run / FLOAT_FILE).is_file():
        reporter.say(f"{run} holds no {FLOAT_FILE}: only the run itself is asked, in PyTorch")
        return found
    weights = files.sha256_of(run / WEIGHTS_FILE)
    for path in find_artifacts(run):
        if read_artifact(path).card.source.run_sha256 != weights:
            reporter.warn(f"left out: {path} was exported from older weights of the run; export it again")
        else:
            found += _on_its_devices(path, own=True, reporter=reporter)
    return found


def other_victims(path: Path, reporter: Reporter) -> list[Victim]:
    """The network of a model file, or of a run: its files where it has any, otherwise the run in PyTorch.

    Raises BadInputError for anything else.
    """
    if path.is_dir() and not (path / FLOAT_FILE).is_file() and (path / RUN_FILE).is_file():
        return [_in_torch(open_model(path), own=False)]
    asked = [
        one for artifact in find_artifacts(path) for one in _on_its_devices(artifact, own=False, reporter=reporter)
    ]
    if not asked:
        raise MissingError(
            f"{path} answers on no device here", "The warnings say why. Pass a run, or a file for this machine."
        )
    return asked


def _in_torch(model: TorchModel, *, own: bool) -> Victim:
    @torch.no_grad()
    def ask(photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        images = [read(one) if isinstance(one, Path) else one for one in photographs]
        pixels = np.stack([model.preprocess(image) for image in images])
        probabilities: NDArray[np.float32] = model.probabilities(torch.from_numpy(pixels)).numpy()
        return probabilities

    return Victim(model.name, TORCH, "float32", model.labels, own, ask)


def _on_its_devices(path: Path, *, own: bool, reporter: Reporter) -> list[Victim]:
    artifact = read_artifact(path)
    card = artifact.card
    found = []
    for device in dict.fromkeys(map(plain, card.runtimes)) or ("ort:cpu",):
        try:
            classifier = load(artifact, device)
        except (MissingError, BadInputError) as error:
            reporter.warn(f"{path.name} does not answer on {device}: {error.message}")
            continue
        ask = partial(_ask, classifier)
        found.append(Victim(str(path), device, card.precision, card.labels, own, ask))
    return found


def _ask(classifier: Classifier, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
    return classifier.infer([classifier.preprocess(one) for one in photographs]).probabilities
