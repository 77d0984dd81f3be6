"""How far a picture's maps are from those of photographs, by what batch normalisation remembers of these."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

WORST = 100.0
"""A channel that photographs hardly ever change would outweigh all others."""


class Statistics:
    """Within `with`, compares the maps that enter each BatchNorm of a network with its mean and variance.

    Yin et al.: *Dreaming to Distill*, CVPR 2020. A network without BatchNorm (VGG) remembers nothing: distance 0.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._distances: list[Tensor] = []

    def __enter__(self) -> Statistics:
        self._handles = [layer.register_forward_hook(self._compare) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def distance(self) -> Tensor:
        """The mean over layers for what went through the network since the last call, a scalar, 0 or more."""
        found, self._distances = self._distances, []
        return torch.stack(found).mean() if found else torch.zeros(())

    def _compare(self, layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        (maps,) = inputs
        usual = layer.running_var + 1e-3 * layer.running_var.mean()
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
        shift = ((mean - layer.running_mean) ** 2 / usual).clamp(max=WORST)
        spread = ((variance / usual + 1e-6).sqrt() - 1).square().clamp(max=WORST)
        self._distances.append(shift.mean() + spread.mean())
