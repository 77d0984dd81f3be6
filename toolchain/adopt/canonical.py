"""A foreign graph in the form of edgetl's own: any batch, opset 18, folded, from uint8 pixels to logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolchain.adopt.normalisation import Normalisation
from toolchain.adopt.onnx_file import PASSED, ForeignModel, producers
from toolchain.artifact.graph import refused
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess

OPSET = 18
PREFIX = "net."
LEAST = 1e-20
"""Of a probability, so that it has a logarithm."""


def canonical(
    foreign: ForeignModel, normalisation: Normalisation, spec: Preprocess, *, log: bool = False
) -> onnx.ModelProto:
    """The graph of an artifact (docs/reference/files.md) that computes what `foreign` does.

    `log`: it gives probabilities without a softmax that could be left out, and their logarithms are the logits.

    Raises BadInputError where its opset cannot be raised or its graph cannot be understood.
    """
    model = onnx.ModelProto()
    model.CopyFrom(foreign.model)
    fixed = _any_batch(model, foreign, spec)
    model = _raised(model, foreign)
    model = _folded(model, foreign)
    _cut_softmax(model)
    model = onnx.compose.add_prefix(model, PREFIX)
    _begin(model, foreign, normalisation, spec)
    _end(model, foreign, log=log)
    if fixed:
        _repeat_constants(model)
    _drop_unused(model.graph)
    _plain(model)
    return _finished(model, foreign)


def _any_batch(model: onnx.ModelProto, foreign: ForeignModel, spec: Preprocess) -> bool:
    """Let the picture have the size of `spec`, and any number of pictures go in; whether it was one before."""
    model.ir_version = max(model.ir_version, 4)  # before it, weights had to be among the inputs
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name == foreign.input or value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    fixed = sides[0].dim_value == 1
    sides[0].dim_param = "batch"
    shape = (3, spec.height, spec.width) if foreign.layout == "NCHW" else (spec.height, spec.width, 3)
    for place, side in enumerate(shape, 1):
        sides[place].dim_value = side
    del model.graph.value_info[:]
    output = model.graph.output[0].type.tensor_type.shape.dim
    if output:
        output[0].dim_param = "batch"
    if not fixed:
        return False
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = set(stored) | {""}
    changed: dict[str, TensorProto] = {}
    for node in model.graph.node:
        if constants.issuperset(node.input):  # a weight that is reshaped: there is one for all pictures
            constants.update(node.output)
        elif node.op_type == "Reshape" and node.input[1] in stored:
            name = node.input[1]
            shape = numpy_helper.to_array(stored[name]).copy()
            if shape.ndim == 1 and len(shape) and shape[0] == 1:
                # The batch of one: what is left over, or, where another side is that, the batch that comes in.
                shape[0] = 0 if -1 in shape else -1
                node.input[1] = f"{name}.batch"
                changed[name] = numpy_helper.from_array(shape, node.input[1])
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t
    model.graph.initializer.extend(changed.values())
    return True


def _raised(model: onnx.ModelProto, foreign: ForeignModel) -> onnx.ModelProto:
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if version >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # of its own, of protobuf
        reason = str(error).strip().partition("\n")[0]
        raise BadInputError(
            f"{foreign.path}: opset {version} cannot be raised to {OPSET}: {reason}",
            f"Export the network with opset {OPSET}.",
        ) from None


def _folded(model: onnx.ModelProto, foreign: ForeignModel) -> onnx.ModelProto:
    """Constants computed, functions inlined, normalisations and padding folded into convolutions, by onnxscript."""
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules import common

    rules = [
        common.fuse_batchnorm_into_conv_rule,
        common.fuse_batchnorm_into_gemm_rule,
        common.normalize_pad_format_conv_rule,
        common.fuse_pad_into_conv_rule,
        common.transpose_transpose_rule,
        common.no_op_transpose_rule,
        common.dropout_inference_rule,
        common.matmul_add_to_gemm_rule,
        *common.fuse_hardswish_rules(),
    ]
    try:
        found: onnx.ModelProto = optimizer.optimize(model)
        # What becomes of ConstantOfShape is left as it is by default, and so are shapes that are computed from it.
        optimizer.fold_constants(found, should_fold=lambda node: True)
        found = rewriter.rewrite(found, rules)
        return optimizer.optimize(found)
    except Exception as error:  # of any type, for graphs that it does not understand
        reason = str(error).strip().partition("\n")[0]
        raise BadInputError(f"{foreign.path} cannot be simplified: {reason}", "Export it again.") from None


def _cut_softmax(model: onnx.ModelProto) -> None:
    """Let the graph end in what its last softmax reads, where it ends in one."""
    made = producers(model)
    node = made[model.graph.output[0].name]
    while node.op_type in PASSED and node.input[0] in made:
        node = made[node.input[0]]
    if node.op_type == "Softmax":
        model.graph.output[0].name = node.input[0]
        del model.graph.output[0].type.tensor_type.shape.dim[:]


def _begin(model: onnx.ModelProto, foreign: ForeignModel, normalisation: Normalisation, spec: Preprocess) -> None:
    """Put what goes from uint8 RGB pixels to the network's own input before the graph."""
    graph = model.graph
    name = graph.input[0].name
    maps = foreign.layout == "NCHW"
    readers = [node for node in graph.node if name in node.input]
    if not maps and len(readers) == 1 and _is_to_maps(readers[0]) and foreign.dtype != "uint8":
        name, maps = readers[0].output[0], True
        graph.node.remove(readers[0])
    nodes: list[onnx.NodeProto] = []
    now = "image"

    def add(operator: str, *values: NDArray[np.float32] | NDArray[np.int64], **attributes: Any) -> None:
        nonlocal now
        stored = [numpy_helper.from_array(value, f"pixels.{len(nodes)}") for value in values]
        graph.initializer.extend(stored)
        output = f"pixels.{operator.lower()}"
        nodes.append(helper.make_node(operator, [now, *(one.name for one in stored)], [output], **attributes))
        now = output

    if maps:
        add("Transpose", perm=[0, 3, 1, 2])
    flip = normalisation.colour == "BGR"
    axis = 1 if maps else 3
    if foreign.dtype != "uint8":
        add("Cast", to=TensorProto.FLOAT)
        shape = (3, 1, 1) if maps else (3,)
        # In the order of RGB: channels are swapped afterwards.
        mean, std = (
            np.array(values[::-1] if flip else values, np.float32)
            for values in (normalisation.mean, normalisation.std)
        )
        if mean.any():
            add("Sub", mean.reshape(shape))
        if maps and _fold_into_first(graph, name, std, flip=flip):
            std, flip = np.ones(3, np.float32), False
        if (std != 1).any():
            add("Div", std.reshape(shape))
    if flip:
        add("Gather", np.array([2, 1, 0]), axis=axis)
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                node.input[place] = now
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    del graph.input[:]
    graph.input.append(
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", spec.height, spec.width, 3])
    )


def _is_to_maps(node: onnx.NodeProto) -> bool:
    return node.op_type == "Transpose" and list(node.attribute[0].ints) == [0, 3, 1, 2]


def _fold_into_first(graph: onnx.GraphProto, name: str, std: NDArray[np.float32], *, flip: bool) -> bool:
    """Let the convolution that reads `name` divide by `std` and swap channels, if nothing else reads it."""
    readers = [node for node in graph.node if name in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        return False
    (convolution,) = readers
    stored = next((one for one in graph.initializer if one.name == convolution.input[1]), None)
    uses = Counter(read for node in graph.node for read in node.input)
    if stored is None or uses[stored.name] > 1:
        return False
    weight = numpy_helper.to_array(stored)
    if weight.ndim != 4 or weight.shape[1] != 3:
        return False
    weight = (weight[:, ::-1] if flip else weight) / std[:, None, None]
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), stored.name))
    return True


def _end(model: onnx.ModelProto, foreign: ForeignModel, *, log: bool) -> None:
    """Let the graph give `logits` [batch, classes] and `probabilities`."""
    graph = model.graph
    last = graph.output[0].name
    if log:
        graph.initializer.append(numpy_helper.from_array(np.float32(LEAST), "least"))
        graph.node.append(helper.make_node("Max", [last, "least"], ["probabilities.positive"]))
        graph.node.append(helper.make_node("Log", ["probabilities.positive"], ["probabilities.log"]))
        last = "probabilities.log"
    graph.node.append(helper.make_node("Flatten", [last], ["logits"], axis=1))
    graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    shape: list[str | int | None] = ["batch", foreign.classes]
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("logits", "probabilities")
    )


def _repeat_constants(model: onnx.ModelProto) -> None:
    """Repeat what is put beside each picture, such as the class token of a transformer: it was stored for one."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [one for one in graph.node if one.op_type == "Concat" and one.attribute[0].i != 0]:
        for place, name in enumerate(node.input):
            if name not in stored or len(stored[name].dims) < 3 or stored[name].dims[0] != 1:
                continue
            if all(one in stored for one in node.input):
                continue
            rest = numpy_helper.from_array(np.array(stored[name].dims[1:]), f"{name}.rest")
            graph.initializer.append(rest)
            added = [
                helper.make_node("Shape", ["image"], [f"{name}.batch"], start=0, end=1),
                helper.make_node("Concat", [f"{name}.batch", rest.name], [f"{name}.shape"], axis=0),
                helper.make_node("Expand", [name, f"{name}.shape"], [f"{name}.each"]),
            ]
            node.input[place] = f"{name}.each"
            for one in reversed(added):
                graph.node.insert(0, one)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes that no output depends on."""
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed & set(node.output):
            needed |= set(node.input)
        else:
            graph.node.remove(node)


def _plain(model: onnx.ModelProto) -> None:
    """Write means, padding and the last layers as edgetl's exporter does: its quantiser knows that form alone."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sides = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            _all_attributes(node, sides, list(stored[node.input[1]].dims) if node.input[1] in stored else [])
        elif node.op_type in {"MaxPool", "AveragePool"}:
            _all_pads(node, sides)
        elif node.op_type == "GlobalAveragePool":
            node.op_type = "ReduceMean"
            axes = numpy_helper.from_array(np.array([2, 3]), f"{node.output[0]}.axes")
            graph.initializer.append(axes)
            node.input.append(axes.name)
            node.attribute.append(helper.make_attribute("keepdims", 1))
        elif node.op_type == "Gemm":
            _transposed(node, stored, graph)
    _drop_flattening(graph, sides)


def _all_pads(node: onnx.NodeProto, sides: dict[str, list[int]]) -> None:
    """Write out the padding of a pooling that is only called `SAME`."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    pads = _pads(given, given["kernel_shape"], sides.get(node.input[0], []))
    if pads is not None and given.pop("auto_pad", None):
        whole = given | {"pads": pads}
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, value) for name, value in whole.items())


def _pads(given: Mapping[str, Any], kernel: Sequence[int], size: Sequence[int]) -> list[int] | None:
    """The padding of a node with the attributes `given` that reads maps of `size`; None where that is not known."""
    automatic = given.get("auto_pad", b"NOTSET").decode()
    if not automatic.startswith("SAME"):
        return list(given.get("pads", [0, 0, 0, 0]))
    if len(size) != 4 or not all(size[2:]):
        return None
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    before, after = [], []
    for length, reach, step, spread in zip(size[2:], kernel, strides, dilations, strict=True):
        missing = max(spread * (reach - 1) + 1 - step + (-length) % step, 0)
        half = missing // 2
        before.append(half if automatic == "SAME_UPPER" else missing - half)
        after.append(missing - half if automatic == "SAME_UPPER" else half)
    return before + after


def _all_attributes(node: onnx.NodeProto, sides: dict[str, list[int]], weight: list[int]) -> None:
    """Write out all attributes of a convolution of maps, padding that is only called `SAME` included."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if len(weight) != 4:
        return
    kernel = weight[2:]
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    pads = _pads(given, kernel, sides.get(node.input[0], []))
    if pads is None:
        return
    whole = {
        "kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads,
        "group": given.get("group", 1),
    }  # fmt: skip
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(key, value) for key, value in whole.items())


def _transposed(node: onnx.NodeProto, stored: dict[str, TensorProto], graph: onnx.GraphProto) -> None:
    """Store the weights of a Gemm as [outputs, inputs]."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    weight = stored.get(node.input[1])
    if weight is None or given.get("transA", 0) or (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0):
        return
    if not given.get("transB", 0):
        turned = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight).T), f"{weight.name}.T")
        graph.initializer.append(turned)
        node.input[1] = turned.name
    del node.attribute[:]
    for key, value in {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}.items():
        node.attribute.append(helper.make_attribute(key, value))


def _drop_flattening(graph: onnx.GraphProto, sides: dict[str, list[int]]) -> None:
    """Let a mean over maps give vectors where they are flattened next, and drop what flattens what is flat."""
    made = {name: node for node in graph.node for name in node.output}
    uses = Counter(read for node in graph.node for read in node.input)
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type not in {"Flatten", "Reshape", "Squeeze", "Identity"} or node.input[0] not in made:
            continue
        before, after = sides.get(node.input[0], []), sides.get(node.output[0], [])
        source = made[node.input[0]]
        if uses[node.input[0]] > 1 or node.input[0] in outputs:
            continue
        if before and len(before) == len(after) and before[1:] == after[1:] and all(before[1:]):
            pass  # the same shape
        elif len(after) == 2 and len(before) == 4 and before[2:] == [1, 1] and source.op_type == "ReduceMean":
            kept = [one for one in source.attribute if one.name != "keepdims"]
            del source.attribute[:]
            source.attribute.extend([*kept, helper.make_attribute("keepdims", 0)])
        else:
            continue
        graph.node.remove(node)
        source.output[list(source.output).index(node.input[0])] = node.output[0]
        made[node.output[0]] = source


def _finished(model: onnx.ModelProto, foreign: ForeignModel) -> onnx.ModelProto:
    """Without what nobody uses and what the other exporter noted; checked."""
    graph = model.graph
    used = {read for node in graph.node for read in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.value_info[:], model.metadata_props[:], model.functions[:]
    graph.initializer.extend(kept)
    model.producer_name, model.producer_version, model.doc_string, graph.name = "edgetl", "", "", "edgetl"
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    if reason := refused(model):
        raise BadInputError(f"{foreign.path} is not understood: {reason}", "Export it again.")
    return model
