"""Artifact, runtime and preprocessing as one: a photograph or frame in, a named answer out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact, read_artifact
from toolchain.card import Card
from toolchain.errors import BadInputError
from toolchain.preprocess import Image, check_frame, decode, read
from toolchain.rejection import scores
from toolchain.runtimes import Answer, Runtime, default_device, open_runtime


@dataclass(frozen=True)
class Prediction:
    """The answer to one photograph.

    `rejected` means that the network is not sure enough to name any of its classes (the card's threshold).
    `top` holds the most probable classes, best first. `logits` is float32 [classes].
    """

    label: str
    probability: float
    rejected: bool
    top: tuple[tuple[str, float], ...]
    logits: NDArray[np.float32]

    @property
    def answer(self) -> str | None:
        """The label, or None where it is rejected: what a program may act upon."""
        return None if self.rejected else self.label


def percent(probability: float) -> str:
    """A probability as people read it: `93 %`, and `>99 %` where rounding would claim certainty."""
    rounded = round(100 * probability)
    if rounded >= 100:
        return ">99 %"
    return "<1 %" if rounded < 1 else f"{rounded} %"


class Classifier:
    """A deployed network. `predict` is all that most programs need; the steps are there for those that pipeline."""

    def __init__(self, card: Card, runtime: Runtime) -> None:
        self.card = card
        self.runtime = runtime

    def predict(self, source: str | os.PathLike[str] | bytes | Image, top: int = 5) -> Prediction:
        """Name what is on one photograph: a path, the bytes of an encoded picture, or a uint8 RGB frame.

        Raises UnreadableImageError when it is not a whole picture.
        """
        return self.predict_batch([source], top)[0]

    def predict_batch(
        self, sources: Sequence[str | os.PathLike[str] | bytes | Image], top: int = 5
    ) -> list[Prediction]:
        """Name several photographs in one inference; see `predict`."""
        if not sources:
            return []
        return self.interpret(self.infer([self.preprocess(source) for source in sources]), top)

    def preprocess(self, source: str | os.PathLike[str] | bytes | Image) -> Image:
        """Turn a photograph into the network's input, uint8 [height, width, 3], as the card says.

        That is the photograph itself where the graph resizes.
        """
        if isinstance(source, bytes):
            image = decode(source)
        elif isinstance(source, str | os.PathLike):
            image = read(Path(source))
        else:
            image = check_frame(source)
        return self.card.preprocess(image) if self.card.input == "image" else image

    def infer(self, pictures: Sequence[Image]) -> Answer:
        """Answer for pictures that `preprocess` gave: at once, or each alone where their sizes are free."""
        if self.card.input == "image":
            return self.runtime.infer(np.stack(pictures))
        answers = [self.runtime.infer(picture[None]) for picture in pictures]
        logits, probabilities = (
            np.concatenate([getattr(answer, name) for answer in answers]) for name in ("logits", "probabilities")
        )
        return Answer(logits, probabilities)

    def interpret(self, answer: Answer, top: int = 5) -> list[Prediction]:
        """Put names to a runtime's answer, a Prediction for each of the batch."""
        if top < 1:
            raise BadInputError(f"top must be at least 1, not {top}")
        predictions = []
        for logits, probabilities, rejected in zip(
            answer.logits, answer.probabilities, self._rejected(answer), strict=True
        ):
            order = np.argsort(-probabilities, kind="stable")[:top]
            ranked = tuple((self.card.labels[i], float(probabilities[i])) for i in order)
            label, probability = ranked[0]
            predictions.append(Prediction(label, probability, rejected, ranked, logits))
        return predictions

    def _rejected(self, answer: Answer) -> list[bool]:
        reject = self.card.reject
        if reject is None:
            return [False] * len(answer.logits)
        below = scores(reject.score, answer.logits, self.card.temperature) < reject.threshold
        return [bool(one) for one in below]


def load(
    artifact: str | os.PathLike[str] | Artifact, device: str | None = None, threads: int = 0, *, spin: bool = True
) -> Classifier:
    """Open a model file on a device, ready to predict: `ort:cpu`, or `openvino:CPU` for a `.xml`, if none is named.

    `spin` False leaves the cores alone between predictions that come now and then.
    Raises ArtifactError when the file is not a valid artifact, MissingError when the device is not on this machine.
    """
    whole = artifact if isinstance(artifact, Artifact) else read_artifact(Path(artifact))
    return Classifier(whole.card, open_runtime(whole, device or default_device(whole), threads=threads, spin=spin))
