"""What a network is worth: its answers on val and test, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from toolchain.backbones.networks import body_of, hidden_of
from toolchain.datasets import Dataset, Photograph
from toolchain.evaluation.calibration import HeldOut, fit_rejection, fit_temperature, rejection_of
from toolchain.evaluation.metrics import measure, softmax
from toolchain.runs import Metrics, Rejection, TemperatureFit
from toolchain.training.context import TrainContext
from toolchain.training.features import Extractor, Floats, Frozen, features_of, labels_of, logits_of
from toolchain.training.report import Answers

ENOUGH_VALIDATION = 200
"""With fewer validation photographs, temperature and rejection are chosen on out-of-fold answers too."""


@dataclass(frozen=True)
class Evaluation:
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
    """Evaluates networks in full precision; the photographs are shared between the processes of the team.

    Temperature and rejection are chosen on val and on what linear probes answered `out_of_fold`, if anything.
    """

    context: TrainContext
    out_of_fold: HeldOut | None = None

    def evaluate(self, network: nn.Module, what: str, body: Frozen | None = None) -> Evaluation:
        """Evaluate `network` on val and test. `body` computes its features, where that is there already."""
        context = self.context
        splits = {split: context.dataset.splits[split] for split in ("val", "test")}
        many = sum(len(context.team.share(photos)) for photos in (*splits.values(), context.outliers))
        extract = (body or body_for(network, context)).extractor(many=many, exact=True)

        def answers(photos: Sequence[Photograph], where: str) -> Floats:
            return logits_of(network, _extracted(context, photos, extract, f"{what} on {where}"))

        logits = {split: answers(photos, split) for split, photos in splits.items()}
        labels = {split: labels_of(photos) for split, photos in splits.items()}
        held = HeldOut(logits["val"], labels["val"]).and_(self.out_of_fold)
        fitted = fit_temperature(held)
        others = answers(context.outliers, "other things") if context.outliers else None
        rejection = fit_rejection(held, logits["val"], logits["test"], others, fitted.value)
        metrics = {split: measure(logits[split], labels[split], fitted.value) for split in logits}
        n_val = len(labels["val"])
        fit = TemperatureFit(fitted.low, fitted.high, val=n_val, out_of_fold=len(held) - n_val)
        return Evaluation(fitted.value, fit, rejection, metrics, logits)

    def logits_on_test(self, network: nn.Module, what: str) -> Floats:
        """What any `network` answers on the photographs of test: float32 [photographs, its classes]."""
        photos = self.context.dataset.splits["test"]
        extract = body_for(network, self.context).extractor(many=len(self.context.team.share(photos)), exact=True)
        return logits_of(network, _extracted(self.context, photos, extract, f"{what} on test"))

    def after_refit(self, network: nn.Module, chosen: Evaluation) -> Evaluation:
        """What `network`, which val has taught too, answers on test; all that was `chosen` on val stays."""
        context, test = self.context, self.context.dataset.splits["test"]
        many = sum(len(context.team.share(photos)) for photos in (test, context.outliers))
        extract = body_for(network, context).extractor(many=many, exact=True)

        def answers(photos: Sequence[Photograph], where: str) -> Floats:
            return logits_of(network, _extracted(context, photos, extract, f"refit on {where}"))

        logits = answers(test, "test")
        others = answers(context.outliers, "other things") if context.outliers else None
        temperature = chosen.temperature
        return replace(
            chosen,
            rejection=rejection_of(chosen.rejection, logits, others, temperature),
            metrics={**chosen.metrics, "test": measure(logits, labels_of(test), temperature)},
            logits={**chosen.logits, "test": logits},
        )

    def on_validation(self, network: nn.Module, what: str) -> Metrics | None:
        """Metrics on val with the temperature that fits held-out photographs best, to compare epochs by.

        None where the network answers NaN or infinity: its training has diverged.
        """
        photos = self.context.dataset.splits["val"]
        extract = body_for(network, self.context).extractor(many=len(self.context.team.share(photos)), exact=True)
        logits = logits_of(network, _extracted(self.context, photos, extract, f"{what} on val"))
        if not np.isfinite(logits).all():
            return None
        labels = labels_of(photos)
        return measure(logits, labels, fit_temperature(HeldOut(logits, labels).and_(self.out_of_fold)).value)


def body_for(network: nn.Module, context: TrainContext) -> Frozen:
    """What computes the features of `network` as it is now."""
    spec = context.settings.preprocess
    shape = (spec.height, spec.width)
    return Frozen(body_of(network), shape, context.device, pooled=True, hidden=hidden_of(network))


def probe_features(context: TrainContext, body: Frozen, photos: Sequence[Photograph]) -> Floats:
    """Features to fit a head on, float32 [photographs, width].

    In bfloat16, unless the machine is slow at it or the settings forbid it: a head fitted on them is as good.
    """
    exact = context.settings.precision == "float32"
    extract = body.extractor(many=len(context.team.share(photos)), exact=exact)
    return _extracted(context, photos, extract, "features")


def _extracted(context: TrainContext, photos: Sequence[Photograph], extract: Extractor, what: str) -> Floats:
    """Features of `photos`, of which each process computes its share."""
    team = context.team
    share = team.share(photos)
    if team.size == 1:
        return features_of(share, extract, context.reader, context.reporter, what)
    # There may be more processes than photographs.
    mine = features_of(share, extract, context.reader, context.reporter, what) if share else ()
    return np.stack(team.all_gather(list(mine)))
