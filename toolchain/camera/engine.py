"""The network that answers. It can be exchanged while the camera runs, and is replaced when its device fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact, read_artifact
from toolchain.camera.threads import Worker
from toolchain.classifier import Classifier, load
from toolchain.errors import ArtifactError, BadInputError, MissingError
from toolchain.images.preprocess import FramePreprocess
from toolchain.runtimes import Answer, in_loading_time
from toolchain.runtimes.devices import RUNTIMES, family_of, is_cpu, probe
from toolchain.system.progress import Reporter, Silent

_T = TypeVar("_T")

CPUS = ("ort:cpu", "openvino:CPU", "litert:cpu")
"""Devices of every machine, tried in this order when another device fails."""


class Network:
    """A classifier that is ready for frames: it is warmed up."""

    def __init__(self, classifier: Classifier, artifact: Artifact | None = None) -> None:
        self.classifier = classifier
        self.artifact = artifact
        card = classifier.card
        self.device: str = classifier.runtime.device
        self.name: str = f"{card.precision} on {self.device}"
        self.has_answered: bool = False
        """Whether it has answered a frame."""
        self.preprocess: FramePreprocess = FramePreprocess(card.preprocess, whole=card.input == "frame")
        self._batch: NDArray[np.uint8] = np.empty((0, 0, 0, 3), np.uint8)
        # Runtimes prepare themselves in the first inference, which would make the first frame old.
        side = card.preprocess
        black = np.zeros((1, side.height, side.width, 3), np.uint8)
        path = artifact.path if artifact else None
        in_loading_time(self.device, path, lambda: classifier.runtime.infer(black))
        self._met = {black.shape}
        self._compiles = not is_cpu(self.device) or self.device.endswith("+compile")

    def compiles_for(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether the device may compile the network for as many pictures, or for such a size, which takes TensorRT
        minutes."""
        if not self._compiles or pixels.shape in self._met:
            return False
        self._met.add(pixels.shape)
        return True

    @property
    def takes_one(self) -> bool:
        """Whether it answers one region only: a file that resizes by itself."""
        return self.classifier.card.input == "frame"

    def pixels(self, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The network's input for parts of a frame, uint8 BGR; valid until the next call.

        Raises BadInputError for several parts and a file that resizes by itself: they would not fit into one batch.
        """
        if len(parts) == 1:
            return self.preprocess(parts[0])
        if self.takes_one:
            raise BadInputError(
                "a file with --raw-frame answers one region only", "Export it without, or leave regions out."
            )
        shape = (len(parts), *self.preprocess(parts[0]).shape[1:])
        if self._batch.shape != shape:
            self._batch = np.empty(shape, np.uint8)
        for place, part in zip(self._batch, parts, strict=True):
            place[:] = self.preprocess(part)[0]
        return self._batch

    def infer(self, pixels: NDArray[np.uint8]) -> Answer:
        """Answer for pixels that `preprocess` or `pixels` returned."""
        return self.classifier.runtime.infer(pixels)


class Engine:
    """Holds the network that answers, and the one that it is `compared` with, if any.

    Networks are loaded in a thread of their own, so that no frame waits for that. When a device fails, a CPU takes
    over, which `failures` records. `artifact` is what `classifier` was loaded from; without it, nothing can be
    exchanged. With `mirror_average` the mirror image of every other frame is answered: the average over time is one
    over both then, at no cost.
    """

    def __init__(
        self,
        classifier: Classifier,
        artifact: Artifact | None = None,
        *,
        threads: int = 0,
        exclusive: bool = False,
        mirror_average: bool = False,
        reporter: Reporter | None = None,
    ) -> None:
        self.mirror_average: bool = mirror_average
        self.network: Network = Network(classifier, artifact)
        self.compared: Network | None = None
        self.failures: list[str] = []
        self._failed: set[tuple[Path | None, str]] = set()
        """Files and devices that failed since a network answered. They are not tried again, so that two CPUs that
        cannot answer do not replace each other for ever."""
        self._threads = threads
        self._exclusive = exclusive
        self._reporter = reporter or Silent()
        self._changing = Lock()

    def fall_back(self, failed: Network, why: str) -> None:
        """Go on with a CPU instead of `failed`. Raises MissingError if none works."""
        if failed is self.compared:
            self.compared = None
            self._reporter.warn(f"{failed.name} {why}; the comparison ends")
            return
        if failed is not self.network:
            return  # it was replaced in the meantime
        told = f"{failed.name} {why}"
        if failed.has_answered:
            self._failed.clear()  # the others may have recovered
        self._failed.add((failed.artifact.path if failed.artifact else None, failed.device))
        for device in CPUS:
            if failed.artifact is None or (failed.artifact.path, device) in self._failed:
                continue
            if not family_of(device).takes(failed.artifact, device):
                continue
            try:
                self.network = self._loaded(failed.artifact, device)
            except Exception:  # runtimes raise anything
                continue
            self.failures.append(told)
            self._reporter.warn(f"{told}; going on with {self.network.name}")
            return
        raise MissingError(f"{told}, and no other device can run it", "Look at its driver: edgetl doctor.")

    def next_device(self) -> None:
        """Answer with the same file on the next device of this machine that can run it."""
        self._change(lambda artifact: self._put(_devices_after(artifact, self.network.device)))

    def next_precision(self) -> None:
        """Answer with the next model file of the same folder: float, int8. While two are compared, swap them."""
        if self.compared is not None:
            self.network, self.compared = self.compared, self.network
            return
        self._change(lambda artifact: self._put(self._others(artifact)))

    def toggle_comparison(self) -> None:
        """Compare with the next precision, or stop comparing."""
        if self.compared is not None:
            self.compared = None
            return

        def compare(artifact: Artifact) -> None:
            self.compared = self._first_loaded(self._others(artifact))

        self._change(compare)

    def _change(self, change: Callable[[Artifact], None]) -> None:
        artifact = self.network.artifact
        if artifact is None:
            return
        if not self._changing.acquire(blocking=False):
            self._reporter.say("the last change is still loading")
            return

        def run() -> None:
            try:
                change(artifact)
            except Exception as error:  # the camera goes on with the network that it has
                self._reporter.warn(f"nothing changed: {error}")
            finally:
                self._changing.release()

        Worker(run, "change network").start()

    def _put(self, ways: Iterator[tuple[Artifact, str]]) -> None:
        before = self.network
        network = self._first_loaded(ways)
        if self.network is before:  # else it failed in the meantime, and a CPU replaced it
            self.network = network
            self._reporter.say(f"now {network.name}")

    def _first_loaded(self, ways: Iterator[tuple[Artifact, str]]) -> Network:
        for artifact, device in ways:
            with suppress(Exception):  # the next one may work
                return self._loaded(artifact, device)
        raise MissingError("there is no other device on this machine, and no other model file in this folder")

    def _others(self, artifact: Artifact) -> Iterator[tuple[Artifact, str]]:
        """Other model files with the same classes in the folder of `artifact`, in order of names from it on."""
        here = artifact.path.parent
        paths = sorted(path for path in here.iterdir() if path.suffix in {".onnx", ".xml", ".tflite"})
        for path in _after(paths, artifact.path):
            try:
                other = read_artifact(path)
            except (ArtifactError, MissingError):
                continue
            if (other.card.labels, other.card.input) != (artifact.card.labels, artifact.card.input):
                continue  # what resizes by itself answers one region only
            device = self.network.device
            for found in (device, *CPUS):
                if family_of(found).takes(other, found):
                    yield other, found
                    break

    def _loaded(self, artifact: Artifact, device: str) -> Network:
        classifier = load(artifact, device, self._threads, exclusive=self._exclusive)
        return Network(classifier, artifact)


def _devices_after(artifact: Artifact, device: str) -> Iterator[tuple[Artifact, str]]:
    ways = {name: family for family in RUNTIMES.all().values() for name in family.devices if not family.of_run}
    for name in _after(list(ways), device):
        if ways[name].takes(artifact, name) and probe(name).available:
            yield artifact, name


def _after(everything: list[_T], one: _T) -> list[_T]:
    """All but `one`, starting with the one after it and wrapping around."""
    if one not in everything:
        return everything
    place = everything.index(one)
    return everything[place + 1 :] + everything[:place]
