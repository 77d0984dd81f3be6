"""Learning from a teacher: a finished run answers the same crops, and its probabilities are learnt, too.

Knowledge distillation (Hinton, Vinyals and Dean, 2015). A crop may show a nose or a tail only; a larger network's
probabilities for that very crop say more than the label of the whole photograph (Beyer et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from toolchain.backbones.networks import body_of, hidden_of, load_network
from toolchain.datasets import Dataset
from toolchain.errors import BadInputError
from toolchain.evaluation.metrics import softmax
from toolchain.runs import TeacherRecord, read_run, read_splits
from toolchain.system.progress import Reporter
from toolchain.training.context import TrainContext
from toolchain.training.features import BATCH, Floats, Frozen, logits_of

WEIGHT = 0.8
"""Share of the loss that is the teacher's; the rest is the labels'."""

TEMPERATURE = 2.0
"""Both networks' logits are divided by it, so that the second and third answers count, too."""


class Teacher:
    """The networks of the runs in `folders`, in the classes of the `context` that they teach in.

    Their logits are divided by their temperatures, which makes them as sure as they are right, and averaged.
    Raises BadInputError where one is no run, or does not know one of the classes; ArtifactError where its weights
    are damaged.
    """

    def __init__(self, folders: Sequence[Path], context: TrainContext) -> None:
        self._members = [_Member(folder, context) for folder in folders]
        self._device = context.device

    def probabilities(self, images: Tensor) -> Tensor:
        """What it answers at TEMPERATURE, float32 [batch, classes], to uint8 images [batch, height, width, 3]."""
        pixels = images.numpy(force=True)
        logits = np.mean([member.logits(pixels) for member in self._members], axis=0)
        return torch.from_numpy(softmax(logits, TEMPERATURE)).to(self._device)


class _Member:
    def __init__(self, folder: Path, context: TrainContext) -> None:
        run = read_run(folder)
        self._order = _order(folder, run.data.classes, context.dataset.classes)
        self._sharpness = np.float32(1 / run.temperature)
        self._network = load_network(folder, run).to(context.device)
        shape = context.settings.crop_shape
        layers, hidden = body_of(self._network), hidden_of(self._network)
        body = Frozen(layers, shape, context.device, pooled=True, hidden=hidden)
        exact = context.settings.precision == "float32"
        self._extract = body.extractor(many=len(context.photos) * context.epochs, exact=exact)

    def logits(self, pixels: NDArray[np.uint8]) -> Floats:
        parts = (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))
        logits = logits_of(self._network, self._extract(parts))
        return np.asarray(logits[:, self._order] * self._sharpness)


def distillation_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy [batch] of a student's `logits` [batch, classes] with its teacher's `probabilities`.

    It is multiplied by the square of TEMPERATURE, which its gradients were divided by.
    """
    answers = log_softmax(logits / TEMPERATURE, dim=1)
    return -(probabilities * answers).sum(1) * TEMPERATURE**2


def describe_teachers(folders: Sequence[str]) -> tuple[TeacherRecord, ...]:
    """What `run.json` says of the teachers in `folders`."""
    models = [read_run(Path(folder)).model for folder in folders]
    return tuple(TeacherRecord(one.name, one.sha256, one.weights, one.weights_licence) for one in models)


def check_teacher(folder: Path, dataset: Dataset, reporter: Reporter) -> None:
    """Warn where the teacher was trained on photographs that its student is judged on.

    Raises BadInputError where it is no run, or does not know one of the classes.
    """
    run, given = read_run(folder), read_splits(folder)
    _order(folder, run.data.classes, dataset.classes)
    taught = {photo.sha256 for split in run.model.taught for photo in given.get(split, ())}
    for split in ("val", "test"):
        shared = sum(photo.sha256 in taught for photo in dataset.splits[split])
        if shared:
            reporter.warn(
                f"{shared} of {len(dataset.splits[split])} {split} photographs have taught the teacher {folder}: "
                f"the student's figures on {split} flatter it"
            )


def _order(folder: Path, theirs: Sequence[str], ours: Sequence[str]) -> NDArray[np.int64]:
    missing = [name for name in ours if name not in theirs]
    if missing:
        raise BadInputError(
            f"the teacher {folder} does not know {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            "Fine-tune the teacher on the same classes first.",
        )
    return np.array([list(theirs).index(name) for name in ours], np.int64)
