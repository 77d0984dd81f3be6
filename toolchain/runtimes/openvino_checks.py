"""What OpenVINO makes of a network must be what its card says, and bounded, before it is compiled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolchain.artifact import Artifact
from toolchain.artifact.sizes import FRAME_SIDE, MAX_COMPUTED, MAX_TENSOR
from toolchain.errors import ArtifactError

if TYPE_CHECKING:
    import openvino

READING = frozenset({"Convert", "Subtract", "Multiply"})
"""What DequantizeLinear becomes."""


def check_outputs(model: openvino.Model, artifact: Artifact) -> None:
    """Raise ArtifactError unless the outputs are the card's.

    Shapes that an IR states are not binding: OpenVINO computes its own from the layers.
    """
    for name in ("logits", "probabilities"):
        shape = model.output(name).get_partial_shape()
        if len(shape) != 2 or shape[1] != len(artifact.card.labels):
            raise ArtifactError(
                f"{artifact.path}: `{name}` is {shape}, and the card has {len(artifact.card.labels)} labels"
            )


def check_sizes(model: openvino.Model, artifact: Artifact) -> None:
    """Raise ArtifactError unless all that is computed for one photograph has a known and bounded size."""
    spec = artifact.card.preprocess
    sides = (spec.height, spec.width) if artifact.card.input == "image" else (FRAME_SIDE, FRAME_SIDE)
    outline = model.clone()
    outline.reshape({"image": [1, *sides, 3]})
    total = 0
    stored: dict[str, int] = {}
    for layer in outline.get_ordered_ops():
        most = MAX_COMPUTED if _reads_weights(layer, stored) else MAX_TENSOR
        for output in layer.outputs() if layer.get_type_name() != "Constant" else ():
            shape = output.get_partial_shape()
            size = 0 if shape.is_dynamic else math.prod(shape.to_shape())
            total += size
            if shape.is_dynamic or size > most or total > MAX_COMPUTED:
                raise ArtifactError(
                    f"{artifact.path}: {layer.get_type_name()} {layer.get_friendly_name():.80} becomes too large, "
                    f"or how large cannot be told: {shape}"
                )


def _reads_weights(layer: openvino.Node, stored: dict[str, int]) -> bool:
    """Whether `layer` holds numbers, or makes as many of them as the file holds; then `stored` has them."""
    kind = layer.get_type_name()
    if layer.get_output_size() != 1 or layer.output(0).get_partial_shape().is_dynamic:
        return False
    shape = layer.output(0).get_partial_shape()
    size = math.prod(shape.to_shape())
    sources = [value.get_source_output().get_node().get_name() for value in layer.inputs()]
    if kind in READING:
        known = stored.keys() >= set(sources) and size <= max(stored[name] for name in sources)
    else:
        known = kind == "Constant"
    if known:
        stored[layer.get_name()] = size
    return known
