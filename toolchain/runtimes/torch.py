"""The float run itself in PyTorch, as the baseline that an artifact is compared with.

The one module of the device half that needs the workshop; it is loaded only when a torch device is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain import files
from toolchain.artifact import Artifact
from toolchain.backbones import normalised, trained_network
from toolchain.errors import BadInputError, MissingError
from toolchain.runs import WEIGHTS_FILE, read_run
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import cores, probe

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UPS = 3
"""Inferences before a CUDA graph is captured, on a stream of their own, as PyTorch asks."""


class TorchRuntime:
    """The network of the run that `artifact` was exported from, channels last: eager and float32, or else as said.

    After the device come ways of running, each with a `+`: `bf16` or `fp16` for weights and arithmetic, `compile`
    for `torch.compile`, `graph` for a CUDA graph of `batch` images (other numbers run without).
    """

    def __init__(self, artifact: Artifact, target: str, threads: int, batch: int) -> None:
        folder = artifact.path.parent
        weights = folder / WEIGHTS_FILE
        if artifact.card.precision != "float32":
            raise BadInputError(
                f"PyTorch runs the float32 run, not a file of {artifact.card.precision}", "Name the float artifact."
            )
        if not weights.is_file() or files.sha256_of(weights) != artifact.card.source.run_sha256:
            raise MissingError(
                f"{folder} does not hold the run that {artifact.path.name} was exported from",
                f"PyTorch needs the run folder: run.json and {WEIGHTS_FILE} beside the artifact.",
            )
        run = read_run(folder)
        place, *ways = target.split("+")
        self.device = f"torch:{target}"
        self.threads = threads or cores()
        self._device = torch.device(place)
        if self._device.type == "cpu":
            torch.set_num_threads(self.threads)
        network = trained_network(folder, run).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._type = next((_TYPES[way] for way in ways if way in _TYPES), torch.float32)
        network = network.to(self._type)
        self._network: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(network) if "compile" in ways else network
        )
        self._temperature = run.temperature
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        how = "+".join(ways) or "eager"
        self.provider_effective = f"torch {torch.__version__} {how} on {name}"
        self._captured: _Captured | None = None
        if "graph" in ways:
            spec = artifact.card.preprocess
            shape = (batch, spec.height, spec.width, 3)
            self._captured = _Captured(self._compute, torch.zeros(shape, dtype=torch.uint8, device=self._device))
        precision = str(self._type).removeprefix("torch.")
        self.execution = Execution(streams=1, inference_precision=precision, static=self._captured is not None)

    @torch.inference_mode()
    def infer(self, images: NDArray[np.uint8]) -> Answer:
        pixels = torch.from_numpy(images)
        if self._captured is not None and self._captured.pixels.shape == pixels.shape:
            logits, probabilities = self._captured(pixels)
        else:
            logits, probabilities = self._compute(pixels.to(self._device))
        return Answer(logits.cpu().numpy(), probabilities.cpu().numpy())

    def streams(self, count: int, batch: int) -> list[Infer]:
        return []

    def _compute(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self._network(normalised(pixels).to(self._type)).float()
        return logits, torch.softmax(logits / self._temperature, dim=1)


class _Captured:
    """A CUDA graph of `compute`: launched as one, from and into memory that stays where it is."""

    def __init__(
        self, compute: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], pixels: torch.Tensor
    ) -> None:
        self.pixels = pixels
        with torch.inference_mode():
            beside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(pixels.device))
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    compute(pixels)
            torch.cuda.current_stream(pixels.device).wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._results = compute(pixels)

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.pixels.copy_(pixels)
        self._graph.replay()
        return self._results


def load(artifact: Artifact, target: str, threads: int, batch: int) -> TorchRuntime:
    """Load the run beside `artifact`; `target` is `cpu`, `cuda`, `cuda:1` or `mps`, and how (`cpu+bf16`)."""
    device = probe(f"torch:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return TorchRuntime(artifact, target, threads, batch)
