"""What OpenVINO's Model API, Model Server and their kin read beside the card, in their own words (`model_info`)."""

from __future__ import annotations

from toolchain.artifact.card import Card

PREFIX = "model_info"


def model_info(card: Card) -> dict[str, str]:
    """The entries of `model_info` that say how to ask this classifier, and what its classes are called.

    Labels must not hold spaces there. Frames come as OpenCV reads them, BGR, and are reversed; a graph that takes
    frames of any size is given them as they are, and wants RGB. Mean and deviation are inside of the graph. `crop`
    is the largest square there, and scaling is bilinear: the words can only come near to what `preprocess` says.
    """
    told = {"model_type": "Classification", "labels": " ".join(map(_one_word, card.labels))}
    if card.input == "frame":
        return told
    spec = card.preprocess
    crops = spec.resize == "shortest-edge" and spec.height == spec.width
    return told | {"resize_type": "crop" if crops else "standard", "reverse_input_channels": "True"}


def _one_word(label: str) -> str:
    return "_".join(label.split()) or "_"
