"""The network that answers: exchanged while the camera runs, and replaced when its device fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact, read_artifact
from toolchain.camera.threads import Worker
from toolchain.classifier import Classifier, load
from toolchain.errors import ArtifactError, MissingError
from toolchain.images.preprocess import FramePreprocess
from toolchain.runtimes import Answer
from toolchain.runtimes.devices import RUNTIMES, family_of, probe
from toolchain.system.progress import Reporter, Silent

_T = TypeVar("_T")

CPUS = ("ort:cpu", "openvino:CPU")
"""What every machine has, tried in this order when another device fails."""


class Network:
    """A classifier that is ready for frames: it has answered once, and its buffers are there."""

    def __init__(self, classifier: Classifier, artifact: Artifact | None = None) -> None:
        self.classifier = classifier
        self.artifact = artifact
        card, self.device = classifier.card, classifier.runtime.device
        self.name = f"{card.precision} on {self.device}"
        self.preprocess = FramePreprocess(card.preprocess, whole=card.input == "frame")
        # Runtimes prepare themselves at the first inference; no frame should grow old over that.
        side = card.preprocess
        classifier.runtime.infer(np.zeros((1, side.height, side.width, 3), np.uint8))

    def infer(self, pixels: NDArray[np.uint8]) -> Answer:
        """Answer for pixels that `preprocess` gave."""
        return self.classifier.runtime.infer(pixels)


class Engine:
    """Answers with one network, and with another one `beside` it where somebody wants to compare.

    Networks are loaded in a thread of their own, so that no frame waits for it. When a device fails, a CPU goes on;
    `failures` tells of it. `artifact` is what `classifier` was made of; without it, nothing can be exchanged.
    """

    def __init__(
        self,
        classifier: Classifier,
        artifact: Artifact | None = None,
        *,
        threads: int = 0,
        exclusive: bool = False,
        reporter: Reporter | None = None,
    ) -> None:
        self.network = Network(classifier, artifact)
        self.beside: Network | None = None
        self.failures: list[str] = []
        self._threads = threads
        self._exclusive = exclusive
        self._reporter = reporter or Silent()
        self._changing = Lock()

    def fall_back(self, failed: Network, why: str) -> None:
        """Go on with a CPU instead of `failed`. Raises MissingError if there is none to go on with."""
        if failed is self.beside:
            self.beside = None
            self._reporter.warn(f"{failed.name} {why}; it is compared with no longer")
            return
        if failed is not self.network:
            return  # it was replaced meanwhile
        told = f"{failed.name} {why}"
        for device in CPUS:
            if device == failed.device or failed.artifact is None:
                continue
            try:
                self.network = self._loaded(failed.artifact, device)
            except Exception:  # it may fail in its own way; runtimes raise what they like
                continue
            self.failures.append(told)
            self._reporter.warn(f"{told}; going on with {self.network.name}")
            return
        raise MissingError(f"{told}, and no other device can run it", "Look at its driver: edgetl doctor.")

    def next_device(self) -> None:
        """Answer with the same file on the next device of this machine that may run it."""
        self._change(lambda artifact: self._put(_devices_after(artifact, self.network.device)))

    def next_precision(self) -> None:
        """Answer with the next of the model files that lie beside this one: float, int8.

        While two are compared, they change places.
        """
        if self.beside is not None:
            self.network, self.beside = self.beside, self.network
            return
        self._change(lambda artifact: self._put(self._others(artifact)))

    def toggle_beside(self) -> None:
        """Compare with the next precision, or stop it."""
        if self.beside is not None:
            self.beside = None
            return

        def compare(artifact: Artifact) -> None:
            self.beside = self._first_loaded(self._others(artifact))

        self._change(compare)

    def _change(self, change: Callable[[Artifact], None]) -> None:
        artifact = self.network.artifact
        if artifact is None:
            return
        if not self._changing.acquire(blocking=False):
            self._reporter.say("the last change is still being loaded")
            return

        def run() -> None:
            try:
                change(artifact)
            except Exception as error:  # whatever it is, the camera goes on with what it has
                self._reporter.warn(f"nothing changed: {error}")
            finally:
                self._changing.release()

        Worker(run, "change network").start()

    def _put(self, ways: Iterator[tuple[Artifact, str]]) -> None:
        before = self.network
        network = self._first_loaded(ways)
        if self.network is before:  # else it failed meanwhile, and a CPU took its place
            self.network = network
            self._reporter.say(f"now {network.name}")

    def _first_loaded(self, ways: Iterator[tuple[Artifact, str]]) -> Network:
        for artifact, device in ways:
            with suppress(Exception):  # the next one may work
                return self._loaded(artifact, device)
        raise MissingError("there is no other device here, and no other model file beside this one, to choose")

    def _others(self, artifact: Artifact) -> Iterator[tuple[Artifact, str]]:
        """The other model files of the same classes in the folder of `artifact`, those after it in name first."""
        here = artifact.path.parent
        paths = sorted(path for path in here.iterdir() if path.suffix in {".onnx", ".xml"})
        for path in _after(paths, artifact.path):
            try:
                other = read_artifact(path)
            except ArtifactError:
                continue
            if other.card.labels != artifact.card.labels:
                continue
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
    """All but `one`, from the one after it on and around."""
    if one not in everything:
        return everything
    place = everything.index(one)
    return everything[place + 1 :] + everything[:place]
