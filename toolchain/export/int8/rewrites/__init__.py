"""Rewrites of a graph for the kernels that ONNX Runtime has: other operators, the same answers.

Each takes a model, float or with integers (QDQ), and returns a copy; where its pattern does not occur, the copy is
like the original. They can be combined in any order. `for_onnxruntime` applies all of them.

OpenVINO reads these files too, but has kernels of its own for what they replace: it is slower with them.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from toolchain.export.int8.rewrites.hard_swish import integer_hard_swish, integer_pool
from toolchain.export.int8.rewrites.padding import pad_channels
from toolchain.export.int8.rewrites.pixels import merge_pixels, read_pixels

__all__ = [
    "REWRITES",
    "for_onnxruntime",
    "integer_hard_swish",
    "integer_pool",
    "merge_pixels",
    "pad_channels",
    "read_pixels",
]

REWRITES: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "integer hard-swish": integer_hard_swish,
    "integer pooling": integer_pool,
    "padded channels": pad_channels,
    "merged pixels": merge_pixels,
    "pixels read as integers": read_pixels,
}
"""By the names that the card gives them."""


def for_onnxruntime(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """`model` with all rewrites that change it, and their names."""
    applied = []
    for name, rewrite in REWRITES.items():
        rewritten = rewrite(model)
        if rewritten.graph != model.graph:
            applied.append(name)
            model = rewritten
    return model, applied
