"""Layers that integers make slower, conversions included, by the runtime's own profiler: better left in float.

ONNX Runtime's integer kernel for depthwise convolutions, for one, may take twice as long as the float one where
maps are large; that depends on the CPU.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.export.int8.torch_graph import LAYERS
from toolchain.system.progress import Reporter
from toolchain.timing.layers import LayerRow, side_by_side, time_layers

PROCESSES = 3
MIN_SAVED = 0.05
"""Share of an int8 file's time that its slow layers must waste: less is not told apart in the whole."""


def slow_layers(
    base: Artifact, int8: Artifact, device: str, threads: int, pixels: NDArray[np.uint8], reporter: Reporter
) -> frozenset[str]:
    """The layers of the float file `base`, by the tensors that they give, that `int8` is surely slower in.

    Empty where they waste next to nothing, or a file cannot be profiled. `pixels` are preprocessed photographs,
    uint8 [n, height, width, 3]. Both artifacts must be files.
    """
    profiles = time_layers([(base, device), (int8, device)], threads, pixels, reporter, processes=PROCESSES)
    if any(profile.reason for profile in profiles):
        return frozenset()
    return worth_float(side_by_side(*profiles), onnx.load_model_from_string(base.model))


def worth_float(rows: list[LayerRow], model: onnx.ModelProto) -> frozenset[str]:
    """Of `rows`, float beside int8, the layers of the float `model` that waste enough time together."""
    slow = [row for row in rows if row.slower]
    wasted = sum(row.times[-1].us - row.times[0].us for row in slow)
    if wasted < MIN_SAVED * sum(row.times[-1].us for row in rows):
        return frozenset()
    members = {name for row in slow for name in row.members}
    return frozenset(
        node.output[0]
        for node in model.graph.node
        if node.op_type in LAYERS and {node.name, node.output[0]} & members
    )
