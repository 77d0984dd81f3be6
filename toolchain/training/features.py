"""Features of photographs: layers that do not change, computed as fast as the machine can.

On a CPU that is OpenVINO, which takes a third of torch's time; elsewhere torch. Pooled features are what the head
sees, and computing them is all that evaluating a network costs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from toolchain.backbones.networks import head_of, normalised, simplified
from toolchain.datasets import Photograph
from toolchain.images.reader import Reader
from toolchain.runtimes.devices import cores
from toolchain.runtimes.torch import without_tf32
from toolchain.system import telemetry
from toolchain.system.progress import Reporter
from toolchain.training.batches import prefetched
from toolchain.training.context import has_fast_bfloat16

BATCH = 4
"""Photographs at a time. More of them no longer fit into the caches of a small CPU."""

WORTH_COMPILING = 400
"""Photographs after which OpenVINO has made good the seconds that its compilation takes."""

Floats = NDArray[np.float32]
Extractor = Callable[[Iterable[NDArray[np.uint8]]], Floats]
"""From batches of uint8 images [batch, height, width, 3], at most `BATCH` each, to float32 [n, ...]."""


class Frozen:
    """The first layers of a network, from uint8 pixels to maps; where `pooled`, to their means over space, and what
    `hidden` layers make of these.

    `shape` is height and width of the pixels.

    Weights are taken when they are first needed; after training, make another one.
    """

    def __init__(
        self,
        layers: nn.Module,
        shape: tuple[int, int],
        device: torch.device,
        *,
        pooled: bool,
        hidden: nn.Module | None = None,
    ) -> None:
        self._layers = _Layers(layers.eval(), pooled, (hidden or nn.Sequential()).eval())
        self._shape = shape
        self._device = device
        self._converted: Any = None

    def extractor(self, *, many: int, exact: bool) -> Extractor:
        """What computes the layers for `many` photographs; `exact` forbids bfloat16."""
        if self._device.type == "cpu" and many > WORTH_COMPILING and find_spec("openvino"):
            self._converted = self._converted or self._convert()
        return self._openvino(exact) if self._converted else self._torch(exact)

    def _convert(self) -> Any:
        with telemetry.off():
            import openvino

        example = torch.zeros(BATCH, *self._shape, 3, dtype=torch.uint8)
        # With BatchNorm folded into the convolutions there are half as many operators to convert.
        folded = _Layers(fuse(simplified(self._layers.layers)), self._layers.pooled, self._layers.hidden)
        with torch.inference_mode():
            program = torch.export.export(folded, (example,))
        return openvino.convert_model(program)

    def _openvino(self, exact: bool) -> Extractor:
        from toolchain.runtimes.openvino import core

        # Processes of `torchrun` share the machine.
        threads = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if not exact and has_fast_bfloat16(self._device) else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        compiled = core().compile_model(self._converted, "CPU", config)

        def extract(batches: Iterable[NDArray[np.uint8]]) -> Floats:
            # Requests that are waited for in turn, not OpenVINO's queue with a callback: when a compiled model is
            # freed, a callback's thread may wait for Python's lock, and whoever frees the model for that thread.
            idle = deque(compiled.create_infer_request() for _ in range(threads))
            running: deque[tuple[Any, int]] = deque()
            found: list[Floats] = []

            def collect() -> None:
                request, size = running.popleft()
                request.wait()
                found.append(np.array(request.get_output_tensor(0).data[:size]))
                idle.append(request)

            for images in batches:
                if not idle:
                    collect()
                padding = np.zeros((BATCH - len(images), *images.shape[1:]), np.uint8)
                request = idle.popleft()
                request.start_async([np.concatenate([images, padding]) if len(padding) else images])
                running.append((request, len(images)))
            while running:
                collect()
            return np.concatenate(found)

        return extract

    def _torch(self, exact: bool) -> Extractor:
        low_precision = not exact and has_fast_bfloat16(self._device)

        @torch.inference_mode()
        def extract(batches: Iterable[NDArray[np.uint8]]) -> Floats:
            found = []
            for images in batches:
                with (
                    without_tf32(self._device) if exact else nullcontext(),
                    torch.autocast(self._device.type, torch.bfloat16, enabled=low_precision),
                ):
                    answers = self._layers(torch.from_numpy(images).to(self._device))
                found.append(answers.float().cpu().numpy())
            return np.concatenate(found)

        return extract


class _Layers(nn.Module):
    def __init__(self, layers: nn.Module, pooled: bool, hidden: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.pooled = pooled
        self.hidden = hidden

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.layers(normalised(images))
        return self.hidden(answers.mean((2, 3))) if self.pooled else answers


def labels_of(photos: Sequence[Photograph]) -> NDArray[np.int64]:
    """Class indices of `photos`, int64 [n]."""
    return np.array([photo.label for photo in photos], np.int64)


def features_of(
    photos: Sequence[Photograph], extract: Extractor, reader: Reader, reporter: Reporter, description: str
) -> Floats:
    """Features of `photos`, in their order: float32 [photographs, width]."""

    def inputs() -> Iterator[NDArray[np.uint8]]:
        groups = [range(start, min(start + BATCH, len(photos))) for start in range(0, len(photos), BATCH)]
        for images in prefetched(groups, lambda index: reader.input(photos[index])):
            yield images.numpy()
            task.advance(len(images))

    with reporter.task(description, len(photos)) as task:
        return extract(inputs())


def logits_of(network: nn.Module, features: Floats) -> Floats:
    """What the head makes of pooled features [n, width]: float32 [n, classes]."""
    head = head_of(network)
    weight, bias = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
    return np.asarray(features @ weight.T + bias, np.float32)
