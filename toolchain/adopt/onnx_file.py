"""Somebody else's classifier in an ONNX file: read, and what the file tells of it."""

from __future__ import annotations

import ast
import graphlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from toolchain.artifact import CARD_KEY, MAX_ARTIFACT_BYTES
from toolchain.artifact.graph import check_structure
from toolchain.artifact.operators import ADOPTED
from toolchain.errors import BadInputError
from toolchain.system import files

Layout = Literal["NCHW", "NHWC"]
TYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
PASSED = {"Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Dropout"}
"""Operators that leave numbers as they are."""
MOVES = PASSED | {"Transpose", "Pad", "Unsqueeze"}
NORMALISING = {"Sub", "Add", "Mul", "Div", "BatchNormalization"}
INTEGER = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}
ULTRALYTICS = "Ultralytics"


@dataclass(frozen=True)
class ForeignModel:
    """A classifier of one picture and one answer. `height` and `width` are 0 where it takes any.

    `normalises` is `raw` where the graph itself normalises pixels of 0 to 255, `unit` where it normalises those of
    0 to 1, and None where the file does not tell what it wants. `labels` are the names that the file brings.
    `edge` is the share of the shortest edge that its publisher cuts out, where known.
    """

    path: Path
    model: onnx.ModelProto
    input: str
    layout: Layout
    dtype: str
    height: int
    width: int
    output: str
    classes: int
    normalises: Literal["raw", "unit"] | None
    labels: tuple[str, ...] | None
    edge: float

    @property
    def is_quantised(self) -> bool:
        """Whether layers compute in integers already."""
        return any(node.op_type in INTEGER for node in self.model.graph.node)

    @property
    def ranges_of_batch(self) -> bool:
        """Whether it quantises by the range that the numbers of a whole batch have."""
        return any(node.op_type == "DynamicQuantizeLinear" for node in self.model.graph.node)


def read_foreign(path: Path) -> ForeignModel:
    """Read `path`, with the weights that lie in files beside it.

    Raises BadInputError for a file that is no ONNX, that edgetl wrote, or that is no classifier of colour pictures:
    several inputs or outputs, no picture among the inputs, an answer that is not one number for each class.
    """
    model = _load(path)
    check_structure(model, ADOPTED, path)  # before a runtime sees it
    _sort(model.graph, path)
    _widen(model.graph)
    if any(entry.key == CARD_KEY for entry in model.metadata_props):
        raise BadInputError(f"{path} has a card already: edgetl wrote it", f"edgetl predict {path} PHOTO")
    told = {entry.key: entry.value for entry in model.metadata_props}
    if told.get("task", "classify") != "classify":
        raise BadInputError(
            f"{path} is for the task {told['task']!r}, and edgetl classifies", "Export a classifier."
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise BadInputError(f"{path} has {len(inputs)} inputs ({names}); a classifier takes one picture")
    layout, height, width = _picture(model, inputs[0], path)
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise BadInputError(
            f"{path} has {len(model.graph.output)} outputs ({names}); a classifier has one",
            "Is it a detector? Export the classifying head alone.",
        )
    ultralytics = ULTRALYTICS in told.get("author", "")
    normalises = _normalises(model, inputs[0].name)
    return ForeignModel(
        path=path,
        model=model,
        input=inputs[0].name,
        layout=layout,
        dtype=TYPES[inputs[0].type.tensor_type.elem_type],
        height=height,
        width=width,
        output=model.graph.output[0].name,
        classes=_classes(model, path),
        normalises="unit" if ultralytics and normalises is None else normalises,
        labels=_names(told.get("names")),
        edge=1.0 if ultralytics else 0.875,
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        files.check_regular(path, MAX_ARTIFACT_BYTES)
        model = onnx.load(path)  # what lies in other files too, and only below its folder
    except FileNotFoundError as error:
        missing = error.filename or path
        raise BadInputError(f"{missing} does not exist", "Weights in other files lie beside the model.") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # of protobuf, and of ONNX for weights that lie elsewhere
        reason = str(error).strip().partition("\n")[0]
        raise BadInputError(f"{path} is not a whole ONNX file: {reason}", "Copy or export it again.") from None
    if not model.graph.node:
        raise BadInputError(f"{path} is not a whole ONNX file: it holds no network", "Copy or export it again.")
    return model


def _sort(graph: onnx.GraphProto, path: Path) -> None:
    """Put each node behind those whose results it reads: converters to float16 leave their casts at the end."""
    made = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    reads = {place: {made[name] for name in node.input if name in made} for place, node in enumerate(graph.node)}
    if all(place > max(before, default=-1) for place, before in reads.items()):
        return
    try:
        nodes = [graph.node[place] for place in graphlib.TopologicalSorter(reads).static_order()]
    except graphlib.CycleError:
        raise BadInputError(f"{path} is not a whole ONNX file: nodes read each other's results") from None
    del graph.node[:]
    graph.node.extend(nodes)


def _widen(graph: onnx.GraphProto) -> None:
    """Let float32 be what is float16 inside; what goes in and comes out is float32 where converters are told so."""
    weights = {tensor.name for tensor in graph.initializer}
    for value in (*graph.value_info, *(one for one in graph.input if one.name in weights)):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _picture(model: onnx.ModelProto, value: onnx.ValueInfoProto, path: Path) -> tuple[Layout, int, int]:
    """The layout, height and width of the picture that goes in."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise BadInputError(
            f"{path}: the input {value.name} is a {(kind or 'nothing').removesuffix('_type')}, no picture"
        )
    tensor = value.type.tensor_type
    if tensor.elem_type not in TYPES:
        name = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise BadInputError(
            f"{path}: the input {value.name} is {name}, not float32 or uint8", "Export the network in float32."
        )
    sides = [dim.dim_value for dim in tensor.shape.dim]
    shown = [dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim]
    layout: Layout | None = None
    if len(sides) == 4:
        named = 3 not in (sides[1], sides[3]) and 0 in (sides[1], sides[3])
        layout = _layout(model, value.name) if named else "NCHW" if sides[1] == 3 else "NHWC"
    channels = {"NCHW": 1, "NHWC": 3}.get(layout or "", 0)
    if layout is None or sides[channels] not in (3, 0):
        raise BadInputError(
            f"{path}: the input {value.name} has the shape {shown}, which is no batch of colour pictures",
            "edgetl takes [batch, 3, height, width] or [batch, height, width, 3].",
        )
    if sides[0] > 1:
        raise BadInputError(
            f"{path} takes {sides[0]} pictures at once", "Export it with a batch of 1, or of any size."
        )
    return (layout, sides[2], sides[3]) if layout == "NCHW" else (layout, sides[1], sides[2])


def _layout(model: onnx.ModelProto, name: str) -> Layout | None:
    """The layout of the picture `name` where no side of it is a number, by the first convolution that reads it."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = set(stored) | {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    while True:
        readers = [node for node in model.graph.node if name in node.input and node.op_type != "Shape"]
        if len(readers) != 1 or not readers[0].output:
            return None
        (node,) = readers
        if node.op_type == "Transpose":
            return "NHWC" if [list(one.ints) for one in node.attribute] == [[0, 3, 1, 2]] else None
        if node.op_type == "Conv":
            weight = stored.get(node.input[1])
            return "NCHW" if weight is None or list(weight.dims[1:2]) == [3] else None
        others = [one for one in node.input if one and one != name]
        if node.op_type not in MOVES | NORMALISING or not constants.issuperset(others):
            return None
        name = node.output[0]


def _classes(model: onnx.ModelProto, path: Path) -> int:
    """How many numbers the answer to one picture has."""
    value = model.graph.output[0]
    if value.type.WhichOneof("value") != "tensor_type" or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise BadInputError(f"{path}: the output {value.name} is not a tensor of float32", "Is it a classifier?")
    sides = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if not sides[1:] or 0 in sides[1:]:
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0]
        except Exception:  # its exceptions have no common public base
            inferred = value
        sides = [dim.dim_value for dim in inferred.type.tensor_type.shape.dim]
    if len(sides) not in (2, 4) or 0 in sides[1:] or any(side != 1 for side in sides[2:]) or sides[1] < 2:
        shown = [side or "?" for side in sides]
        raise BadInputError(
            f"{path}: the output {value.name} has the shape {shown}, not [batch, classes]",
            "Is it a detector, or a network of features? Export a classifier.",
        )
    if last_operator(model).op_type == "Sigmoid":
        raise BadInputError(
            f"{path} ends in a sigmoid: it answers each class by itself, and edgetl names one", "Export its logits."
        )
    return math.prod(sides[1:])


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that computes each tensor."""
    return {name: node for node in model.graph.node for name in node.output}


def last_operator(model: onnx.ModelProto) -> onnx.NodeProto:
    """The last node that changes numbers."""
    made = producers(model)
    node = made[model.graph.output[0].name]
    while node.op_type in PASSED and node.input[0] in made:
        node = made[node.input[0]]
    return node


LEAST_UNIT_MEAN = 0.2
"""The mean of a colour in photographs whose pixels are 0 to 1 is larger."""


def _normalises(model: onnx.ModelProto, name: str) -> Literal["raw", "unit"] | None:
    """Which pixels the graph normalises itself, by the first numbers that it counts with; None: it does not."""
    if (
        next(value for value in model.graph.input if value.name == name).type.tensor_type.elem_type
        == TensorProto.UINT8
    ):
        return "raw"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    while True:
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or not readers[0].output:
            return None
        (node,) = readers
        if node.op_type in MOVES:
            name = node.output[0]
            continue
        others = [constants[one] for one in node.input if one in constants]
        if node.op_type not in NORMALISING or not others:
            return None
        size = float(np.abs(others[0]).max())
        large = size < 0.05 if node.op_type == "Mul" else size > 3
        if node.op_type == "BatchNormalization":
            means = np.abs(constants[node.input[3]]) if node.input[3] in constants else np.zeros(1)
            large = float(means.max()) > 3
            if not large and float(means.min()) < LEAST_UNIT_MEAN:
                return None  # of pixels around 0, which somebody has normalised before
        return "raw" if large else "unit"


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names of classes in the metadata of Ultralytics: a dictionary of Python, from numbers to names."""
    try:
        found = ast.literal_eval(text or "")
        return tuple(str(found[index]) for index in range(len(found))) if isinstance(found, dict) else None
    except (ValueError, TypeError, SyntaxError, KeyError, RecursionError, MemoryError):
        return None
