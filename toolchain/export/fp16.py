"""The float network in float16: half the size, and the arithmetic of GPUs and NPUs.

ONNX Runtime's converter (1.32) was tried first. It computes the pixel arithmetic, temperature and softmax in
float16, cuts weights off at 10,000, and told to leave these nodes alone it writes a graph that is out of order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolchain.artifact.graph import refused
from toolchain.errors import PromiseBrokenError
from toolchain.system import telemetry

with telemetry.off():
    import onnxruntime

FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that are float32 whatever the rest is: regions and factors of what enlarges maps."""

MAX_HALF = float(np.finfo(np.float16).max)
_PIXELS, _LOGITS = "pixels_float16", "logits_float16"


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the float `model` whose weights and arithmetic are float16; inputs and outputs stay as they are.

    What comes before the first layer with weights stays float32 (the mean of the pixels would lose digits), and so
    does what comes after the logits: temperature and softmax.
    Raises PromiseBrokenError when a weight is too large for float16, or an operator takes none.
    """
    model = copy.deepcopy(model)
    graph = model.graph
    pixels, before, inside, after = _parts(graph)
    _convert_weights(graph, inside)
    for index in inside:
        node = graph.node[index]
        for place, name in enumerate(node.input):
            node.input[place] = _PIXELS if name == pixels else name
        for place, name in enumerate(node.output):
            node.output[place] = _LOGITS if name == "logits" else name
    into = helper.make_node("Cast", [pixels], [_PIXELS], to=TensorProto.FLOAT16, name="to_float16")
    out_of = helper.make_node("Cast", [_LOGITS], ["logits"], to=TensorProto.FLOAT, name="to_float32")
    ordered = [
        *(graph.node[index] for index in before),
        into,
        *(graph.node[index] for index in inside),
        out_of,
        *(graph.node[index] for index in after),
    ]
    ordered = [copy.deepcopy(node) for node in ordered]
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]  # it names the old types
    if reason := refused(model):
        raise PromiseBrokenError(
            f"the network does not compute in float16: {reason}", "Use the float32 or the int8 file."
        )
    return model


def largest_activation(model: onnx.ModelProto, images: NDArray[np.uint8]) -> float:
    """The largest magnitude of what float16 will hold of `model` on `images`, uint8 [n, height, width, 3].

    Raises PromiseBrokenError when float16 does not reach so far (65,504).
    """
    probe = onnx.shape_inference.infer_shapes(model)
    pixels, _, inside, _ = _parts(probe.graph)
    held = {pixels, *(name for index in inside for name in probe.graph.node[index].output)}
    floats = [
        value.name
        for value in (*probe.graph.value_info, *probe.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name in held
    ]
    del probe.graph.output[:]
    for name in floats:
        probe.graph.node.append(helper.make_node("Abs", [name], [f"{name}_magnitude"]))
        probe.graph.node.append(
            helper.make_node("ReduceMax", [f"{name}_magnitude"], [f"{name}_largest"], keepdims=0)
        )
        probe.graph.output.append(helper.make_tensor_value_info(f"{name}_largest", TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = max(float(np.max(session.run(None, {"image": image[None]}))) for image in images)
    if largest > MAX_HALF:
        raise PromiseBrokenError(
            f"float16 ends at {MAX_HALF:.0f}, and this network computes values up to {largest:.0f}",
            "Use the float32 or the int8 file.",
        )
    return largest


def _convert_weights(graph: onnx.GraphProto, inside: Iterable[int]) -> None:
    """Give the nodes `inside` float16 copies of their constants, and drop the constants that nobody uses then."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    halves: dict[str, str] = {}
    for index in inside:
        node = graph.node[index]
        for place, name in enumerate(node.input):
            if name not in constants or constants[name].data_type != TensorProto.FLOAT:
                continue
            if place in FLOAT32_INPUTS.get(node.op_type, ()):
                continue
            if name not in halves:
                halves[name] = f"{name}_float16"
                values = numpy_helper.to_array(constants[name])
                if np.abs(values).max(initial=0) > MAX_HALF:
                    raise PromiseBrokenError(
                        f"the weights `{name}` are too large for float16", "Use the float32 or the int8 file."
                    )
                graph.initializer.append(numpy_helper.from_array(_half(values), halves[name]))
            node.input[place] = halves[name]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """`values` as float16. A single one stays above 0: it is what keeps a logarithm or a division finite."""
    halves = values.astype(np.float16)
    if values.size == 1 and not halves.any() and values.any():
        halves[...] = np.sign(values) * np.finfo(np.float16).smallest_subnormal
    return halves


def _parts(graph: onnx.GraphProto) -> tuple[str, list[int], list[int], list[int]]:
    """The tensor that the first layer with weights takes, and the indices of the nodes that lead to it, of the
    network's own, and of those after its logits."""
    pixels = next((node.input[0] for node in graph.node if node.op_type in {"Conv", "Gemm"}), None)
    if pixels is None:
        raise PromiseBrokenError("the network has no float layers that could compute in float16")
    before, after = _upstream(graph.node, pixels), _downstream(graph.node, "logits")
    inside = [index for index in range(len(graph.node)) if index not in before | after]
    return pixels, sorted(before), inside, sorted(after)


def _upstream(nodes: Iterable[onnx.NodeProto], tensor: str) -> set[int]:
    """Indices of the nodes that `tensor` is computed by."""
    nodes, wanted, found = list(nodes), {tensor}, set()
    for index in reversed(range(len(nodes))):
        if wanted & set(nodes[index].output):
            wanted |= set(nodes[index].input)
            found.add(index)
    return found


def _downstream(nodes: Iterable[onnx.NodeProto], tensor: str) -> set[int]:
    """Indices of the nodes that are computed from `tensor`."""
    reached, found = {tensor}, set()
    for index, node in enumerate(nodes):
        if reached & set(node.input):
            reached |= set(node.output)
            found.add(index)
    return found
