"""An artifact's graph in the words of ncnn: layers as lines of text, and the weights behind one another.

The graph is that of a file that was read and checked. Each operator becomes one layer, or two; a batch is the
caller's loop. https://github.com/Tencent/ncnn/wiki describes the files and the numbered options of layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MAGIC = 7767517

PREPARING = {"Transpose", "Cast", "Sub", "Div"}
"""What stands between the image and the first layer: ncnn does that while it takes the pixels in."""
ARITHMETIC = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3}
SAME_EITHER_WAY = {"Add", "Mul"}

Options = dict[int, int | float | str]


class UnknownOperatorError(Exception):
    """What edgetl does not know how to tell ncnn."""


@dataclass(frozen=True)
class NcnnGraph:
    """`param` and `model` are the contents of ncnn's two files.

    Of RGB pixels, 0 to 255, `mean` is subtracted; what is left is multiplied by `scale` and goes into the blob
    `input`. `outputs` are the blobs of the graph's outputs by their names there.
    """

    param: str
    model: bytes
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    input: str
    outputs: Mapping[str, str]


def ncnn_graph(model: onnx.ModelProto) -> NcnnGraph:
    """The graph of an artifact that takes images. Raises UnknownOperatorError where ncnn cannot be told of it."""
    return _Translation(model.graph).translated()


class _Translation:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._layers: list[str] = []
        self._weights: list[bytes] = []
        self._count = 0
        self._blobs: dict[str, list[str]] = {}
        """Of each tensor, the blobs that its readers have not taken yet: in ncnn, each blob has one reader."""
        self._nodes = list(graph.node)
        self._mean, self._scale = np.zeros(3), np.ones(3)
        self._transposed = False
        self._image = self._prepare(graph.input[0].name)
        if not self._transposed and (not self._nodes or self._nodes[0].op_type != "ReduceMean"):
            raise UnknownOperatorError("maps of channels that come last")
        self._readers = Counter(name for node in self._nodes for name in node.input)
        self._readers.update(value.name for value in graph.output)
        self._reader = {name: node for node in self._nodes for name in node.input}
        self._done: set[str] = set()

    def translated(self) -> NcnnGraph:
        taking = self._new()
        self._layer("Input", [], [taking], {})
        self._provide(self._image, taking)
        for node in self._nodes:
            if node.output[0] not in self._done:
                translate = _OPERATORS.get(node.op_type)
                if translate is None:
                    raise UnknownOperatorError(f"the operator {node.op_type}")
                translate(self, node)
        outputs = {value.name: self._take(value.name) for value in self._graph.output}
        param = "\n".join([str(MAGIC), f"{len(self._layers)} {self._count}", *self._layers, ""])
        mean, scale = (tuple(float(one) for one in values) for values in (self._mean, self._scale))
        return NcnnGraph(param, b"".join(self._weights), mean, scale, taking, outputs)

    def _prepare(self, name: str) -> str:
        """Take what prepares pixels off the front of the nodes, and remember it; the name of what it gives."""
        while self._nodes and self._nodes[0].input[0] == name and self._nodes[0].op_type in PREPARING:
            node = self._nodes.pop(0)
            if node.op_type == "Transpose":
                if self._transposed or _attributes(node).get("perm") != [0, 3, 1, 2]:
                    raise UnknownOperatorError("a Transpose of that kind")
                self._transposed = True
            elif node.op_type in {"Sub", "Div"}:
                values = np.broadcast_to(self._constant(node, 1).ravel(), 3)
                if node.op_type == "Div":
                    self._scale = self._scale / values
                else:
                    self._mean = self._mean + values / self._scale
            name = node.output[0]
        return name

    def _new(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def _layer(self, kind: str, inputs: list[str], outputs: list[str], options: Options) -> None:
        words = [kind, f"l{len(self._layers)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs]
        self._layers.append(" ".join([*words, *(f"{number}={value}" for number, value in options.items())]))

    def _take(self, name: str) -> str:
        if not self._blobs.get(name):
            raise UnknownOperatorError(f"the constant {name}, where it computes")
        return self._blobs[name].pop()

    def _provide(self, name: str, blob: str) -> None:
        """`blob` holds the tensor `name`."""
        self._blobs[name] = [blob]
        if self._readers[name] > 1:
            copies = [self._new() for _ in range(self._readers[name])]
            self._layer("Split", [blob], copies, {})
            self._blobs[name] = copies

    def _single(self, kind: str, node: onnx.NodeProto, options: Options, output: str = "") -> None:
        """A layer of one input and one output."""
        blob = self._new()
        self._layer(kind, [self._take(node.input[0])], [blob], options)
        self._provide(output or node.output[0], blob)

    def _constant(self, node: onnx.NodeProto, place: int) -> NDArray[Any]:
        if place >= len(node.input) or node.input[place] not in self._constants:
            raise UnknownOperatorError(f"{node.op_type} of computed weights")
        return self._constants[node.input[place]]

    def _store(self, values: NDArray[Any], *, tagged: bool = False) -> None:
        """What ncnn may keep in another type has a tag before it, 0 for float32."""
        self._weights.append((bytes(4) if tagged else b"") + np.ascontiguousarray(values, "<f4").tobytes())

    def convolution(self, node: onnx.NodeProto) -> None:
        told, weights = _attributes(node), self._constant(node, 1)
        if weights.ndim != 4 or told.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise UnknownOperatorError("a convolution of other than two dimensions, or with automatic padding")
        top, left, bottom, right = told.get("pads", [0] * 4)
        (dilation_y, dilation_x), (stride_y, stride_x) = (told.get(key, [1, 1]) for key in ("dilations", "strides"))
        height, width = weights.shape[2:]
        has_bias = len(node.input) > 2 and bool(node.input[2])
        options: Options = {0: weights.shape[0], 1: width, 11: height, 2: dilation_x, 12: dilation_y}
        options |= {3: stride_x, 13: stride_y, 4: left, 14: top, 15: right, 16: bottom}
        options |= {5: int(has_bias), 6: weights.size}
        if groups := told.get("group", 1) - 1:
            options[7] = groups + 1
        activation, output = self._activation(node.output[0])
        self._single("ConvolutionDepthWise" if groups else "Convolution", node, options | activation, output)
        self._store(weights, tagged=True)
        if has_bias:
            self._store(self._constant(node, 2))

    def _activation(self, name: str) -> tuple[Options, str]:
        """What the convolution of `name` does in place of the one operator that reads it, and what that makes."""
        node = self._reader.get(name)
        if node is None or self._readers[name] != 1:
            return {}, name
        if node.op_type == "Relu":
            found: Options = {9: 1}
        elif node.op_type == "Clip":
            least, most = self._bounds(node)
            found = {9: 3, -23310: f"2,{least},{most}"}
        elif node.op_type == "HardSwish":
            found = {9: 6, -23310: f"2,{1 / 6},{0.5}"}
        else:
            return {}, name
        self._done.add(node.output[0])
        return found, node.output[0]

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float]:
        given = [place < len(node.input) and bool(node.input[place]) for place in (1, 2)]
        least, most = (
            float(self._constant(node, place)) if there else missing
            for place, there, missing in zip((1, 2), given, (-3.4e38, 3.4e38), strict=True)
        )
        return least, most

    def clip(self, node: onnx.NodeProto) -> None:
        least, most = self._bounds(node)
        self._single("Clip", node, {0: least, 1: most})

    def linear(self, node: onnx.NodeProto) -> None:
        told, weights = _attributes(node), self._constant(node, 1)
        if told.get("transA", 0) or told.get("beta", 1.0) != 1.0:
            raise UnknownOperatorError("a Gemm of that kind")
        weights = (weights if told.get("transB", 0) else weights.T) * told.get("alpha", 1.0)
        has_bias = len(node.input) > 2 and bool(node.input[2])
        self._single("InnerProduct", node, {0: len(weights), 1: int(has_bias), 2: weights.size})
        self._store(weights, tagged=True)
        if has_bias:
            self._store(np.broadcast_to(self._constant(node, 2).ravel(), len(weights)))

    def arithmetic(self, node: onnx.NodeProto) -> None:
        names = list(node.input)
        if names[0] in self._constants and node.op_type in SAME_EITHER_WAY:
            names.reverse()
        options: Options = {0: ARITHMETIC[node.op_type]}
        blobs = [self._take(names[0])]
        constant = self._constants.get(names[1])
        if constant is None:
            blobs.append(self._take(names[1]))
        elif constant.size == 1:
            options |= {1: 1, 2: float(constant.ravel()[0])}
        else:
            blobs.append(self._memory(constant))
        blob = self._new()
        self._layer("BinaryOp", blobs, [blob], options)
        self._provide(node.output[0], blob)

    def _memory(self, values: NDArray[Any]) -> str:
        """A blob of one value for each channel."""
        if values.size != values.shape[max(values.ndim - 3, 0)] or values.ndim < 3:
            raise UnknownOperatorError("a constant of that shape")
        blob = self._new()
        self._layer("MemoryData", [], [blob], {0: 1, 1: 1, 2: values.size})
        self._store(values)
        return blob

    def mean(self, node: onnx.NodeProto) -> None:
        told = _attributes(node)
        axes = told.get("axes") or (self._constant(node, 1).tolist() if len(node.input) > 1 else [2, 3])
        if sorted(axis % 4 for axis in axes) != ([2, 3] if self._transposed else [1, 2]):
            raise UnknownOperatorError("a mean over other axes")
        blob = self._new()
        self._layer("Pooling", [self._take(node.input[0])], [blob], {0: 1, 4: 1})
        if told.get("keepdims", 1):
            vector, blob = blob, self._new()
            self._layer("Reshape", [vector], [blob], {0: 1, 1: 1, 2: -1})
        self._provide(node.output[0], blob)

    def pooling(self, node: onnx.NodeProto) -> None:
        told = _attributes(node)
        if told.get("auto_pad", b"NOTSET") != b"NOTSET" or set(told.get("dilations", [1])) != {1}:
            raise UnknownOperatorError(f"a {node.op_type} of that kind")
        (height, width), (stride_y, stride_x) = told["kernel_shape"], told.get("strides", [1, 1])
        top, left, bottom, right = told.get("pads", [0] * 4)
        options: Options = {0: int(node.op_type == "AveragePool"), 1: width, 11: height, 2: stride_x, 12: stride_y}
        options |= {3: left, 13: top, 14: right, 15: bottom, 5: 0 if told.get("ceil_mode", 0) else 1}
        self._single("Pooling", node, options | {6: told.get("count_include_pad", 0)})

    def normalisation(self, node: onnx.NodeProto) -> None:
        scale, bias, mean, variance = (self._constant(node, place) for place in range(1, 5))
        self._single("BatchNorm", node, {0: scale.size, 1: _attributes(node).get("epsilon", 1e-5)})
        for values in (scale, mean, variance, bias):
            self._store(values)

    def concatenation(self, node: onnx.NodeProto) -> None:
        if _attributes(node)["axis"] not in {1, -3}:
            raise UnknownOperatorError("a concatenation along another axis")
        blob = self._new()
        self._layer("Concat", [self._take(name) for name in node.input], [blob], {0: 0})
        self._provide(node.output[0], blob)

    def softmax(self, node: onnx.NodeProto) -> None:
        # The last axis is that of the channels in vectors alone, and no rank is known here.
        if _attributes(node).get("axis", -1) != 1:
            raise UnknownOperatorError("a softmax along another axis")
        self._single("Softmax", node, {0: 0, 1: 1})

    def flatten(self, node: onnx.NodeProto) -> None:
        if _attributes(node).get("axis", 1) != 1:
            raise UnknownOperatorError("a Flatten along another axis")
        self._single("Flatten", node, {})

    def padding(self, node: onnx.NodeProto) -> None:
        pads = self._constant(node, 1).tolist()
        if len(pads) != 8 or any(pads[:2] + pads[4:6]) or _attributes(node).get("mode", b"constant") != b"constant":
            raise UnknownOperatorError("a Pad of that kind")
        value = float(self._constant(node, 2)) if len(node.input) > 2 and node.input[2] else 0.0
        options: Options = {0: pads[2], 1: pads[6], 2: pads[3], 3: pads[7], 4: 0, 5: value}
        self._single("Padding", node, options)

    def leaky(self, node: onnx.NodeProto) -> None:
        self._single("ReLU", node, {0: _attributes(node).get("alpha", 0.01)})

    def hard_sigmoid(self, node: onnx.NodeProto) -> None:
        told = _attributes(node)
        self._single("HardSigmoid", node, {0: told.get("alpha", 0.2), 1: told.get("beta", 0.5)})


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _simple(kind: str, options: Options | None = None) -> Callable[[_Translation, onnx.NodeProto], None]:
    return lambda translation, node: translation._single(kind, node, options or {})


_OPERATORS: Mapping[str, Callable[[_Translation, onnx.NodeProto], None]] = {
    "Add": _Translation.arithmetic,
    "AveragePool": _Translation.pooling,
    "BatchNormalization": _Translation.normalisation,
    "Clip": _Translation.clip,
    "Concat": _Translation.concatenation,
    "Conv": _Translation.convolution,
    "Div": _Translation.arithmetic,
    "Flatten": _Translation.flatten,
    "Gemm": _Translation.linear,
    "GlobalAveragePool": _Translation.mean,
    "HardSigmoid": _Translation.hard_sigmoid,
    "HardSwish": _simple("HardSwish", {0: 1 / 6, 1: 0.5}),
    "LeakyRelu": _Translation.leaky,
    "MaxPool": _Translation.pooling,
    "Mul": _Translation.arithmetic,
    "Pad": _Translation.padding,
    "ReduceMean": _Translation.mean,
    "Relu": _simple("ReLU"),
    "Sigmoid": _simple("Sigmoid"),
    "Softmax": _Translation.softmax,
    "Sub": _Translation.arithmetic,
}
