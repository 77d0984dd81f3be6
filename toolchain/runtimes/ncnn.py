"""Artifacts on ncnn, which is made for the CPUs of phones and small Arm boards.

The ONNX file is told to ncnn when it is loaded (`ncnn_graph`): there is no second file, and no converter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import Device, RuntimeFamily, cores
from toolchain.runtimes.machine import cpu_flags
from toolchain.runtimes.ncnn_graph import NcnnGraph, UnknownOperatorError, ncnn_graph
from toolchain.runtimes.sharing import Shared
from toolchain.system.installation import install

HALF = "f16"
"""After a `+`: weights and maps in float16; arithmetic too, on Arm CPUs that have it."""

SPINS_MS = 20
"""How long threads stay awake after a layer: ncnn's own default."""

_at_home = 0
"""The process in which ncnn has several threads; 0 for none."""


@cache
def _library() -> Any:
    import ncnn

    return ncnn


def parse(text: str) -> str | None:
    """`cpu`, or `cpu+f16`. (ncnn's Vulkan is left to GPUs that it was tried on.)"""
    return text if text in {"cpu", f"cpu+{HALF}"} else None


def probe(target: str) -> Device:
    """Whether ncnn is here, and the CPU converts float16 for `+f16`."""
    name = f"ncnn:{target}"
    if find_spec("ncnn") is None:
        return Device(name, False, "ncnn is not installed", install("ncnn"))
    if target.endswith(HALF) and not (_library().cpu_support_arm_asimdhp() or "avx2" in cpu_flags()):
        return Device(name, False, "this CPU has no instructions for float16", f"leave out +{HALF}")
    return Device(name, True)


def _usable(threads: int) -> int:
    """`threads`, or one in a forked process: those of OpenMP do not survive a fork, and it would wait for them."""
    global _at_home
    if threads > 1 and _at_home == 0:
        _at_home = os.getpid()
    return threads if _at_home in {0, os.getpid()} else 1


class NcnnRuntime:
    """A network that answers one image after the other, each with as many threads as it may use."""

    def __init__(self, artifact: Artifact, target: str, threads: int, *, exclusive: bool = False) -> None:
        self.device: str = f"ncnn:{target}"
        self.threads: int = threads or cores()
        if artifact.card.input != "image":
            raise ArtifactError(
                f"{artifact.path}: ncnn takes no frames of any size", "Name the file without .frame."
            )
        try:
            graph = ncnn_graph(onnx.load_model_from_string(artifact.model))
        except UnknownOperatorError as error:
            raise ArtifactError(
                f"{artifact.path}: edgetl cannot tell ncnn of {error}", "Run it on ort:cpu or openvino:CPU."
            ) from None
        half = target.endswith(HALF)
        self.provider_effective: str = "ncnn CPU"
        self.execution: Execution = Execution(
            streams=1, spinning=exclusive, inference_precision=HALF if half else "f32"
        )
        self._open = partial(_Network, artifact, graph, half, exclusive)
        crowd = partial(self.streams, self.threads, 1) if self.threads > 1 else None
        self._shared = Shared(partial(self._open, self.threads), crowd)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return self._shared(images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        return [self._open(max(1, self.threads // count)) for _ in range(count)]


class _Network:
    """Inferences of one thread at a time."""

    def __init__(self, artifact: Artifact, graph: NcnnGraph, half: bool, exclusive: bool, threads: int) -> None:
        self._path, self._graph = artifact.path, graph
        self._size = (artifact.card.preprocess.height, artifact.card.preprocess.width, 3)
        ncnn = _library()
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = _usable(threads)
        options.use_vulkan_compute = False
        options.openmp_blocktime = SPINS_MS if exclusive else 0
        options.use_bf16_storage = options.use_bf16_packed = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        if self._net.load_param_mem(graph.param) != 0:
            raise ArtifactError(f"{self._path}: ncnn cannot load it", "Run it on ort:cpu or openvino:CPU.")
        self._net.load_model_mem(graph.model)
        self._take: Callable[..., Any] = partial(ncnn.Mat.from_pixels, type=ncnn.Mat.PixelType.PIXEL_RGB)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        if images.dtype != np.uint8 or images.shape[1:] != self._size:
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 {(1, *self._size)}")
        answers = [self._one(image) for image in np.ascontiguousarray(images)]
        return Answer(*(np.stack(parts) for parts in zip(*answers, strict=True)))

    def _one(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        graph = self._graph
        pixels = self._take(image, w=image.shape[1], h=image.shape[0])
        pixels.substract_mean_normalize(list(graph.mean), list(graph.scale))
        asking = self._net.create_extractor()
        asking.input(graph.input, pixels)
        found = []
        for name in ("logits", "probabilities"):
            failed, answer = asking.extract(graph.outputs[name])
            if failed:
                raise ArtifactError(
                    f"{self._path}: ncnn cannot run it", "If memory is short, close other programs."
                )
            found.append(np.array(answer, np.float32).ravel())
        return found[0], found[1]


def load(artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False) -> NcnnRuntime:
    """Load `artifact`. It takes any `batch`, an image at a time; `exclusive`: threads stay awake between images."""
    return NcnnRuntime(artifact, target, threads, exclusive=exclusive)


FAMILY = RuntimeFamily(
    name="ncnn",
    title="ncnn",
    targets=("cpu", f"cpu+{HALF}"),
    parse=parse,
    probe=probe,
    load=load,
    preload=_library,
    packages={"ncnn": ("ncnn",)},
)
