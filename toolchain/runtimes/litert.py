"""Artifacts on LiteRT, which was TensorFlow Lite: `.tflite` files on the CPU, with the kernels of XNNPACK."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from tempfile import TemporaryFile
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.tflite.reading import read_network
from toolchain.artifact.tflite.writing import write
from toolchain.errors import ArtifactError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import Device, RuntimeFamily, cores
from toolchain.runtimes.sharing import Shared
from toolchain.system.installation import install

_CHATTER = b"Created TensorFlow Lite XNNPACK delegate"
"""What LiteRT prints once in a process, to those whom it does not concern."""
_OPENING = Lock()


@cache
def _library() -> Any:
    from ai_edge_litert import interpreter

    return interpreter


def parse(text: str) -> str | None:
    """`cpu`: LiteRT's accelerators are those of phones."""
    return text if text == "cpu" else None


def probe(target: str) -> Device:
    """Whether LiteRT is here, and starts."""
    name = f"litert:{target}"
    if find_spec("ai_edge_litert") is None:
        return Device(name, False, "LiteRT (ai-edge-litert) is not installed", install("litert"))
    try:
        _library()
    except OSError as error:  # its shared libraries
        return Device(name, False, f"it does not start here ({error})")
    return Device(name, True)


class LiteRtRuntime:
    """An interpreter, with as many threads as it may use. It takes any number of images, and prepares for another
    number when one comes."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self.device: str = "litert:cpu"
        self.threads: int = threads or cores()
        # What was read and bounded, written anew: no byte of the file itself reaches LiteRT.
        self._content = write(read_network(artifact.model, artifact.path), {})
        self._artifact = artifact
        first = self._open(self.threads)
        self.provider_effective: str = "XNNPACK" if first.delegated else "LiteRT"
        self.execution: Execution = Execution(streams=1, static=True)
        kept = [first]
        crowd = partial(self.streams, self.threads, 1) if self.threads > 1 else None
        self._shared = Shared(lambda: kept.pop() if kept else self._open(self.threads), crowd)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return self._shared(images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        return [self._open(max(1, self.threads // count)) for _ in range(count)]

    def _open(self, threads: int) -> _Interpreter:
        return _Interpreter(self._content, self._artifact, threads)


class _Interpreter:
    """Inferences of one thread at a time."""

    def __init__(self, content: bytes, artifact: Artifact, threads: int) -> None:
        self._path = artifact.path
        self._classes = len(artifact.card.labels)
        try:
            with _quiet():
                self._interpreter = _library().Interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"{self._path}: LiteRT cannot load it: {_reason(error)}") from None
        [entry] = self._interpreter.get_input_details()
        self._input, self._shape = entry["index"], tuple(entry["shape"])
        outputs = {one["name"]: one["index"] for one in self._interpreter.get_output_details()}
        self._outputs = [outputs[name] for name in ("logits", "probabilities")]

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK computes something. (LiteRT tells by a method that is not promised to stay.)"""
        told: list[dict[str, Any]] = getattr(self._interpreter, "_get_ops_details", list)()
        return any(one["op_name"] == "DELEGATE" for one in told)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        if images.dtype != np.uint8 or images.shape[1:] != self._shape[1:]:
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 {self._shape}")
        try:
            if images.shape != self._shape:
                self._shape = (0, *images.shape[1:])  # until there is room for them: what there was is gone
                self._interpreter.resize_tensor_input(self._input, images.shape)
                self._interpreter.allocate_tensors()
                self._shape = images.shape
            self._interpreter.set_tensor(self._input, images)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{self._path}: LiteRT cannot run it: {_reason(error)}",
                "Export it again; if memory is short, run fewer photographs at once.",
            ) from None
        logits, probabilities = (self._interpreter.get_tensor(index) for index in self._outputs)
        return Answer(logits, probabilities)


def _reason(error: Exception) -> str:
    """What LiteRT says for people, in one line, without the place in its source."""
    return " ".join(str(error).split()).rpartition(".cc:")[2][:200] or "unknown reason"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's greeting from standard error, for which it has no switch; all else that is written there is
    passed on."""
    with _OPENING:
        try:
            caught = TemporaryFile()  # noqa: SIM115 - it is closed below
        except OSError:  # nothing can be written here
            yield
            return
        with caught:
            try:
                sys.stderr.flush()
                kept = os.dup(2)
            except (OSError, AttributeError, ValueError):  # there is no standard error
                yield
                return
            os.dup2(caught.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
                os.close(kept)
                caught.seek(0)
                for line in caught:
                    if _CHATTER not in line:
                        os.write(2, line)


def load(artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False) -> LiteRtRuntime:
    """Load `artifact`. It takes any `batch`; `exclusive` changes nothing."""
    return LiteRtRuntime(artifact, threads)


FAMILY = RuntimeFamily(
    name="litert",
    title="LiteRT",
    targets=("cpu",),
    parse=parse,
    probe=probe,
    load=load,
    preload=_library,
    formats=("tflite",),
    packages={"ai_edge_litert": ("ai-edge-litert",)},
)
