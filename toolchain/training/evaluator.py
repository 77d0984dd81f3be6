"""What a network is worth: its answers on val and test, and what is made of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from toolchain.backbones.networks import body_of, hidden_of
from toolchain.datasets import Dataset, Photograph
from toolchain.evaluation.calibration import HeldOut, fit_rejection, fit_temperature
from toolchain.evaluation.metrics import measure, softmax
from toolchain.images.reader import Reader
from toolchain.runs import Metrics, Rejection, TemperatureFit
from toolchain.system.progress import Reporter
from toolchain.training.features import features_of, labels_of, logits_of
from toolchain.training.frozen import Extractor, Floats, Frozen
from toolchain.training.report import Answers
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

ENOUGH_VALIDATION = 200
"""With fewer validation photographs, temperature and rejection are chosen on out-of-fold answers too."""


@dataclass(frozen=True)
class Judged:
    """A network's temperature and rejection, chosen on held-out photographs, and its metrics; `logits` by split."""

    temperature: float
    temperature_fit: TemperatureFit
    rejection: Rejection
    metrics: dict[str, Metrics]
    logits: dict[str, Floats]

    def answers(self, dataset: Dataset) -> dict[str, Answers]:
        """Probabilities of each photograph of val and test."""
        return {
            split: Answers(dataset.splits[split], softmax(logits, self.temperature))
            for split, logits in self.logits.items()
        }


@dataclass(frozen=True)
class Evaluator:
    """What every step of a run needs; evaluation is shared between the processes of the team."""

    settings: TrainSettings
    dataset: Dataset
    outliers: tuple[Photograph, ...]
    decoded: Reader
    device: torch.device
    team: Team
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to `seconds[step]`."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - started, 3)

    def body(self, network: nn.Module) -> Frozen:
        """What computes the features of `network` as it is now."""
        spec = self.settings.preprocess
        shape = (spec.height, spec.width)
        return Frozen(body_of(network), shape, self.device, pooled=True, hidden=hidden_of(network))

    def features(self, body: Frozen, photos: Sequence[Photograph]) -> Floats:
        """Features of photographs, float32 [photographs, width].

        In bfloat16, unless the machine is slow at it or the settings forbid it: a head fitted on them is as good.
        """
        exact = self.settings.precision == "float32"
        return self._apply(photos, body.extractor(many=self._share(photos), exact=exact), "features")

    def judged(self, network: nn.Module, body: Frozen, what: str, out_of_fold: HeldOut | None) -> Judged:
        """Judge `network` on val and test, in full precision.

        Temperature and rejection are chosen on val and on what is `out_of_fold`, if anything.
        """
        splits = self.dataset.splits
        many = sum(self._share(photos) for photos in (splits["val"], splits["test"], self.outliers))
        extract = body.extractor(many=many, exact=True)
        logits = {
            split: logits_of(network, self._apply(splits[split], extract, f"{what} on {split}"))
            for split in ("val", "test")
        }
        labels = {split: labels_of(splits[split]) for split in logits}
        held = HeldOut(logits["val"], labels["val"]).and_(out_of_fold)
        fitted = fit_temperature(held)
        others = None
        if self.outliers:
            others = logits_of(network, self._apply(self.outliers, extract, f"{what} on other things"))
        rejection = fit_rejection(held, logits["val"], logits["test"], others, fitted.value)
        metrics = {split: measure(logits[split], labels[split], fitted.value) for split in logits}
        known = TemperatureFit(
            fitted.low, fitted.high, val=len(labels["val"]), out_of_fold=len(held) - len(labels["val"])
        )
        return Judged(fitted.value, known, rejection, metrics, logits)

    def on_validation(self, network: nn.Module, what: str, out_of_fold: HeldOut | None) -> Metrics:
        """Metrics on val with the temperature that fits held-out photographs best, to compare epochs by."""
        photos = self.dataset.splits["val"]
        extract = self.body(network).extractor(many=self._share(photos), exact=True)
        logits = logits_of(network, self._apply(photos, extract, f"{what} on val"))
        labels = labels_of(photos)
        return measure(logits, labels, fit_temperature(HeldOut(logits, labels).and_(out_of_fold)).value)

    def _share(self, photos: Sequence[Photograph]) -> int:
        return len(self.team.share(photos))

    def _apply(self, photos: Sequence[Photograph], extract: Extractor, description: str) -> Floats:
        mine = features_of(self.team.share(photos), extract, self.decoded, self.reporter, description)
        return np.stack(self.team.gathered(list(mine))) if self.team.size > 1 else mine
