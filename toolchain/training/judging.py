"""What a network is worth: its answers on val and test, and what is made of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from toolchain.backbones import body_of
from toolchain.datasets import Dataset, Photograph
from toolchain.datasets.decoded import Decoded
from toolchain.progress import Reporter
from toolchain.runs import Metrics, Rejection
from toolchain.training.calibration import fit_rejection, fit_temperature
from toolchain.training.features import features_of, labels_of, logits_of
from toolchain.training.frozen import Extractor, Floats, Frozen
from toolchain.training.metrics import measure
from toolchain.training.report import Answers
from toolchain.training.settings import Settings
from toolchain.training.team import Team


@dataclass(frozen=True)
class Judged:
    """A network's temperature and rejection, chosen on val, and its metrics; `logits` by split."""

    temperature: float
    rejection: Rejection
    metrics: dict[str, Metrics]
    logits: dict[str, Floats]

    def answers(self, dataset: Dataset) -> dict[str, Answers]:
        """Probabilities of each photograph of val and test."""
        return {
            split: Answers(dataset.splits[split], softmax(logits / np.float32(self.temperature), axis=1))
            for split, logits in self.logits.items()
        }


@dataclass(frozen=True)
class Workshop:
    """What every step of a run needs; evaluation is shared between the processes of the team."""

    settings: Settings
    dataset: Dataset
    outliers: tuple[Photograph, ...]
    decoded: Decoded
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
        return Frozen(body_of(network), (spec.height, spec.width), self.device, pooled=True)

    def features(self, body: Frozen, photos: Sequence[Photograph]) -> Floats:
        """Features of photographs, float32 [photographs, width].

        In bfloat16, unless the machine is slow at it or the settings forbid it: a head fitted on them is as good.
        """
        exact = self.settings.precision == "float32"
        return self._apply(photos, body.extractor(many=self._share(photos), exact=exact), "features")

    def judged(self, network: nn.Module, body: Frozen, what: str) -> Judged:
        """Judge `network` on val and test, in full precision."""
        splits = self.dataset.splits
        many = sum(self._share(photos) for photos in (splits["val"], splits["test"], self.outliers))
        extract = body.extractor(many=many, exact=True)
        logits = {
            split: logits_of(network, self._apply(splits[split], extract, f"{what} on {split}"))
            for split in ("val", "test")
        }
        labels = {split: labels_of(splits[split]) for split in logits}
        temperature = fit_temperature(logits["val"], labels["val"])
        others = None
        if self.outliers:
            others = logits_of(network, self._apply(self.outliers, extract, f"{what} on other things"))
        rejection = fit_rejection(logits["val"], logits["test"], others, temperature)
        metrics = {split: measure(logits[split], labels[split], temperature) for split in logits}
        return Judged(temperature, rejection, metrics, logits)

    def on_validation(self, network: nn.Module, what: str) -> Metrics:
        """Metrics on val with the temperature that fits it best, to compare epochs by."""
        photos = self.dataset.splits["val"]
        extract = self.body(network).extractor(many=self._share(photos), exact=True)
        logits = logits_of(network, self._apply(photos, extract, f"{what} on val"))
        labels = labels_of(photos)
        return measure(logits, labels, fit_temperature(logits, labels))

    def _share(self, photos: Sequence[Photograph]) -> int:
        return len(self.team.share(photos))

    def _apply(self, photos: Sequence[Photograph], extract: Extractor, description: str) -> Floats:
        mine = features_of(self.team.share(photos), extract, self.decoded, self.reporter, description)
        return np.stack(self.team.gathered(list(mine))) if self.team.size > 1 else mine
