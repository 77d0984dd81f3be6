"""A small network of a few kinds of layers, in float and with integers (QDQ), for what tells layers apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.artifacts import COLOURS, tiny_card
from toolchain.artifact import Artifact, write_artifact


def layered_artifact(path: Path, *, integers: bool = False) -> Artifact:
    """Write a network of 32 x 32 pixels: `wide` (3x3, stride 2), `deep` (depthwise), `narrow` and its `sum` with
    what `wide` gave, `pool`, `classes`. With `integers`, `wide` and `narrow` are QDQ, and `deep` stays float."""
    card = tiny_card(precision="int8" if integers else "float32")
    return write_artifact(_Network(integers).model(), card, path)


class _Network:
    def __init__(self, integers: bool) -> None:
        self._integers = integers
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        self._node("Transpose", ["image"], "permuted", perm=[0, 3, 1, 2])
        self._node("Cast", ["permuted"], "pixels", to=TensorProto.FLOAT)
        self._node("Sub", ["pixels", self._constant("mean", np.array(127, np.float32))], "centred")
        wide = self._conv("wide", self._rounded("centred"), (64, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
        self._node("Relu", [wide], "wide_relu")
        start = self._rounded("wide_relu")
        deep = self._conv("deep", start, (64, 1, 3, 3), integers=False, group=64, pads=[1, 1, 1, 1])
        narrow = self._rounded(self._conv("narrow", self._rounded(deep), (64, 64, 1, 1)))
        self._node("Add", [narrow, start], "sum_out", name="sum")
        axes = self._constant("axes", np.array([2, 3]))
        self._node("ReduceMean", [self._rounded("sum_out"), axes], "pooled", name="pool", keepdims=0)
        weights = self._constant("class_weights", self._random.normal(size=(64, len(COLOURS))).astype(np.float32))
        self._node("MatMul", ["pooled", weights], "logits", name="classes")
        self._node("Softmax", ["logits"], "probabilities", axis=1)
        graph = helper.make_graph(
            self._nodes,
            "layers",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(COLOURS)])
                for name in ("logits", "probabilities")
            ],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _conv(
        self, name: str, source: str, shape: tuple[int, ...], *, integers: bool = True, **settings: object
    ) -> str:
        weights = self._random.normal(size=shape).astype(np.float32) / 10
        if self._integers and integers:
            scales = (np.abs(weights).max((1, 2, 3)) / 127).astype(np.float32)
            whole = np.round(weights / scales[:, None, None, None]).astype(np.int8)
            zeros = self._constant(f"{name}_zeros", np.zeros(shape[0], np.int8))
            parts = [self._constant(f"{name}_int8", whole), self._constant(f"{name}_scales", scales), zeros]
            stored = self._node("DequantizeLinear", parts, f"{name}_weights", axis=0)
        else:
            stored = self._constant(f"{name}_weights", weights)
        return self._node("Conv", [source, stored], f"{name}_out", name=name, kernel_shape=shape[2:], **settings)

    def _rounded(self, name: str) -> str:
        if not self._integers:
            return name
        grid = [
            self._constant(f"{name}_scale", np.array(1.0, np.float32)),
            self._constant(f"{name}_zero", np.array(128, np.uint8)),
        ]
        self._node("QuantizeLinear", [name, *grid], f"{name}_integers", name=f"{name}_quantize")
        return self._node(
            "DequantizeLinear", [f"{name}_integers", *grid], f"{name}_float", name=f"{name}_dequantize"
        )

    def _node(self, op: str, sources: list[str], output: str, name: str = "", **settings: object) -> str:
        self._nodes.append(helper.make_node(op, sources, [output], name or f"node_{output}", **settings))
        return output

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name
