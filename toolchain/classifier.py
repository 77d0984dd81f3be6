"""Artifact, runtime and preprocessing as one: a photograph or frame in, a named answer out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.card import Card
from toolchain.errors import ArtifactError, ArtifactWarning, BadInputError, MissingError, UnreadableImageError
from toolchain.evaluation.metrics import scores, softmax
from toolchain.images.preprocess import Colour, Image, check_colour, check_frame, decode, from_pillow, read
from toolchain.runtimes import Answer, Runtime, default_device, in_loading_time, open_runtime, whole_number
from toolchain.runtimes.devices import is_cpu
from toolchain.runtimes.machine import artifact_to_run, int8_caution, int8_speed_caution
from toolchain.system.ending import awaited
from toolchain.system.patience import within
from toolchain.system.processor import cores

Source: TypeAlias = str | os.PathLike[str] | bytes | Image | Any
"""A photograph: a path, the bytes of an encoded picture, a frame (uint8 [height, width, 3]) or Pillow's picture."""

FILES_AT_ONCE = 8
"""How many files `predict_files` infers in one batch."""
INFERENCE_LIMIT_S = 10.0
"""A device that takes longer for one photograph counts as hanging."""
MAX_DECODERS = 4
"""How many threads decode files at most."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one photograph.

    `rejected` means that the network is not sure enough to name any of its classes (the card's threshold).
    `top` holds the most probable classes, best first. `logits` is float32 [classes].
    Two predictions are equal when all of their values are; what is not a number is equal to itself.
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        (mine, my_numbers), (its, its_numbers) = self._values(), other._values()
        return mine == its and np.array_equal(my_numbers, its_numbers, equal_nan=True)

    def __hash__(self) -> int:
        return hash(self._values()[0])

    def _values(self) -> tuple[tuple[object, ...], NDArray[np.float64]]:
        """What is compared as it is, and the numbers."""
        names = tuple(name for name, _ in self.top)
        numbers = [self.probability, *(probability for _, probability in self.top), *self.logits]
        return (self.label, self.rejected, names), np.array(numbers, np.float64)


def percent(probability: float) -> str:
    """A probability as people read it: `93 %`, and `>99 %` where rounding would claim certainty."""
    if math.isnan(probability):  # the network computes nonsense
        return "nan"
    rounded = round(100 * probability)
    if rounded >= 100:
        return ">99 %"
    return "<1 %" if rounded < 1 else f"{rounded} %"


class Classifier:
    """A deployed network. `predict` is all that most programs need; the steps are there for those that pipeline.

    Threads may share it: each gets the answer to its own photographs, and together they compute with `threads`.
    A process that was forked may go on with it. It cannot be sent to another process; load it there.
    `colour` is the order of channels in frames, where a call does not say otherwise: "BGR" is OpenCV's. With
    `mirror_average` each answer is the mean of those to the picture and to its mirror image, in twice the time.
    """

    def __init__(
        self, card: Card, runtime: Runtime, colour: Colour = "RGB", *, mirror_average: bool = False
    ) -> None:
        self.card = card
        self.runtime = runtime
        self.colour = check_colour(colour)
        self.mirror_average = mirror_average
        self._met: set[int] = set()
        """Numbers of pictures that were answered together before."""

    def predict(self, source: Source, top: int = 5, *, colour: Colour | None = None) -> Prediction:
        """Name what is on one photograph: a path, the bytes of an encoded picture, a uint8 frame, or Pillow's.

        `colour` is the order of a frame's channels, "RGB" or "BGR"; files know their own.
        Raises UnreadableImageError when it is not a whole picture.
        """
        return self.predict_batch([source], top, colour=colour)[0]

    def predict_batch(
        self,
        sources: Sequence[Source] | NDArray[np.uint8],
        top: int = 5,
        *,
        colour: Colour | None = None,
    ) -> list[Prediction]:
        """Name several photographs in one inference; see `predict`.

        An array [batch, height, width, 3] is a batch of frames, one [batch, height, width] of grey ones.
        """
        photographs = _each(sources)
        if not photographs:
            return []
        return self.interpret(self.infer([self.preprocess(source, colour=colour) for source in photographs]), top)

    def preprocess(self, source: Source, *, colour: Colour | None = None) -> Image:
        """Turn a photograph into the network's input, uint8 [height, width, 3], as the card says.

        That is the photograph itself where the graph resizes.
        """
        order = self.colour if colour is None else check_colour(colour)
        with awaited():
            if isinstance(source, bytes):
                image = decode(source)
            elif isinstance(source, str | os.PathLike):
                return read(Path(source), self.card.preprocess if self.card.input == "image" else None)
            elif isinstance(source, np.ndarray):
                image = check_frame(source, order)
            else:
                image = check_frame(source) if (picture := from_pillow(source)) is None else picture
            return self.card.preprocess(image) if self.card.input == "image" else image

    def infer(self, pictures: Sequence[Image]) -> Answer:
        """Answer for pictures that `preprocess` gave: at once, or each alone where their sizes are free.

        Raises ArtifactError where the device answers what is not a number.
        """
        answer = self._checked(self._infer(pictures), len(pictures))
        if not self.mirror_average:
            return answer
        mirrored = self._checked(
            self._infer([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]), len(pictures)
        )
        logits = (answer.logits + mirrored.logits) * np.float32(0.5)
        return Answer(logits, softmax(logits, self.card.temperature))

    def _infer(self, pictures: Sequence[Image]) -> Answer:
        if self.card.input == "image":
            return self.runtime.infer(np.stack(pictures))
        answers = [self.runtime.infer(picture[None]) for picture in pictures]
        logits, probabilities = (
            np.concatenate([getattr(answer, name) for answer in answers]) for name in ("logits", "probabilities")
        )
        return Answer(logits, probabilities)

    def interpret(self, answer: Answer, top: int = 5) -> list[Prediction]:
        """Put names to a runtime's answer, a Prediction for each of the batch.

        Raises ArtifactError where it is not a number.
        """
        top = whole_number("top", top, 1)
        self._checked(answer)
        predictions = []
        for logits, probabilities, rejected in zip(
            answer.logits, answer.probabilities, self._rejected(answer), strict=True
        ):
            order = np.argsort(-probabilities, kind="stable")[:top]
            ranked = tuple((self.card.labels[i], float(probabilities[i])) for i in order)
            label, probability = ranked[0]
            predictions.append(Prediction(label, probability, rejected, ranked, logits))
        return predictions

    def predict_files(
        self, paths: Sequence[Path], top: int = 5
    ) -> Iterator[tuple[Path, Prediction | UnreadableImageError]]:
        """Name what is on each of `paths`, in their order; a file that cannot be read gives its error.

        Files are decoded by several threads, and inferred in batches. Raises MissingError where the device takes
        longer than `INFERENCE_LIMIT_S` for each photograph of a batch.
        """

        def pixels(path: Path) -> Image | UnreadableImageError:
            try:
                return self.preprocess(path)
            except UnreadableImageError as error:
                return error

        # Photographs that the graph resizes are as large as they are.
        at_once = FILES_AT_ONCE if self.card.input == "image" else 1
        batches = [paths[start : start + at_once] for start in range(0, len(paths), at_once)]
        with ThreadPoolExecutor(min(MAX_DECODERS, 2 * cores())) as pool:
            for batch in batches:
                pictures = list(pool.map(pixels, batch))
                readable = [picture for picture in pictures if not isinstance(picture, UnreadableImageError)]
                named = iter(self.interpret(self._in_time(readable), top) if readable else [])
                for path, picture in zip(batch, pictures, strict=True):
                    yield path, picture if isinstance(picture, UnreadableImageError) else next(named)

    def _in_time(self, pictures: Sequence[Image]) -> Answer:
        device, number = self.runtime.device, len(pictures)
        if number not in self._met and (not is_cpu(device) or device.endswith("+compile")):
            # The first time the network may be compiled for so many, which takes TensorRT minutes.
            answer = in_loading_time(device, None, lambda: self.infer(pictures))
            self._met.add(number)
            return answer
        limit_s = INFERENCE_LIMIT_S * number
        try:
            return within(limit_s, lambda: self.infer(pictures))
        except TimeoutError:
            raise MissingError(
                f"{device} gave no answer for {limit_s:g} s",
                "Try another --device, or a smaller network.",
            ) from None

    def _checked(self, answer: Answer, pictures: int | None = None) -> Answer:
        """The answer, if it is one to so many pictures (None: to any number). Raises ArtifactError."""
        classes = len(self.card.labels)
        rows = len(answer.logits) if pictures is None and answer.logits.ndim else pictures
        if {answer.logits.shape, answer.probabilities.shape} != {(rows, classes)}:
            raise ArtifactError(
                f"what {self.runtime.device} answers is no number for each of {classes} classes",
                "The network of this file computes something else than it says; export it again.",
            )
        if not (np.isfinite(answer.logits).all() and np.isfinite(answer.probabilities).all()):
            raise ArtifactError(
                f"what {self.runtime.device} answers is not a number",
                "Try another --device: either it failed, or the weights of this file are damaged.",
            )
        return answer

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Classifier cannot be pickled or copied: send the model file's path and load it there")

    def _rejected(self, answer: Answer) -> list[bool]:
        reject = self.card.reject
        if reject is None:
            return [False] * len(answer.logits)
        reached = scores(reject.score, answer.logits, self.card.temperature) >= reject.threshold
        return [not one for one in reached]


def _each(
    sources: Sequence[Source] | NDArray[np.uint8],
) -> list[Source]:
    """The photographs of a batch. Raises BadInputError for a single one, which would be taken to pieces."""
    single = isinstance(sources, str | bytes | os.PathLike)
    if isinstance(sources, np.ndarray):
        single = sources.ndim < 3 or (sources.ndim == 3 and sources.shape[-1] == 3)
    if single:
        raise BadInputError("predict_batch takes several photographs, not one", "Use predict, or pass a list.")
    return list(sources)


def load(
    artifact: str | os.PathLike[str] | Artifact,
    device: str | None = None,
    threads: int = 0,
    *,
    exclusive: bool = False,
    colour: Colour = "RGB",
    mirror_average: bool = False,
) -> Classifier:
    """Open a model file on a device, ready to predict.

    >>> import toolchain
    >>> classifier = toolchain.load("model.onnx")
    >>> classifier.card.labels
    ('daisy', 'tulip')
    >>> prediction = classifier.predict("photos/tulip/1.png")
    >>> prediction.answer, 0 < prediction.probability <= 1
    ('tulip', True)

    If no device is named, it is `ort:cpu`, `openvino:CPU` for a `.xml` and `litert:cpu` for a `.tflite`; or a CPU
    device that the card names, where the file is not proven on that one. The ready-made model is
    `toolchain.runs.ready_made.ready_made_artifact()`.
    A run folder stands for its `model.int8.onnx`, or the int8 file that was made for `device`; or else for its
    `model.onnx`, also where no int8 file is proven on `device`, or this CPU lacks what int8 was proven with.
    `threads` 0 means as many as can run at once; all predictions that come at once share them. `exclusive` is for a
    program that has the machine to itself: its answers come sooner, and other programs slow down. `colour` is that
    of the frames to come: "RGB", or "BGR" as OpenCV gives them. `mirror_average` averages each answer with that to
    the mirror image: often a little more accurate, in twice the time.
    Warns with ArtifactWarning where this CPU may compute an int8 file otherwise than the one it was proven on, or
    slower.
    Raises ArtifactError when the file is not a valid artifact, MissingError when the device is not on this machine.
    """
    check_colour(colour)
    found = artifact if isinstance(artifact, Artifact) else artifact_to_run(Path(artifact), device or "")
    device = device or default_device(found)
    runtime = open_runtime(found, device, threads=threads, exclusive=exclusive)
    if caution := int8_caution(found, device) or int8_speed_caution(found, device):
        warnings.warn(caution, ArtifactWarning, stacklevel=2)
    return Classifier(found.card, runtime, colour, mirror_average=mirror_average)
