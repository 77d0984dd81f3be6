"""Integers in an ONNX graph, written as explicit QuantizeLinear and DequantizeLinear (QDQ).

All runtimes read this form, and turn it into integer kernels where they have them. Activations are uint8 with one
scale for a tensor (ONNX Runtime takes no others), weights int8 with a scale for each output channel (or one for
all, as some NPUs want it), and biases int32 with the product of both scales, without which ONNX Runtime does not
compute in integers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Floats = NDArray[np.float32]

BIAS_BITS = 30
"""A bias takes at most this many of the 31 bits of an accumulator; the rest is left for the products."""

MAX_WEIGHT = {8: 127, 7: 64}
"""Largest magnitude of an integer weight, by bits. On x86 without VNNI, int8 kernels add pairs of products in 16
bits (`vpmaddubsw`), which saturate: 2 * 255 * 127 does not fit, 2 * 255 * 64 does."""

INSIDE = 0.25
"""What lies so far from an integer is rounded to it, and is not soon pushed to the next one by training."""

MIN_PER_CHANNEL = 32
"""Where only weights are stored as integers, layers with fewer weights for each output channel stay float. They are
depthwise and first convolutions, 3 % of MobileNetV2's weights and half of the error."""


@dataclass(frozen=True)
class QuantParams:
    """What the integers of a tensor stand for: `(integer - zero_point) * scale`; int8 if `signed`, else uint8."""

    scale: float
    zero_point: int
    signed: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return (-128, 127) if self.signed else (0, 255)


@dataclass(frozen=True)
class QuantizedLayer:
    """Integers of a convolution or matrix product.

    `weight` int8 [outputs, inputs, ...], `scales` float32 [outputs], or [] where all share one, `bias` int32
    [outputs] in steps of `scales` times `input_scale`. Where the input stays float, `input_scale` and `bias` are
    None: only the weights are stored as integers.
    """

    weight: NDArray[np.int8]
    scales: Floats
    input_scale: float | None = None
    bias: NDArray[np.int32] | None = None

    @property
    def float_bias(self) -> Floats | None:
        """What `bias` stands for, float32 [outputs]."""
        if self.bias is None or self.input_scale is None:
            return None
        steps: Floats = self.scales * np.float32(self.input_scale)
        return np.asarray(self.bias * steps, np.float32)


@dataclass
class Quantization:
    """Integers for a graph, by the names of its tensors.

    With `pixels`, the first layer takes the photograph's bytes as they are, as `byte - pixels`, in the place of the
    tensor `centred`. The conversion and the subtraction of the mean are left out, and the layer's bias makes up for
    them.
    """

    activations: dict[str, QuantParams] = field(default_factory=dict)
    layers: dict[str, QuantizedLayer] = field(default_factory=dict)
    biases: dict[str, Floats] = field(default_factory=dict)
    """Of integer layers whose bias stays float32."""
    pixels: int | None = None
    centred: str | None = None
    """Both or none. Nothing of that tensor is rounded: its integers are these very bytes."""
    error: float = 0.0
    """Of the logits on the calibration photographs, relative to their own size (L2 norms)."""


def quantize_layer(
    weight: Floats,
    bias: Floats,
    input_scale: float | None,
    weight_bits: int = 8,
    *,
    per_tensor: bool = False,
    scales: Floats | None = None,
) -> QuantizedLayer:
    """Round weights [outputs, inputs, ...] to int8, symmetric, with a scale for each output channel or one for all.

    The scales are those that the largest weights need, or the given `scales` [outputs]. Where a bias would not fit
    into int32 (weights or inputs that are next to nothing), the channel's scale grows until it does.
    """
    axes, most = tuple(range(1, weight.ndim)), MAX_WEIGHT[weight_bits]
    largest = np.abs(weight).max(axes) / most if scales is None else scales
    least = 0.0 if input_scale is None else np.abs(bias.astype(np.float64)) / (2.0**BIAS_BITS * input_scale)
    scales = np.maximum(np.maximum(largest, least), 1e-12).astype(np.float32)
    scales = scales.max() if per_tensor else scales
    rounded = np.round(weight / scales.reshape(-1, *[1] * len(axes)))
    integers = np.clip(rounded, -most, most).astype(np.int8)
    if input_scale is None:
        return QuantizedLayer(integers, np.asarray(scales))
    steps = np.round(bias.astype(np.float64) / (scales.astype(np.float64) * input_scale))
    return QuantizedLayer(integers, np.asarray(scales), input_scale, steps.astype(np.int32))


def rounding_to(weight: Floats, layer: QuantizedLayer) -> Floats:
    """Weights near `weight` that `quantize_layer` rounds to the integers of `layer`, on its scales."""
    scales = layer.scales.reshape(-1, *[1] * (weight.ndim - 1))
    low, high = ((layer.weight + side) * scales for side in (-INSIDE, INSIDE))
    return np.clip(weight, low, high).astype(np.float32)


def weight_bits(model: onnx.ModelProto) -> Literal[7, 8]:
    """How many bits the weights of integer layers use: 7 where none exceeds `MAX_WEIGHT[7]`.

    Depthwise convolutions do not count: they multiply one channel at a time, and add in 32 bits on all CPUs.
    """
    # Weights that are only stored as int8 are cast instead, and computed in float.
    integer = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    tensors = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in integer and len(tensor.dims) > 1 and tensor.data_type == onnx.TensorProto.INT8
    ]
    stored = [tensor for tensor in tensors if tensor.dims[1] > 1]
    largest = [np.abs(numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0) for tensor in stored]
    return 7 if max(largest, default=0) <= MAX_WEIGHT[7] else 8


def write_qdq(model: onnx.ModelProto, quantization: Quantization) -> onnx.ModelProto:
    """A copy of the float `model` with the integers of `quantization`. `model` stays as it is."""
    return _Writer(model, quantization).write()


def with_own_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, with a copy for each layer of weights that it shares with others: they get scales of their own."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    places = [
        (index, place)
        for index, node in enumerate(model.graph.node)
        if node.op_type in {"Conv", "Gemm"}
        for place, name in enumerate(node.input)
        if place and name in stored and uses[name] > 1
    ]
    if not places:
        return model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    for index, place in places:
        node = own.graph.node[index]
        copy = own.graph.initializer.add()
        copy.CopyFrom(stored[node.input[place]])
        copy.name = f"{copy.name}.{node.output[0]}"
        node.input[place] = copy.name
    return own


class _Writer:
    def __init__(self, model: onnx.ModelProto, quantization: Quantization) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._quantization = quantization
        self._tensors = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._renamed: dict[str, str] = {}
        read = [node.input[0] for node in model.graph.node if node.output[0] == quantization.centred]
        self._left_out = {quantization.centred, *read}

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        for proto in list(graph.node):
            node = onnx.NodeProto()
            node.CopyFrom(proto)
            name = node.output[0]
            node.input[:] = [self._renamed.get(old, old) for old in node.input]
            if self._quantization.pixels is not None and name in self._left_out:
                self._pass_pixels(node, self._quantization.pixels)
                continue
            if layer := self._quantization.layers.get(name):
                self._use_integers(node, layer)
            self._nodes.append(node)
            if params := self._quantization.activations.get(name):
                self._round(name, params)
        used = {name for node in self._nodes for name in node.input}
        # The types that value_info names are the old ones.
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(tensor for tensor in self._tensors.values() if tensor.name in used)
        return self._model

    def _use_integers(self, node: onnx.NodeProto, layer: QuantizedLayer) -> None:
        name, weights = node.output[0], node.input[1]
        integers = self._constant(f"{weights}_int8", layer.weight)
        if layer.input_scale is None and name not in self._quantization.biases:
            node.input[1] = self._decompressed(weights, integers, layer)
            return
        zeros = np.zeros(layer.scales.shape, np.int8)
        inputs = [node.input[0], self._dequantised(weights, integers, layer.scales, zeros)]
        if name in self._quantization.biases:
            inputs.append(self._constant(f"{name}_bias", self._quantization.biases[name]))
        elif layer.bias is not None:
            scales = (layer.scales * np.float32(layer.input_scale)).astype(np.float32)
            bias = self._constant(f"{name}_bias_int32", layer.bias)
            inputs.append(self._dequantised(f"{name}_bias", bias, scales, zeros.astype(np.int32)))
        node.input[:] = inputs

    def _pass_pixels(self, node: onnx.NodeProto, middle: int) -> None:
        """Leave out the conversion, and put `byte - middle` in the place of `pixel - mean`.

        It is rounded once more, to the same bytes. OpenVINO computes a layer in integers only where it reads a
        rounding; ONNX Runtime leaves it out.
        """
        name = node.output[0]
        self._renamed[name] = node.input[0]
        if node.op_type == "Sub":
            one, zero = np.array(1, np.float32), np.array(middle, np.uint8)
            read = self._dequantised("pixels", node.input[0], one, zero)
            self._round(read, QuantParams(1.0, middle))
            self._renamed[name] = self._renamed[read]

    def _round(self, name: str, params: QuantParams) -> None:
        """Let all readers of the tensor `name` read its integers."""
        scale = np.array(params.scale, np.float32)
        zero = np.array(params.zero_point, np.int8 if params.signed else np.uint8)
        inputs = [name, self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero_point", zero)]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_integers"], f"{name}_quantize"))
        self._renamed[name] = self._dequantised(name, f"{name}_integers", scale, zero)

    def _dequantised(self, name: str, integers: str, scale: Floats, zero: NDArray[np.generic]) -> str:
        inputs = [
            integers,
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero_point", zero),
        ]
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], f"{name}_dequantize")
        if scale.ndim:
            node.attribute.append(helper.make_attribute("axis", 0))
        self._nodes.append(node)
        return f"{name}_float"

    def _decompressed(self, name: str, weight: str, layer: QuantizedLayer) -> str:
        """`Mul(Cast(int8), scale)`, which every runtime computes once, when it loads.

        DequantizeLinear says the same, but ONNX Runtime keeps it for integer kernels, of which there are none here,
        and repeats it for every photograph: 9.0 ms against 3.1 for all of MobileNetV2.
        """
        scales = layer.scales.reshape(-1, *[1] * (layer.weight.ndim - 1))
        scale = self._constant(f"{name}_scale", scales)
        cast, output = f"{name}_cast", f"{name}_float"
        self._nodes.append(helper.make_node("Cast", [weight], [cast], cast, to=onnx.TensorProto.FLOAT))
        self._nodes.append(helper.make_node("Mul", [cast, scale], [output], f"{name}_scaled"))
        return output

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        self._tensors[name] = numpy_helper.from_array(values, name)
        return name
