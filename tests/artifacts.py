"""A small real artifact, made with `onnx.helper`: it answers which colour is strongest."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.artifact import Artifact, write_artifact
from toolchain.artifact.card import CARD_SCHEMA, Card, QuantizationRecipe, Source
from toolchain.images.preprocess import Preprocess

COLOURS = ("red", "green", "blue")


def tiny_artifact(
    path: Path,
    labels: Sequence[str] = COLOURS,
    height: int = 32,
    width: int = 32,
    *,
    temperature: float = 1.0,
    scale: float = 0.05,
    precision: str = "float32",
    runtimes: tuple[str, ...] = ("ort:cpu", "openvino:CPU"),
    **card: Any,
) -> Artifact:
    """Write a model file that names the strongest colour: label 0 is red, the others go round the colour wheel.

    `scale` is how much one grey level of difference moves a logit: the smaller, the less sure the answers. Further
    keywords replace fields of the card. With `precision="int8"` only the card says so.
    """
    preprocess = Preprocess(height=height, width=width, shortest_edge=max(height, width))
    fields = {"preprocess": preprocess, "temperature": temperature, "precision": precision, "runtimes": runtimes}
    model = tiny_model(len(labels), height, width, temperature=temperature, scale=scale)
    return write_artifact(model, tiny_card(labels, **(fields | card)), path)


def tiny_ir(path: Path, **fields: Any) -> Artifact:
    """The same as OpenVINO's pair of files, `path` (a `.xml`) and its `.bin`; `fields` are those of the card."""
    from toolchain.export.variants import make_ir, write_ir

    artifact = make_ir(tiny_model().SerializeToString(), tiny_card(**fields), path)
    write_ir(artifact)
    return artifact


def tiny_tflite(path: Path, **fields: Any) -> Artifact:
    """The same as LiteRT's file; `fields` are those of the card."""
    from toolchain.export.litert import make_tflite

    artifact = make_tflite(tiny_model().SerializeToString(), tiny_card(**fields), path)
    path.write_bytes(artifact.model)
    return artifact


def tiny_card(labels: Sequence[str] = COLOURS, **fields: Any) -> Card:
    """A valid card; `fields` replace its own."""
    zeros = "0" * 64
    precision = fields.get("precision", "float32")
    calibrated = {"calibration_sha256": zeros, "calibration_n": 1} if precision == "int8" else {}
    recipe = QuantizationRecipe(quantiser="none", settings={}, **calibrated)
    known: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "labels": tuple(labels),
        "preprocess": Preprocess(height=32, width=32, shortest_edge=32),
        "temperature": 1.0,
        "reject": None,
        "precision": "float32",
        "recipe": None if precision == "float32" else recipe,
        "accuracy": (),
        "splits": {"test": zeros},
        "source": Source(
            model="colours", run="none", weights="by hand", weights_sha256=None, data="none", licences={}
        ),
        "edgetl_version": "0",
        "runtimes": ("ort:cpu", "openvino:CPU"),
    }
    return Card(**(known | fields))


def tiny_model(
    classes: int = 3, height: int = 32, width: int = 32, *, temperature: float = 1.0, scale: float = 0.05
) -> onnx.ModelProto:
    """The graph alone: mean colour, one fully connected layer, softmax."""
    wheel = [colorsys.hsv_to_rgb(label / classes, 1, 1) for label in range(classes)]
    weights = np.array(wheel, np.float32).T
    weights = (weights - weights.mean(axis=0)) * scale
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("Gemm", ["colour", "weights", "bias"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"], axis=1),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "weights": weights,
        "bias": np.zeros(classes, np.float32),
        "temperature": np.array(temperature, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", height, width, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
