"""Pooled features of photographs: what the head sees, and all that evaluating a network costs.

On a CPU they are computed by OpenVINO, which takes a third of torch's time; elsewhere by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolchain.backbones import head_of, pooled_features
from toolchain.datasets import Photograph
from toolchain.datasets.decoded import Decoded
from toolchain.preprocess import Preprocess
from toolchain.progress import Reporter
from toolchain.runtimes.devices import cores
from toolchain.training.batches import batches
from toolchain.training.environment import has_fast_bfloat16

BATCH = 16

WORTH_COMPILING = 1000
"""Photographs after which OpenVINO has made good the seconds that its compilation takes."""

Floats = NDArray[np.float32]
Extractor = Callable[[NDArray[np.uint8]], Floats]
"""From uint8 images [batch, height, width, 3] to features float32 [batch, width]."""


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
            return self._openvino(exact)
        return self._torch(exact)

    def _openvino(self, exact: bool) -> Extractor:
        import openvino

        if self._converted is None:
            example = torch.zeros(BATCH, self._spec.height, self._spec.width, 3, dtype=torch.uint8)
            with torch.inference_mode():
                program = torch.export.export(_Pooled(self._network), (example,))
            self._converted = openvino.convert_model(program)
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if not exact and has_fast_bfloat16(self._device) else "f32",
            "INFERENCE_NUM_THREADS": cores(),
        }
        request = openvino.Core().compile_model(self._converted, "CPU", config).create_infer_request()

        def extract(images: NDArray[np.uint8]) -> Floats:
            n = len(images)
            padding = np.zeros((BATCH - n, *images.shape[1:]), np.uint8)
            request.infer([np.concatenate([images, padding]) if n < BATCH else images], share_inputs=True)
            return np.array(request.get_output_tensor(0).data[:n])

        return extract

    def _torch(self, exact: bool) -> Extractor:
        low_precision = not exact and has_fast_bfloat16(self._device)

        @torch.inference_mode()
        def extract(images: NDArray[np.uint8]) -> Floats:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=low_precision):
                features = pooled_features(self._network, torch.from_numpy(images).to(self._device))
            return features.float().cpu().numpy()

        return extract


def apply_to(
    photos: Sequence[Photograph],
    function: Extractor,
    decoded: Decoded,
    reporter: Reporter,
    description: str,
) -> Floats:
    """Stack `function` of the network's inputs over `photos`, in their order; [photographs, ...]."""
    results = []
    with reporter.task(description, len(photos)) as task:
        groups = [range(start, min(start + BATCH, len(photos))) for start in range(0, len(photos), BATCH)]
        for images in batches(groups, lambda index: decoded.input(photos[index])):
            results.append(function(images.numpy()))
            task.advance(len(images))
    return np.concatenate(results)


def logits_of(network: nn.Module, features: Floats) -> Floats:
    """What the head makes of pooled features [n, width]: float32 [n, classes]."""
    head = head_of(network)
    weight, bias = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
    return np.asarray(features @ weight.T + bias, np.float32)


class _Pooled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return pooled_features(self.network, images)
