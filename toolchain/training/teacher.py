"""Learning from a teacher: a finished run answers the same crops, and its probabilities are learnt, too.

Knowledge distillation (Hinton, Vinyals and Dean, 2015). A crop may show a nose or a tail only; a larger network's
probabilities for that very crop say more than the label of the whole photograph (Beyer et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from toolchain.backbones.networks import body_of, hidden_of, load_network, normalised
from toolchain.datasets import Dataset
from toolchain.errors import BadInputError
from toolchain.runs import TeacherRecord, read_run
from toolchain.system.progress import Reporter
from toolchain.training.context import TrainContext, has_fast_bfloat16
from toolchain.training.crops import to_device
from toolchain.training.features import BATCH, Extractor, Frozen, logits_of
from toolchain.training.previous import Previous, warn_of_seen

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
        logits = torch.stack([member.logits(images) for member in self._members]).mean(0)
        return torch.softmax(logits / TEMPERATURE, dim=1).to(self._device)


class _Member:
    def __init__(self, folder: Path, context: TrainContext) -> None:
        run = read_run(folder)
        self._order = _order(folder, run.data.classes, context.dataset.classes).to(context.device)
        self._sharpness = 1 / run.temperature
        self._network = load_network(folder, run).to(context.device)
        self._device = context.device
        exact = context.settings.precision == "float32"
        self._low_precision = not exact and has_fast_bfloat16(context.device)
        self._extract = self._on_cpu(context, exact) if context.device.type == "cpu" else None

    def _on_cpu(self, context: TrainContext, exact: bool) -> Extractor:
        layers, hidden = body_of(self._network), hidden_of(self._network)
        body = Frozen(layers, context.settings.crop_shape, context.device, pooled=True, hidden=hidden)
        return body.extractor(many=len(context.photos) * context.epochs, exact=exact)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits over the run's temperature, float32 [batch, classes]. A GPU's stay there, so that nobody waits."""
        if self._extract is not None:
            pixels = images.numpy()
            parts = (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))
            logits = torch.from_numpy(logits_of(self._network, self._extract(parts)))
        else:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low_precision):
                logits = self._network(normalised(to_device(images, self._device))).float()
        return logits[:, self._order] * self._sharpness


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
    run = read_run(folder)
    if run.model.kept == "file":
        raise BadInputError(
            f"the teacher {folder} was adopted as an ONNX file, which cannot teach",
            "Name a run of `edgetl finetune`, or adopt the weights of its network.",
        )
    _order(folder, run.data.classes, dataset.classes)
    warn_of_seen(dataset, Previous(folder, run).taught, f"the teacher {folder}", reporter)


def _order(folder: Path, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    missing = [name for name in ours if name not in theirs]
    if missing:
        raise BadInputError(
            f"the teacher {folder} does not know {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            "Fine-tune the teacher on the same classes first.",
        )
    return torch.tensor([list(theirs).index(name) for name in ours])
