"""A network so small that a benchmark of it is quick, and photographs that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from toolchain.artifact import CARD_SCHEMA, Artifact, Card, Recipe, Source, write_artifact
from toolchain.preprocess import Preprocess

LABELS = ("red", "green", "blue")
SIDE = 32


def colour_artifact(
    path: Path,
    labels: Sequence[str] = LABELS,
    *,
    data: str = "colours",
    int8_on: Sequence[str] = (),
    breaks_when_run: bool = False,
) -> Artifact:
    """Write a network that names the strongest of red, green and blue.

    `int8_on` makes the card say that it is an int8 file, proven on these devices; `breaks_when_run` asks for an
    element that is not there, which no check of the graph can see.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "order"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    order = np.array([0, 1, 99 if breaks_when_run else 2], np.int64)
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes"), numpy_helper.from_array(order, "order")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    card = Card(
        schema=CARD_SCHEMA,
        labels=tuple(labels),
        preprocess=Preprocess(height=SIDE, width=SIDE, shortest_edge=SIDE),
        temperature=1.0,
        reject=None,
        precision="int8" if int8_on else "float32",
        recipe=Recipe("none", {}, "0" * 64, 1) if int8_on else None,
        accuracy=(),
        splits={},
        source=Source("colours", "run", "none", None, data, {}),
        edgetl_version="0",
        runtimes=tuple(int8_on),
    )
    return write_artifact(model, card, path)


def write_photographs(root: Path, classes: Sequence[str] = LABELS, per_class: int = 4) -> Path:
    """Class folders, in train and test, of noisy pictures in the colour that their class names."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in classes:
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(per_class):
                bgr = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
                bgr[:, :, 2 - LABELS.index(label)] += 150
                cv2.imwrite(str(folder / f"{index}.png"), bgr)
    return root
