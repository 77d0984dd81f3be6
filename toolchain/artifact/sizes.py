"""How large everything becomes that a network computes: known before a runtime loads it, and bounded.

A few hundred bytes can ask for gigabytes (`ConstantOfShape`) or for hours (convolutions of large maps). So an
outline of the network, without its weights, goes through ONNX's own inference of shapes. What that cannot tell
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from toolchain.artifact.graph import HINT, domain_of
from toolchain.artifact.operators import MICROSOFT
from toolchain.errors import ArtifactError

MAX_TENSOR = 1 << 26
"""Numbers in one tensor that is computed for one photograph: 256 MiB of float32."""
MAX_COMPUTED = 1 << 30
"""Numbers in all of them together."""
MAX_MULTIPLICATIONS = 1 << 40
"""For one photograph; the largest classifiers that are published need a fifth of it."""
FRAME_SIDE = 4096
"""Height and width of the frame for which sizes are bounded where a graph takes frames of any size."""

_SHAPE_LIKE = 1024
"""Weights up to this size may be shapes, so their values are looked at."""

Shape = tuple[int, ...]


def check_sizes(model: onnx.ModelProto, path: Path, sides: tuple[int, int] | None) -> None:
    """Raise ArtifactError unless all that `model` computes for one photograph has a known and bounded size.

    `sides` are the height and width of the photograph, None where the graph takes any. `model` passed
    `graph.check_structure`.
    """
    shapes = _shapes(model, path, sides)
    stored = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    total = multiplications = 0
    for node in model.graph.node:
        most = MAX_COMPUTED if _reads_weights(node, stored, shapes) else MAX_TENSOR
        for name in filter(None, node.output):
            shape = shapes.get(name)
            if shape is None:
                raise ArtifactError(f"{path}: how large `{name}` ({node.op_type}) becomes cannot be told", HINT)
            total += math.prod(shape)
            if math.prod(shape) > most or total > MAX_COMPUTED:
                raise ArtifactError(f"{path}: `{name}` ({node.op_type}) becomes too large, {list(shape)}", HINT)
        multiplications += _multiplications(node, shapes)
        if multiplications > MAX_MULTIPLICATIONS:
            raise ArtifactError(f"{path}: a photograph takes more than 2^40 multiplications", HINT)


READING = frozenset({"DequantizeLinear", "Cast", "Mul"})
"""How weights that are stored as integers become numbers."""


def _reads_weights(node: onnx.NodeProto, stored: dict[str, int], shapes: Mapping[str, Shape]) -> bool:
    """Whether `node` makes as many numbers of weights as the file holds of them; then `stored` has them, too."""
    if node.op_type not in READING or len(node.output) != 1 or not stored.keys() >= set(filter(None, node.input)):
        return False
    shape = shapes.get(node.output[0])
    if shape is None or math.prod(shape) > max(stored[name] for name in node.input if name):
        return False
    stored[node.output[0]] = math.prod(shape)
    return True


def _shapes(model: onnx.ModelProto, path: Path, sides: tuple[int, int] | None) -> dict[str, Shape]:
    """The shapes of all tensors for one photograph, as far as they are known."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes["image"] = (1, *(sides or (FRAME_SIDE, FRAME_SIDE)), 3)
    try:
        outline = _Outline(model, shapes["image"], free=sides is None).model
        found = _inferred(outline, values=False)
        outputs = {name for node in outline.graph.node for name in node.output if name}
        if any(-1 in found.get(name, (-1,)) for name in outputs):
            _check_lists(outline.graph.node, found)
            found = _inferred(outline, values=True)
    except Exception as error:  # its exceptions have no common public base
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise ArtifactError(f"{path}: the network does not fit together: {reason}", "Export it again.") from None
    shapes |= found
    return {name: shape for name, shape in shapes.items() if all(side >= 0 for side in shape)}


def _inferred(outline: onnx.ModelProto, *, values: bool) -> dict[str, Shape]:
    """Shapes that ONNX infers, -1 for a side that it does not know; with `values`, from computed shapes too."""
    graph = onnx.shape_inference.infer_shapes(outline, data_prop=values).graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input)}
    return {
        name: tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
        for name, kind in kinds.items()
        if kind.HasField("shape")
    }


def _check_lists(nodes: Sequence[onnx.NodeProto], shapes: Mapping[str, Shape]) -> None:
    """Refuse lists that grow: where ONNX computes values, it keeps them whole, however long they are."""
    for node in nodes:
        shape = shapes.get(node.output[0]) if node.op_type == "Concat" else ()
        if shape is None or (len(shape) == 1 and not 0 <= shape[0] <= _SHAPE_LIKE):
            raise ValueError(f"how large `{node.output[0]}` becomes cannot be told")


class _Outline:
    """`model` without its large weights, for an `image` of this shape. They become inputs, and so do sizes that
    follow from that of a frame of any size (`free`): nothing may be computed from the one that stands for all."""

    def __init__(self, model: onnx.ModelProto, image: Shape, *, free: bool) -> None:
        self._made = {name: node for node in model.graph.node for name in node.output}
        self._known = {tensor.name: tensor for tensor in model.graph.initializer}
        self.model = onnx.ModelProto(ir_version=10, opset_import=model.opset_import)
        self._graph = self.model.graph
        self._graph.name = "outline"
        self._input("image", TensorProto.UINT8, image)
        for tensor in model.graph.initializer:
            if math.prod(tensor.dims) <= _SHAPE_LIKE:
                self._graph.initializer.append(tensor)
            else:
                self._input(tensor.name, tensor.data_type, tuple(tensor.dims))
        for node in model.graph.node:
            if not (free and self._of_frame(node, image)):
                self._graph.node.append(_as_standard(node) if domain_of(node) == MICROSOFT else node)

    def _input(self, name: str, kind: int, shape: Shape) -> None:
        self._graph.input.append(helper.make_tensor_value_info(name, kind, shape))

    def _of_frame(self, node: onnx.NodeProto, image: Shape) -> bool:
        """Whether the output of `node` depends on a frame's size, and was bounded by that of `image`."""
        if node.op_type == "Shape":
            if node.input[0] != "image" or node.attribute:
                raise ValueError(f"`{node.output[0]}` is the shape of what depends on a frame's size")
            self._input(node.output[0], TensorProto.INT64, (len(image),))
        elif node.op_type == "Range" and self._counts_pixels(node):
            self._input(node.output[0], TensorProto.INT64, (max(image),))
        elif node.op_type == "Slice" and any(self._number(name) is None for name in node.input[1:3]):
            self._graph.node.append(helper.make_node("Identity", node.input[:1], node.output))
        else:
            return False
        return True

    def _counts_pixels(self, node: onnx.NodeProto) -> bool:
        """Whether a Range goes from at least 0 to at most a side of the frame, by ones."""
        first, last = (self._made.get(name) for name in node.input[:2])
        return (
            first is not None
            and last is not None
            and first.op_type == "Max"
            and any((self._number(name) or 0) >= 0 and self._number(name) is not None for name in first.input)
            and last.op_type == "Min"
            and any(self._is_side(name) for name in last.input)
            and self._number(node.input[2]) == 1
        )

    def _is_side(self, name: str) -> bool:
        gather = self._made.get(name)
        if gather is None or gather.op_type != "Gather":
            return False
        shape = self._made.get(gather.input[0])
        return shape is not None and shape.op_type == "Shape" and self._number(gather.input[1]) in (1, 2)

    def _number(self, name: str) -> int | None:
        """The least whole number of a constant; None for what is computed."""
        tensor = self._known.get(name)
        node = self._made.get(name)
        if node is not None and node.op_type == "Constant":
            [value] = node.attribute
            if value.type in {AttributeProto.INT, AttributeProto.INTS}:
                return min([value.i] if value.type == AttributeProto.INT else value.ints, default=None)
            tensor = value.t
        if tensor is None or not 0 < math.prod(tensor.dims) <= _SHAPE_LIKE:
            return None
        return int(numpy_helper.to_array(tensor).min())


def _as_standard(node: onnx.NodeProto) -> onnx.NodeProto:
    """An operator of ONNX whose output has the shape of one of Microsoft's."""
    kind, inputs = node.op_type, list(node.input)
    kept = [attribute for attribute in node.attribute if attribute.name in {"axis", "transA", "transB"}]
    if kind == "QLinearConcat":
        kind, inputs = "Concat", inputs[2::3]
    elif kind in {"QLinearAdd", "QLinearMul"}:
        kind, inputs, kept = kind.removeprefix("QLinear"), [inputs[0], inputs[3]], []
    elif kind == "QGemm":
        kind, inputs = "Gemm", [inputs[0], inputs[3]]
    elif kind == "QLinearGlobalAveragePool":
        kind, inputs = "GlobalAveragePool", inputs[:1]
    elif kind == "QLinearAveragePool":
        kind, inputs = "AveragePool", inputs[:1]
        kept = [attribute for attribute in node.attribute if attribute.name != "channels_last"]
    elif kind not in {"QuantizeLinear", "DequantizeLinear"}:
        kind, inputs, kept = "Identity", inputs[:1], []
    made = helper.make_node(kind, inputs, node.output)
    made.attribute.extend(kept)
    return made


_WEIGHTS_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Which input holds the weights, where it is not the second."""


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """An upper bound for one node; additions and comparisons count as well."""
    inputs = [shapes.get(name, ()) for name in node.input]
    computed = max((math.prod(shapes[name]) for name in node.output if name), default=0)
    kind = node.op_type
    other = inputs[_WEIGHTS_AT.get(kind, 1)] if len(inputs) > _WEIGHTS_AT.get(kind, 1) else ()
    if kind == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(other[1:])
    if "Conv" in kind:
        return computed * math.prod(other[1:])
    if "MatMul" in kind:
        return computed * (inputs[0][-1] if inputs[0] else 1)
    if "Gemm" in kind:
        return computed * max(inputs[0], default=1)
    if kind in {"Einsum", "Attention"}:
        return computed * max(math.prod(shape) for shape in inputs)
    window = next((one.ints for one in node.attribute if one.name == "kernel_shape"), None)
    size = next((one.i for one in node.attribute if kind == "LRN" and one.name == "size"), 1)
    return max(computed, *(math.prod(shape) for shape in inputs), 0) * (math.prod(window or ()) or 1) * max(size, 1)
