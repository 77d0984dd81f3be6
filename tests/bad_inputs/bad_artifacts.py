"""Model files that are damaged, foreign, or carry a card that is wrong."""

from __future__ import annotations

import json
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


def _bytes(change: Callable[[bytes], bytes]) -> Make:
    def make(stock: Stock, place: Path) -> None:
        (place / BAD).write_bytes(change(stock.tiny.read_bytes()))

    return make


def _model(change: Callable[[onnx.ModelProto], None]) -> Make:
    """The good file with another network, which nothing checked."""

    def changed(data: bytes) -> bytes:
        model = onnx.load_model_from_string(data)
        change(model)
        return bytes(model.SerializeToString())

    return _bytes(changed)


def _card_text(change: Callable[[str], str]) -> Make:
    def changed(model: onnx.ModelProto) -> None:
        entry = next(one for one in model.metadata_props if one.key == CARD_KEY)
        entry.value = change(entry.value)

    return _model(changed)


def _card(**fields: Any) -> Make:
    """The good card with other values; a dot in a name is written as two underscores."""

    def changed(text: str) -> str:
        card = json.loads(text)
        for name, value in fields.items():
            inner, _, key = name.rpartition("__")
            place = card[inner] if inner else card
            if value is MISSING:
                del place[key]
            else:
                place[key] = value
        return json.dumps(card)

    return _card_text(changed)


MISSING = object()


def _flipped(seed: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for position in rng.integers(0, len(data), 1 + seed % 3):
            changed[position] ^= 1 << rng.integers(0, 8)
        return bytes(changed)

    return change


CUT = tuple(
    Entry(f"cut-at-{share:g}", ALL, _bytes(lambda data, share=share: data[: int(len(data) * share)]), says=BAD)
    for share in CUTS
)
FLIPPED = tuple(Entry(f"flipped-{seed}", (CARD, ANSWER), _bytes(_flipped(seed)), (0, 2)) for seed in range(FLIPS))

SHA = "0" * 64
CARDS: dict[str, dict[str, Any]] = {
    "temperature-0": {"temperature": 0},
    "temperature-negative": {"temperature": -1.5},
    "temperature-too-high": {"temperature": 1e9},
    "temperature-text": {"temperature": "1.0"},
    "temperature-null": {"temperature": None},
    "labels-none": {"labels": []},
    "labels-one": {"labels": ["red"]},
    "labels-too-few": {"labels": ["red", "green"]},
    "labels-too-many": {"labels": ["red", "green", "blue", "grey"]},
    "labels-twice": {"labels": ["red", "green", "red"]},
    "labels-empty-name": {"labels": ["red", "", "blue"]},
    "labels-long-name": {"labels": ["red", "g" * 300, "blue"]},
    "labels-numbers": {"labels": [1, 2, 3]},
    "labels-text": {"labels": "red green blue"},
    "labels-object": {"labels": {"0": "red"}},
    "preprocess-missing": {"preprocess": None},
    "height-0": {"preprocess__height": 0},
    "height-negative": {"preprocess__height": -32},
    "height-huge": {"preprocess__height": 1_000_000, "preprocess__shortest_edge": 1_000_000},
    "height-of-another-network": {"preprocess__height": 16},
    "height-fraction": {"preprocess__height": 31.5},
    "shortest-edge-too-small": {"preprocess__shortest_edge": 8},
    "resize-unknown": {"preprocess__resize": "stretch"},
    "interpolation-unknown": {"preprocess__interpolation": "lanczos"},
    "colour-bgr": {"preprocess__colour": "BGR"},
    "precision-unknown": {"precision": "int4"},
    "precision-int8-without-recipe": {"precision": "int8"},
    "recipe-in-float": {"recipe": {"quantiser": "none", "settings": {}}},
    "accuracy-number": {"accuracy": 0.9},
    "accuracy-of-no-photographs": {
        "accuracy": [
            {
                "device": "ort:cpu", "precision": "float32", "split": "test", "split_sha256": SHA, "n": 0,
                "top1": 0.5, "per_class_top1": 0.5,
            }
        ]
    },
    "accuracy-above-1": {
        "accuracy": [
            {
                "device": "ort:cpu", "precision": "float32", "split": "test", "split_sha256": SHA, "n": 9,
                "top1": 90, "per_class_top1": 0.5,
            }
        ]
    },
    "split-hash-short": {"splits": {"test": "abc"}},
    "split-hash-upper-case": {"splits": {"test": "A" * 64}},
    "reject-unknown-score": {"reject": {"score": "feeling", "threshold": 0.5}},
    "reject-above-1": {"reject": {"score": "max_probability", "threshold": 1.5}},
    "reject-number": {"reject": 0.5},
    "source-null": {"source": None},
    "source-without-model": {"source__model": MISSING},
    "licences-list": {"source__licences": ["MIT"]},
    "runtimes-numbers": {"runtimes": [1]},
    "input-frame-for-an-image": {"input": "frame"},
    "input-unknown": {"input": "tensor"},
    "schema-of-tomorrow": {"schema": "edgetl.card/2"},
    "schema-number": {"schema": 1},
    "schema-missing": {"schema": MISSING},
    "labels-missing": {"labels": MISSING},
    "splits-missing": {"splits": MISSING},
    "version-number": {"edgetl_version": 0.1},
}  # fmt: skip
WRONG_CARDS = tuple(Entry(f"card-{name}", ALL[:3], _card(**fields), says=BAD) for name, fields in CARDS.items())

TEXTS: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "null": lambda text: "null",
    "list": lambda text: "[]",
    "number": lambda text: "1e999",
    "cut-off": lambda text: text[:100],
    "temperature-nan": lambda text: text.replace('"temperature":1.0', '"temperature":NaN'),
    "not-json": lambda text: "schema = edgetl.card/1",
    "twice-in-one": lambda text: text * 2,
    "100000-deep": lambda text: "[" * 100_000,
    "100000-deep-closed": lambda text: '{"schema":"edgetl.card/1","labels":' + "[" * 100_000 + "]" * 100_000 + "}",
    "five-megabytes": lambda text: text + " " * (5 << 20),
    "lone-surrogate": lambda text: text.replace('"red"', '"\\ud800"'),
}
WRONG_TEXTS = tuple(Entry(f"card-{name}", (CARD, ANSWER), _card_text(of), says=BAD) for name, of in TEXTS.items())

ODD_LABELS: dict[str, list[str]] = {
    "markup": ["[bold]", "[/bold]", "[link=file:///etc/passwd]x[/link]"],
    "control-characters": ["\x1b[2J\x1b[31mred", "a\rb", "c\x07"],
    "line-breaks": ["red\ngreen", "\n", "\t"],
    "right-to-left": ["\u202ecod", "\u200b", "\ufeff"],
    "other-scripts": ["赤", "חתול", "🐈"],
    "formulas": ["=1+1", "@SUM(A1)", "-"],
    "html": ["<script>alert(1)</script>", "&amp;", "'\""],
    "spaces": [" ", "  ", "   "],
}
LABELS = tuple(
    Entry(f"labels-{name}", (CARD, ANSWER, camera(GOOD, model=BAD)), _card(labels=labels), (0, 2))
    for name, labels in ODD_LABELS.items()
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
    "weights-of-nan": (_weights_of_nan, (0, 2)),
    "a-circle": (_circle, (0, 2)),
    "out-of-bounds-when-it-runs": (_out_of_bounds, (0, 2)),
    "a-petabyte-when-it-runs": (_huge, (0, 2)),
}
GRAPHS = tuple(
    Entry(f"network-{name}", (CARD, ANSWER), _model(change), codes) for name, (change, codes) in NETWORKS.items()
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
    return _bytes(lambda _: data)


def _everywhere(path: str) -> tuple[Words, ...]:
    return (("card", path), predict(GOOD, model=path), camera(GOOD, model=path), ("explain", "why", path, GOOD))


FILES = (
    Entry("zeros", ALL, _content(bytes(100_000)), says=BAD),
    Entry("noise", ALL, _content(np.random.default_rng(0).bytes(50_000)), says=BAD),
    Entry("html", ALL, _content(b"<html>Sign in to continue</html>"), says=BAD),
    Entry("lfs-pointer", ALL, _content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")),
    Entry("pickle-of-torch", ALL, _content(b"PK\3\4" + bytes(26) + b"archive/data.pkl")),
    Entry("flatbuffer-of-tflite", ALL, _content(b"\x1c\0\0\0TFL3" + bytes(200))),
    Entry("twice-in-one-file", (CARD, ANSWER), _bytes(lambda data: data * 2), (0, 2)),
    Entry("a-byte-behind-it", (CARD, ANSWER), _bytes(lambda data: data + b"\0"), (0, 2)),
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

ENTRIES = (*CUT, *FLIPPED, *WRONG_CARDS, *WRONG_TEXTS, *LABELS, *GRAPHS, *FILES)
