"""The trained network as an ONNX graph that takes raw pixels and gives calibrated probabilities."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import onnx
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision.ops.misc import SqueezeExcitation

from toolchain.backbones.networks import body_of, head_of
from toolchain.images.preprocess import MEAN, STD, Preprocess

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

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.body = fuse(_simplify(body_of(network)))
        self.head = head_of(network)
        first = next(module for module in self.body.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            first.weight.div_(torch.from_numpy(STD)[None, :, None, None])
        self.register_buffer("mean", torch.from_numpy(MEAN)[None, :, None, None])
        self.temperature = temperature

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float() - self.mean
        logits: Tensor = self.head(self.body(pixels).mean((2, 3)))
        return logits, torch.softmax(logits / self.temperature, dim=1)


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


@torch.no_grad()
def _simplify(network: nn.Module) -> nn.Module:
    """A copy that computes the same in operators that every runtime runs rightly.

    Global pooling becomes the mean that it is: torch.export turns AdaptiveAvgPool2d under a dynamic batch into
    gathers over computed shapes. The hard sigmoid of squeeze-and-excitation, clip(x / 6 + 1/2, 0, 1), leaves only
    its clip, the rest going into the convolution before it: OpenCV 5 takes any HardSigmoid before a product for a
    hard-swish and answers nonsense.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        if isinstance(parent, SqueezeExcitation) and isinstance(parent.scale_activation, nn.Hardsigmoid):
            last = parent.fc2
            last.weight.div_(6)
            assert last.bias is not None
            last.bias.div_(6).add_(0.5)
            parent.scale_activation = nn.Hardtanh(0.0, 1.0)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(parent, name, _Mean())
    return network


def to_onnx(network: nn.Module, spec: Preprocess, temperature: float) -> onnx.ModelProto:
    """Write `network` as ONNX with the fixed contract of an artifact (docs/reference/files.md).

    Input `image` uint8 [batch, height, width, 3]; outputs `logits` and `probabilities` float32 [batch, classes].
    """
    deployed = _Deployed(network, temperature).eval()
    # Tracing a batch of any size takes four times as long, for the same graph.
    model = _traced(deployed, spec, any_batch=False)
    if any(node.op_type in SHAPED for node in model.graph.node):
        model = _traced(deployed, spec, any_batch=True)
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
