"""Where bfloat16 does not pay on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def strided_depthwise_in_float32(network: nn.Module) -> Iterator[None]:
    """Within the block, depthwise convolutions with a stride leave autocast and compute in float32.

    oneDNN has no fast gradient for them in bfloat16: 96 channels of 112 x 112 in batches of 32 take 195 ms forward
    and back, and 79 ms in float32 (two cores with AMX, torch 2.15). All others are faster in bfloat16.
    """
    slow = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and max(module.stride) > 1
    ]
    for module in slow:
        module.forward = _in_float32(module.forward)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for module in slow:
            del module.forward


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def precise(maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            return forward(maps.float()).to(maps.dtype)

    return precise
