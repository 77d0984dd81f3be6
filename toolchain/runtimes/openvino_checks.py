"""What OpenVINO makes of a network must be what its card says, and bounded, before it is compiled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolchain.artifact import Artifact
from toolchain.artifact.sizes import FRAME_SIDE, MAX_COMPUTED, MAX_TENSOR
from toolchain.errors import ArtifactError

if TYPE_CHECKING:
    import openvino


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
    for layer in outline.get_ops():
        for output in layer.outputs() if layer.get_type_name() != "Constant" else ():
            shape = output.get_partial_shape()
            size = 0 if shape.is_dynamic else math.prod(shape.to_shape())
            total += size
            if shape.is_dynamic or size > MAX_TENSOR or total > MAX_COMPUTED:
                raise ArtifactError(
                    f"{artifact.path}: {layer.get_type_name()} {layer.get_friendly_name():.80} becomes too large, "
                    f"or how large cannot be told: {shape}"
                )
