"""Pooled features of photographs: what the head sees, and all that evaluating a network costs.

On a CPU they are computed by OpenVINO, which takes a third of torch's time; elsewhere by torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from toolchain.backbones import body_of, head_of, normalised, pooled_features
from toolchain.datasets import Photograph
from toolchain.datasets.decoded import Decoded
from toolchain.preprocess import Preprocess
from toolchain.progress import Reporter
from toolchain.runtimes.devices import cores
from toolchain.training.batches import batches
from toolchain.training.environment import has_fast_bfloat16

BATCH = 4
"""Photographs at a time. More of them no longer fit into the caches of a small CPU."""

WORTH_COMPILING = 400
"""Photographs after which OpenVINO has made good the seconds that its compilation takes."""

Floats = NDArray[np.float32]
Extractor = Callable[[Iterable[NDArray[np.uint8]]], Floats]
"""From batches of uint8 images [batch, height, width, 3], at most `BATCH` each, to features float32 [n, width]."""


def labels_of(photos: Sequence[Photograph]) -> NDArray[np.int64]:
    """Class indices of `photos`, int64 [n]."""
    return np.array([photo.label for photo in photos], np.int64)


class Body:
    """The layers of a network before its head, ready to compute features on `device`.

    Weights are taken when features are first asked for; after training, make another one.
    """

    def __init__(self, network: nn.Module, spec: Preprocess, device: torch.device) -> None:
        self._network = network.eval()
        self._spec = spec
        self._device = device
        self._converted: Any = None

    def extractor(self, *, many: int, exact: bool) -> Extractor:
        """What computes the features of `many` photographs; `exact` forbids bfloat16."""
        if self._device.type == "cpu" and many > WORTH_COMPILING and find_spec("openvino"):
            self._converted = self._converted or self._convert()
        return self._openvino(exact) if self._converted else self._torch(exact)

    def _convert(self) -> Any:
        import openvino

        example = torch.zeros(BATCH, self._spec.height, self._spec.width, 3, dtype=torch.uint8)
        pooled = _Pooled(self._network)
        with torch.inference_mode():
            program = torch.export.export(pooled, (example,))
        return openvino.convert_model(program)

    def _openvino(self, exact: bool) -> Extractor:
        import openvino

        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if not exact and has_fast_bfloat16(self._device) else "f32",
            "INFERENCE_NUM_THREADS": cores(),
            "NUM_STREAMS": cores(),
        }
        compiled = openvino.Core().compile_model(self._converted, "CPU", config)

        def extract(batches: Iterable[NDArray[np.uint8]]) -> Floats:
            found: dict[int, Floats] = {}

            def keep(request: Any, place: tuple[int, int]) -> None:
                number, size = place
                found[number] = np.array(request.get_output_tensor(0).data[:size])

            queue = openvino.AsyncInferQueue(compiled, cores())
            queue.set_callback(keep)
            for number, images in enumerate(batches):
                padding = np.zeros((BATCH - len(images), *images.shape[1:]), np.uint8)
                whole = np.concatenate([images, padding]) if len(padding) else images
                queue.start_async([whole], (number, len(images)))
            queue.wait_all()
            return np.concatenate([found[number] for number in range(len(found))])

        return extract

    def _torch(self, exact: bool) -> Extractor:
        low_precision = not exact and has_fast_bfloat16(self._device)

        @torch.inference_mode()
        def extract(batches: Iterable[NDArray[np.uint8]]) -> Floats:
            found = []
            for images in batches:
                with torch.autocast(self._device.type, torch.bfloat16, enabled=low_precision):
                    features = pooled_features(self._network, torch.from_numpy(images).to(self._device))
                found.append(features.float().cpu().numpy())
            return np.concatenate(found)

        return extract


def features_of(
    photos: Sequence[Photograph], extract: Extractor, decoded: Decoded, reporter: Reporter, description: str
) -> Floats:
    """Features of `photos`, in their order: float32 [photographs, width]."""

    def inputs() -> Iterator[NDArray[np.uint8]]:
        groups = [range(start, min(start + BATCH, len(photos))) for start in range(0, len(photos), BATCH)]
        for images in batches(groups, lambda index: decoded.input(photos[index])):
            yield images.numpy()
            task.advance(len(images))

    with reporter.task(description, len(photos)) as task:
        return extract(inputs())


def logits_of(network: nn.Module, features: Floats) -> Floats:
    """What the head makes of pooled features [n, width]: float32 [n, classes]."""
    head = head_of(network)
    weight, bias = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
    return np.asarray(features @ weight.T + bias, np.float32)


class _Pooled(nn.Module):
    """As `pooled_features`, with BatchNorm folded into the convolutions: half the operators to convert."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.body = fuse(copy.deepcopy(body_of(network)))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.body(normalised(images))
        return maps.mean((2, 3))
