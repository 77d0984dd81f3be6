"""Five classifiers that edgetl did not write, each as its own exporter would: made here, without a download."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torchvision import models

from tests.adopt.conftest import settled

SIDE = 64
CLASSES = 5


def _export(network: nn.Module, path: Path, *, dynamo: bool, opset: int, dynamic: bool = False) -> None:
    """Write `network` as torch does, by its new exporter or its old one."""
    example = torch.zeros(2 if dynamic else 1, 3, SIDE, SIDE)
    how: dict[str, object] = {"opset_version": opset, "input_names": ["x"], "output_names": ["y"]}
    if dynamic:
        how |= {"dynamic_shapes": {"x": {0: torch.export.Dim("n", min=1, max=64)}}} if dynamo else {
            "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}
        }  # fmt: skip
    logger = logging.getLogger("torch.onnx")
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (example,), str(path), dynamo=dynamo, **how)  # type: ignore[arg-type]


class _Named(nn.Module):
    """The argument's name is that of the input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x)
        return found


def torchvision(path: Path) -> None:
    """Logits, NCHW, a batch of any size, weights in a file beside it."""
    torch.manual_seed(0)
    network = models.mobilenet_v3_small(weights=None, num_classes=CLASSES)
    nn.init.normal_(network.classifier[3].weight, std=0.5)
    _export(_Named(settled(network)), path, dynamo=True, opset=18, dynamic=True)
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")


def timm_transformer(path: Path) -> None:
    """A vision transformer: attention, LayerNormalization, Gelu; opset 17 of the old exporter, a batch of one."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIDE, depth=2, embed_dim=48, num_heads=3, num_classes=CLASSES
    )
    nn.init.normal_(network.head.weight, std=0.5)
    _export(_Named(network.eval()), path, dynamo=False, opset=17)


class _Yolo(nn.Module):
    """SiLU, concatenated parts, a pooled head and softmax, as YOLO's classifiers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.right = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        maps = self.right(torch.cat([maps[:, :4], self.left(maps)[:, :4]], 1))
        return self.head(maps.mean((2, 3))).softmax(1)


def ultralytics(path: Path) -> None:
    """Softmax at the end, names and task in the metadata, a batch of one."""
    torch.manual_seed(0)
    network = _Yolo()
    nn.init.normal_(network.head.weight, std=2.0)
    _export(settled(network), path, dynamo=False, opset=17)
    model = onnx.load(path)
    names = dict(enumerate(("apple", "bread", "cup", "door", "egg")))
    told = {"author": "Ultralytics", "task": "classify", "names": str(names), "imgsz": str([SIDE, SIDE])}
    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)


def _weights(rng: np.random.Generator, name: str, *shape: int, scale: float = 0.3) -> TensorProto:
    return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)


def _batchnorm(rng: np.random.Generator, name: str, width: int) -> list[TensorProto]:
    values = {"scale": rng.uniform(0.5, 1.5, width), "shift": rng.normal(0, 0.2, width)}
    values |= {"mean": rng.normal(0, 0.2, width), "var": rng.uniform(0.5, 1.5, width)}
    return [numpy_helper.from_array(value.astype(np.float32), f"{name}.{key}") for key, value in values.items()]


def keras(path: Path) -> None:
    """As tf2onnx writes Keras: NHWC, pixels of 0 to 255 scaled inside, `SAME` padding, softmax; opset 13."""
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(np.float32(1 / 127.5), "scaling"),
        numpy_helper.from_array(np.float32(1), "one"),
        _weights(rng, "w1", 8, 3, 3, 3), *_batchnorm(rng, "bn", 8), _weights(rng, "w2", 8, 1, 3, 3),
        _weights(rng, "w3", 16, 8, 1, 1), numpy_helper.from_array(np.array([2, 3]), "axes"),
        _weights(rng, "w4", 16, CLASSES, scale=3.0), _weights(rng, "b4", CLASSES),
    ]  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Mul", ["input_1", "scaling"], ["scaled"]),
        node("Sub", ["scaled", "one"], ["centred"]),
        node("Transpose", ["centred"], ["maps"], perm=[0, 3, 1, 2]),
        node("Conv", ["maps", "w1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("BatchNormalization", ["c1", "bn.scale", "bn.shift", "bn.mean", "bn.var"], ["n1"], epsilon=1e-3),
        node("HardSigmoid", ["n1"], ["gate"], alpha=1 / 6, beta=0.5),
        node("Mul", ["n1", "gate"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], group=8, auto_pad="SAME_UPPER"),
        node("Conv", ["c2", "w3"], ["c3"], kernel_shape=[1, 1]),
        node("Relu", ["c3"], ["r3"]),
        node("GlobalAveragePool", ["r3"], ["mean"]),
        node("Squeeze", ["mean", "axes"], ["features"]),
        node("MatMul", ["features", "w4"], ["product"]),
        node("Add", ["product", "b4"], ["sum"]),
        node("Softmax", ["sum"], ["dense"], axis=1),
    ]
    _save(path, nodes, stored, ["unk", SIDE, SIDE, 3], "input_1", ["unk", CLASSES], "dense", 13)


def model_zoo(path: Path) -> None:
    """As ONNX's model zoo has them: opset 11, weights among the inputs, a batch of one, maps at the end."""
    rng = np.random.default_rng(1)
    stored = [
        _weights(rng, "w1", 8, 3, 3, 3), _weights(rng, "b1", 8), _weights(rng, "w2", 16, 8, 3, 3),
        _weights(rng, "w3", CLASSES, 24, 1, 1), _weights(rng, "b3", CLASSES),
        numpy_helper.from_array(np.array([1, 24, 1, 1]), "shape"),
    ]  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["data", "w1", "b1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Conv", ["p1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", ["p1", "c2"], ["cat"], axis=1),
        node("GlobalAveragePool", ["cat"], ["mean"]),
        node("Reshape", ["mean", "shape"], ["same"]),
        node("Dropout", ["same"], ["kept"], ratio=0.5),
        node("Conv", ["kept", "w3", "b3"], ["softmaxout_1"], kernel_shape=[1, 1]),
    ]
    _save(path, nodes, stored, [1, 3, SIDE, SIDE], "data", [1, CLASSES, 1, 1], "softmaxout_1", 11, as_inputs=True)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    stored: list[TensorProto],
    shape: list[int | str],
    name: str,
    out: list[int | str],
    output: str,
    opset: int,
    *,
    as_inputs: bool = False,
) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    if as_inputs:
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in stored]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, out)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, path)


MAKERS: dict[str, Callable[[Path], None]] = {
    "torchvision": torchvision,
    "timm": timm_transformer,
    "ultralytics": ultralytics,
    "keras": keras,
    "model-zoo": model_zoo,
}
