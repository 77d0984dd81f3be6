"""Model files that are damaged, foreign, or carry a card that is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bad_inputs.entry import GOOD, MODEL, Entry, Make, Stock, Words, camera, nothing, predict
from toolchain.artifact import CARD_KEY

BAD = "bad.onnx"
CARD: Words = ("card", BAD)
ANSWER = predict(GOOD, model=BAD)
ALL = (CARD, ANSWER, camera(GOOD, model=BAD), ("bench", BAD, "--device", "ort:cpu", "--rounds", "1"))
FLIPS, CUTS = 30, (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


def changed_bytes(change: Callable[[bytes], bytes]) -> Make:
    def make(stock: Stock, place: Path) -> None:
        (place / BAD).write_bytes(change(stock.tiny.read_bytes()))

    return make


def changed_model(change: Callable[[onnx.ModelProto], None]) -> Make:
    """The good file with another network, which nothing checked."""

    def changed(data: bytes) -> bytes:
        model = onnx.load_model_from_string(data)
        change(model)
        return bytes(model.SerializeToString())

    return changed_bytes(changed)


def _flipped(seed: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for position in rng.integers(0, len(data), 1 + seed % 3):
            changed[position] ^= 1 << rng.integers(0, 8)
        return bytes(changed)

    return change


CUT = tuple(
    Entry(
        f"cut-at-{share:g}", ALL, changed_bytes(lambda data, share=share: data[: int(len(data) * share)]), says=BAD
    )
    for share in CUTS
)
FLIPPED = tuple(
    Entry(f"flipped-{seed}", (CARD, ANSWER), changed_bytes(_flipped(seed)), (0, 2)) for seed in range(FLIPS)
)


def _two_cards(model: onnx.ModelProto) -> None:
    entry = next(one for one in model.metadata_props if one.key == CARD_KEY)
    model.metadata_props.add(key=CARD_KEY, value=entry.value)


def _external(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(one for one in model.graph.initializer if one.name == "weights")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def _hidden_external(model: onnx.ModelProto) -> None:
    """In the branch of a node, where a look at the graph's own weights does not come."""
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["image"], ["unused"], then_branch=branch, else_branch=branch))


def _input(element_type: int, *shape: int | str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", element_type, shape))

    return change


def _node(change: Callable[[onnx.NodeProto], None], op_type: str = "Gemm") -> Callable[[onnx.ModelProto], None]:
    def changed(model: onnx.ModelProto) -> None:
        change(next(node for node in model.graph.node if node.op_type == op_type))

    return changed


def _set(node: onnx.NodeProto, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(node, name, value)


def _huge(model: onnx.ModelProto) -> None:
    """Asks for a petabyte when it runs."""
    shape = numpy_helper.from_array(np.array([1 << 25, 1 << 25], np.int64), "vast")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["vast"], ["sea"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["sea"], ["drop"], keepdims=0))
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.input[2] = "drop"


def _out_of_bounds(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 99], np.int64), "order"))
    position = next(index for index, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node.insert(position, helper.make_node("Gather", ["colour", "order"], ["gathered"], axis=1))
    model.graph.node[position + 1].input[0] = "gathered"


def _weights_of_nan(model: onnx.ModelProto) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == "weights")
    tensor.CopyFrom(numpy_helper.from_array(np.full((3, 3), np.nan, np.float32), "weights"))


def _weights_of_other_shape(model: onnx.ModelProto) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == "weights")
    tensor.dims[0] = 7


def _circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "probabilities"


NETWORKS: dict[str, tuple[Callable[[onnx.ModelProto], None], tuple[int, ...]]] = {
    "no-card": (lambda model: model.ClearField("metadata_props"), (2,)),
    "two-cards": (_two_cards, (2,)),
    "no-nodes": (lambda model: model.graph.ClearField("node"), (2,)),
    "no-inputs": (lambda model: model.graph.ClearField("input"), (2,)),
    "no-outputs": (lambda model: model.graph.ClearField("output"), (2,)),
    "no-weights": (lambda model: model.graph.ClearField("initializer"), (0, 2)),
    "no-graph": (lambda model: model.ClearField("graph"), (2,)),
    "no-opset": (lambda model: model.ClearField("opset_import"), (0, 2)),
    "input-of-floats": (_input(TensorProto.FLOAT, "batch", 32, 32, 3), (2,)),
    "input-of-no-type": (_input(0, "batch", 32, 32, 3), (2,)),
    "input-of-unknown-type": (_input(999, "batch", 32, 32, 3), (2,)),
    "input-channels-first": (_input(TensorProto.UINT8, "batch", 3, 32, 32), (2,)),
    "input-without-batch": (_input(TensorProto.UINT8, 32, 32, 3), (2,)),
    "input-of-a-fixed-batch-of-4": (_input(TensorProto.UINT8, 4, 32, 32, 3), (0, 2)),
    "weights-elsewhere": (_external("weights.bin"), (2,)),
    "weights-above": (_external("../../../../etc/passwd"), (2,)),
    "weights-in-a-system-file": (_external("/etc/passwd"), (2,)),
    "weights-in-a-branch-elsewhere": (_hidden_external, (2,)),
    "unknown-operator": (_node(lambda node: _set(node, op_type="Teleport")), (0, 2)),
    "unknown-domain": (_node(lambda node: _set(node, domain="com.example")), (0, 2)),
    "opset-of-tomorrow": (lambda model: setattr(model.opset_import[0], "version", 999), (0, 2)),
    "opset-0": (lambda model: setattr(model.opset_import[0], "version", 0), (0, 2)),
    "ir-version-of-tomorrow": (lambda model: setattr(model, "ir_version", 999), (0, 2)),
    "ir-version-negative": (lambda model: setattr(model, "ir_version", -1), (0, 2)),
    "a-node-of-nothing": (_node(lambda node: node.ClearField("input")), (0, 2)),
    "an-input-that-nothing-gives": (_node(lambda node: node.input.append("nowhere")), (0, 2)),
    "weights-of-another-shape": (_weights_of_other_shape, (0, 2)),
    "weights-of-nan": (_weights_of_nan, (0, 2)),  # `card` computes nothing
    "a-circle": (_circle, (0, 2)),
    "out-of-bounds-when-it-runs": (_out_of_bounds, (0, 2)),
    "a-petabyte-when-it-runs": (_huge, (0, 2)),
}
GRAPHS = tuple(
    Entry(f"network-{name}", (CARD, ANSWER), changed_model(change), codes)
    for name, (change, codes) in NETWORKS.items()
)


def _linked_in_a_circle(stock: Stock, place: Path) -> None:
    (place / BAD).symlink_to(BAD)


def _pipe(stock: Stock, place: Path) -> None:
    os.mkfifo(place / BAD)


def _folder(stock: Stock, place: Path) -> None:
    (place / BAD).mkdir()


def _dangling(stock: Stock, place: Path) -> None:
    (place / BAD).symlink_to("gone.onnx")


def _content(data: bytes) -> Make:
    return changed_bytes(lambda _: data)


def _everywhere(path: str) -> tuple[Words, ...]:
    return (("card", path), predict(GOOD, model=path), camera(GOOD, model=path), ("explain", "why", path, GOOD))


FILES = (
    Entry("zeros", ALL, _content(bytes(100_000)), says=BAD),
    Entry("noise", ALL, _content(np.random.default_rng(0).bytes(50_000)), says=BAD),
    Entry("html", ALL, _content(b"<html>Sign in to continue</html>"), says=BAD),
    Entry("lfs-pointer", ALL, _content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")),
    Entry("pickle-of-torch", ALL, _content(b"PK\3\4" + bytes(26) + b"archive/data.pkl")),
    Entry("flatbuffer-of-tflite", ALL, _content(b"\x1c\0\0\0TFL3" + bytes(200))),
    Entry("twice-in-one-file", (CARD, ANSWER), changed_bytes(lambda data: data * 2), (0, 2)),
    Entry("a-byte-behind-it", (CARD, ANSWER), changed_bytes(lambda data: data + b"\0"), (0, 2)),
    Entry("link-to-itself", ALL, _linked_in_a_circle),
    Entry("link-to-nothing", ALL, _dangling, says="does not exist"),
    Entry("pipe", ALL, _pipe, says="pipe"),
    Entry("folder-called-onnx", ALL, _folder),
    Entry("dev-null", _everywhere("/dev/null"), nothing, says="/dev/null"),
    Entry("dev-zero", _everywhere("/dev/zero"), nothing, says="/dev/zero"),
    Entry("empty-word", _everywhere(""), nothing),
    Entry("url", _everywhere("https://127.0.0.1:9/model.onnx"), nothing),
    Entry("name-of-300-bytes", _everywhere("m" * 300 + ".onnx"), nothing),
    Entry("below-a-file", _everywhere(f"{MODEL}/model.onnx"), nothing),
    Entry("a-photograph", _everywhere(GOOD), nothing, says=GOOD),
    Entry("a-device", _everywhere("ort:cpu"), nothing, says="ort:cpu"),
)

ENTRIES = (*CUT, *FLIPPED, *GRAPHS, *FILES)
