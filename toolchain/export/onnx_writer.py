"""The trained network as an ONNX graph that takes raw pixels and gives calibrated probabilities."""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from toolchain.backbones.networks import Renormalise, backbone_of, body_of, head_of, hidden_of, simplified
from toolchain.images.preprocess import Preprocess

OPSET = 18

EXAMPLES = 2
"""Pictures in the batch that is traced. A single one would be taken for a constant."""

SHAPED = {"Reshape", "Expand", "Tile", "Range", "ConstantOfShape", "Resize"}
"""Operators that may hold the batch of the example."""


class _Deployed(nn.Module):
    """uint8 pixels in, logits and probabilities out.

    BatchNorm is folded into the convolutions, and so is the division by the standard deviation. Subtracting the
    mean stays a step of its own: the first convolution pads with zeros, which stand for the mean, so folding the
    mean into its bias would change the answer along the edges.
    """

    mean: Tensor
    std: Tensor | None

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        backbone = backbone_of(network)
        layers = simplified(body_of(network))
        for parent in list(layers.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Renormalise):  # the graph subtracts the network's own mean
                    setattr(parent, name, nn.Identity())
        self.body = fuse(layers)
        assert isinstance(self.body, fx.GraphModule)
        self.hidden = simplified(hidden_of(network))
        self.head = head_of(network)
        std = torch.tensor(backbone.std)[:, None, None] * 255
        first = _first_convolutions(self.body)
        with torch.no_grad():
            for convolution in first:
                convolution.weight.div_(std)
        self.register_buffer("std", None if first else std)
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None] * 255)
        self.temperature = temperature

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float() - self.mean
        pixels = pixels if self.std is None else pixels / self.std
        logits: Tensor = self.head(self.hidden(self.body(pixels).mean((2, 3))))
        return logits, torch.softmax(logits / self.temperature, dim=1)


def _first_convolutions(body: fx.GraphModule) -> list[nn.Conv2d]:
    """The convolutions that read the picture, if nothing else does; else none."""
    found: list[nn.Conv2d] = []
    reading = [node for node in body.graph.nodes if node.op == "placeholder"]
    while reading:
        for node in reading.pop().users:
            layer = body.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Conv2d):
                found.append(layer)
            elif isinstance(layer, nn.Identity) or node.target is nn.functional.pad:
                reading.append(node)
            elif node.target not in {getattr, "size"}:  # its shape is no pixel
                return []
    return found


def to_onnx(network: nn.Module, spec: Preprocess, temperature: float) -> onnx.ModelProto:
    """Write `network` as ONNX with the fixed contract of an artifact (docs/reference/files.md).

    Input `image` uint8 [batch, height, width, 3]; outputs `logits` and `probabilities` float32 [batch, classes].
    """
    deployed = _Deployed(network, temperature).eval()
    # Tracing a batch of any size takes four times as long, for the same graph.
    model = _traced(deployed, spec, any_batch=False)
    if any(node.op_type in SHAPED for node in model.graph.node):
        model = _traced(deployed, spec, any_batch=True)
    _merge_padding(model.graph)
    _drop_pools_of_one(model.graph)
    computed = {name for node in model.graph.node for name in node.output}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        sides = value.type.tensor_type.shape.dim
        if value.name in computed | {"image"} and sides and sides[0].dim_value == EXAMPLES:
            sides[0].dim_param = "batch"
    _strip(model)
    return model


def _traced(deployed: nn.Module, spec: Preprocess, *, any_batch: bool) -> onnx.ModelProto:
    example = torch.zeros(EXAMPLES, spec.height, spec.width, 3, dtype=torch.uint8)
    shapes = {"image": {0: torch.export.Dim("batch", min=1, max=4096)}} if any_batch else None
    with _silence():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits", "probabilities"],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _merge_padding(graph: onnx.GraphProto) -> None:
    """Let convolutions pad by themselves where a Pad with zeros comes before them, on either side as it does."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = {node.input[0]: node for node in graph.node if node.op_type == "Conv"}
    used = Counter(name for node in graph.node for name in node.input)
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        convolution = convolutions.get(pad.output[0])
        amounts = constants.get(pad.input[1])
        if convolution is None or amounts is None or used[pad.output[0]] > 1 or _pads_with_more(pad, constants):
            continue
        # Of [batch, channels, height, width]: before each, then after each.
        before, after = amounts[2:4].tolist(), amounts[6:8].tolist()
        kept = [attribute for attribute in convolution.attribute if attribute.name not in {"pads", "auto_pad"}]
        del convolution.attribute[:]
        convolution.attribute.extend(kept)
        convolution.attribute.append(onnx.helper.make_attribute("pads", before + after))
        convolution.input[0] = pad.input[0]
        graph.node.remove(pad)
    used = Counter(name for node in graph.node for name in node.input)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _drop_pools_of_one(graph: onnx.GraphProto) -> None:
    """Leave out means over single pixels: VGG's pooling to 7 x 7 is one where its maps have that size."""
    for pool in [node for node in graph.node if node.op_type == "AveragePool"]:
        settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in pool.attribute}
        sides = (*settings["kernel_shape"], *settings.get("strides", ()))
        if {*sides} != {1} or any(settings.get("pads", ())):
            continue
        graph.node.remove(pool)
        for node in graph.node:
            node.input[:] = [pool.input[0] if name == pool.output[0] else name for name in node.input]


def _pads_with_more(pad: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a Pad does more than put zeros around maps."""
    mode = next((attribute.s for attribute in pad.attribute if attribute.name == "mode"), b"constant")
    amounts = constants[pad.input[1]]
    value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else None
    zeros = value is None or not value.any()
    return mode != b"constant" or not zeros or len(amounts) != 8 or bool(amounts[[0, 1, 4, 5]].any())


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about source files and Python frames: it is no part of the network."""
    model.producer_name = "edgetl"
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del model.graph.metadata_props[:]
    model.graph.name = "edgetl"


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter reports its progress on stdout, which belongs to the command's result."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
