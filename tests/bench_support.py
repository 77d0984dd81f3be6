"""Artifacts for the benchmark, and photographs that they know."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from artifacts import COLOURS, tiny_artifact, tiny_card, tiny_model
from onnx import helper, numpy_helper

from toolchain.artifact import Artifact, write_artifact
from toolchain.artifact.card import Source
from toolchain.timing import scheduler

SIDE = 32


def colour_artifact(
    path: Path, labels: Sequence[str] = COLOURS, *, data: str = "colours", int8_on: Sequence[str] = ()
) -> Artifact:
    """A network that was trained on `data`. `int8_on` makes its card say int8, proven on these devices."""
    return tiny_artifact(
        path,
        labels,
        SIDE,
        SIDE,
        precision="int8" if int8_on else "float32",
        runtimes=tuple(int8_on),
        source=Source("colours", "run", "by hand", None, data, {}),
    )


def artifact_that_breaks(path: Path) -> Artifact:
    """A valid file that asks, when it runs, for an element that is not there: no check of the graph sees it."""
    model = tiny_model()
    position = next(index for index, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node.insert(position, helper.make_node("Gather", ["colour", "order"], ["gathered"], axis=1))
    model.graph.node[position + 1].input[0] = "gathered"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 99], np.int64), "order"))
    return write_artifact(model, tiny_card(), path)


def artifact_that_loads_slowly(path: Path) -> Artifact:
    """A valid file of a megabyte: its constants are multiplied with each other when it is loaded."""
    model = tiny_model()
    nodes = model.graph.node
    position = next(index for index, node in enumerate(nodes) if node.op_type == "Gemm")
    products = ["factor", *(f"product {number}" for number in range(40))]
    slow = [helper.make_node("MatMul", [one, "factor"], [next_]) for one, next_ in itertools.pairwise(products)]
    slow += [
        helper.make_node("ReduceMean", [products[-1], "both axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["colour", "mean"], ["brighter"]),
    ]
    for place, node in enumerate(slow):
        nodes.insert(position + place, node)
    nodes[position + len(slow)].input[0] = "brighter"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((512, 512), np.float32), "factor"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.int64), "both axes"))
    return write_artifact(model, tiny_card(), path)


def write_photographs(root: Path) -> Path:
    """Noisy pictures of three colours, in class folders: eight of each in train, four in test."""
    rng = np.random.default_rng(0)
    for split, per_class in (("train", 8), ("test", 4)):
        for label in COLOURS:
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(per_class):
                bgr = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
                bgr[:, :, 2 - COLOURS.index(label)] += 150
                cv2.imwrite(str(folder / f"{index}.png"), bgr)
    return root


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network this small needs no long measurement."""
    monkeypatch.setattr(scheduler, "THROUGHPUT_S", 0.05)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve test photographs of three colours, in a folder. Not to be written to."""
    return write_photographs(tmp_path_factory.mktemp("photographs") / "colours")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A float artifact that knows the photographs. Not to be written to."""
    return colour_artifact(tmp_path_factory.mktemp("run") / "model.onnx")
