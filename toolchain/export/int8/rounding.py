"""Integer weights that make up for each other's rounding, by what the layer sees.

A weight that was rounded up makes a layer answer too much wherever its input is large. Those that are rounded after
it, and whose inputs go along with that one, can take it back: GPTQ (Frantar et al., ICLR 2023). It is solved by the
second moments of the inputs, without training.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from toolchain.export.int8.qdq import MAX_WEIGHT, QuantizedLayer
from toolchain.export.int8.torch_graph import Node

DAMPING = 0.1
"""Added to the moments, as a share of their mean: what few photographs happen to show is not relied on."""
POSITIONS, PHOTOGRAPHS = 8192, 16
"""Places that a filter is looked at, and photographs at least, if there are so many."""
MAX_INPUTS = 2048
"""Inputs of a filter; with more of them there are too few places to know how they go along."""
BLOCK = 64
"""Weights after which the others are put right at once."""


def rounded_together(node: Node, images: Tensor, layer: QuantizedLayer, weight_bits: int) -> NDArray[np.int8]:
    """Integers for the weights of `node`, on the scales of `layer`, chosen for what it gives to `images`.

    `images` float32 [n, channels, height, width], or [n, inputs] of a fully connected layer. Returns int8
    [outputs, inputs, ...]. Layers that it cannot serve keep the integers that `layer` has.
    """
    weight = node.weight
    inputs = weight[0].numel()
    if inputs > MAX_INPUTS or (node.op == "Conv" and node.attributes["group"] > 1 and not node.is_depthwise):
        return layer.weight
    scales = torch.from_numpy(np.broadcast_to(layer.scales, len(weight)).copy())
    steps = (weight.reshape(len(weight), inputs) / scales[:, None]).double()
    seen = _seen(node, images)
    # Depthwise filters see a channel each; all others see the same.
    moments = (seen @ seen.transpose(1, 2) / seen.shape[2]).double()
    chosen = _solved(steps if not node.is_depthwise else steps[:, None], moments, MAX_WEIGHT[weight_bits])
    return np.asarray(chosen.reshape(weight.shape).numpy(), np.int8)


def _seen(node: Node, images: Tensor) -> Tensor:
    """What the filters of a layer see, [filters that see the same, inputs, places]."""
    if node.op == "Gemm":
        return images.T[None]
    kernel, strides = node.weight.shape[2:], node.attributes["strides"]
    top, left, bottom, right = node.attributes["pads"]
    places = images.shape[2] * images.shape[3] // (strides[0] * strides[1])
    enough = max(PHOTOGRAPHS, -(-POSITIONS // max(places, 1)))
    found = []
    for image in images[:: max(1, len(images) // enough)]:
        padded = functional.pad(image[None], (left, right, top, bottom))
        patches = functional.unfold(padded, kernel, tuple(node.attributes["dilations"]), stride=tuple(strides))[0]
        found.append(patches[:, :: max(1, patches.shape[1] * enough // POSITIONS)])
    patches = torch.cat(found, 1)
    return patches.reshape(images.shape[1] if node.is_depthwise else 1, -1, patches.shape[1])


def _solved(steps: Tensor, moments: Tensor, most: int) -> Tensor:
    """Integers within ±`most` for `steps` [..., filters, inputs]; `moments` are [groups, inputs, inputs]."""
    inputs = steps.shape[-1]
    size = moments.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    moments = moments + DAMPING * size[:, None, None] * torch.eye(inputs, dtype=moments.dtype)
    # The loudest inputs first: the others can make up for them.
    order = moments.diagonal(dim1=1, dim2=2).mean(0).argsort(descending=True)
    moments = moments[:, order][:, :, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    passed_on = torch.linalg.cholesky(inverse, upper=True)
    left = steps.reshape(len(moments), -1, inputs)[:, :, order]
    chosen = torch.empty_like(left)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = []
        for place in range(start, end):
            now = left[:, :, place]
            chosen[:, :, place] = now.round().clamp(-most, most)
            error = (now - chosen[:, :, place]) / passed_on[:, None, place, place]
            left[:, :, place:end] -= error[:, :, None] * passed_on[:, None, place, place:end]
            errors.append(error)
        left[:, :, end:] -= torch.stack(errors, 2) @ passed_on[:, start:end, end:]
    return chosen[:, :, order.argsort()]
