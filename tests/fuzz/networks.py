"""Networks that are changed: nodes and weights, cards, OpenVINO's IR and LiteRT's tables."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import onnx
from onnx import TensorProto

from tests.fuzz import changing
from tests.fuzz.changing import as_json, changed_bytes, changed_tree
from toolchain.artifact import CARD_KEY

USE = (["card"], ["predict", "--threads", "1"], ["predict", "--threads", "1"])


def _use(rng: Random, model: str) -> list[str]:
    words = rng.choice(USE)
    return [*words, model] if words[0] == "card" else [*words, model, "good.png"]


def _model(stock: Path) -> onnx.ModelProto:
    return onnx.load_model_from_string((stock / "tiny.onnx").read_bytes())


def graph(rng: Random, stock: Path, place: Path) -> list[str]:
    """Nodes, attributes, weights and shapes of a network. Its card stays."""
    model = _model(stock)
    for _ in range(rng.randint(1, 3)):
        _change_graph(rng, model)
    data = model.SerializeToString()
    (place / "m.onnx").write_bytes(changed_bytes(rng, data) if rng.random() < 0.2 else data)
    return _use(rng, "m.onnx")


def _change_graph(rng: Random, model: onnx.ModelProto) -> None:
    net = model.graph
    node = rng.choice(net.node) if net.node else net.node.add()
    values = [*net.input, *net.output]
    match rng.randrange(12):
        case 0:
            node.op_type = rng.choice(("Loop", "If", "Expand", "Constant", "MatMul", "Resize", "x", "ReduceMean"))
        case 1:
            node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "é"))
        case 2:
            names = [*(one for other in net.node for one in (*other.input, *other.output)), "", "nowhere"]
            if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 3:
            node.output.append(rng.choice(("logits", "image", "more")))
        case 4:
            attribute = node.attribute.add(name=rng.choice(("axis", "to", "value", "keepdims", "body")))
            attribute.type = rng.choice((1, 2, 3, 7))
            attribute.i, attribute.f = rng.choice((0, -9, 2**62, 99)), float("nan")
        case 5:
            del net.node[rng.randrange(len(net.node))]
        case 6:
            net.node.add().CopyFrom(node)
        case 7 if net.initializer:
            tensor = rng.choice(net.initializer)
            tensor.data_type = rng.choice((0, 1, 2, 6, 7, 8, 10, 16, 999))
        case 8 if net.initializer:
            tensor = rng.choice(net.initializer)
            tensor.dims.append(rng.choice((0, 2, 2**31, 2**62, -1)))
        case 9 if net.initializer:
            tensor = rng.choice(net.initializer)
            tensor.raw_data = changed_bytes(rng, tensor.raw_data)
        case 10:
            shape = rng.choice(values).type.tensor_type.shape
            if shape.dim:
                rng.choice(shape.dim).dim_value = rng.choice((0, 1, 3, 2**31, -1, 2**62))
        case _:
            tensor = net.initializer.add(name=rng.choice(("weights", "image", "far")), data_type=TensorProto.FLOAT)
            tensor.external_data.add(key="location", value=rng.choice(("good.png", "/etc/passwd", "../x")))
            tensor.data_location = rng.choice((0, 1))


def card(rng: Random, stock: Path, place: Path) -> list[str]:
    model = _model(stock)
    [entry] = [one for one in model.metadata_props if one.key == CARD_KEY]
    changed = as_json(rng, changed_tree(rng, json.loads(entry.value)))
    data = model.SerializeToString()
    # The text is replaced in the file itself: protobuf would not write what is no UTF-8.
    marker = b"\x01" * 8
    entry.value = marker.decode() + " " * (len(changed) - len(marker)) if len(changed) > 8 else ""
    data = model.SerializeToString()
    if len(changed) > 8:
        at = data.index(marker)
        data = data[:at] + changed + data[at + len(changed) :]
    (place / "m.onnx").write_bytes(data)
    return _use(rng, "m.onnx")


def ir(rng: Random, stock: Path, place: Path) -> list[str]:
    xml, weights = (stock / "tiny.xml").read_bytes(), (stock / "tiny.bin").read_bytes()
    if rng.random() < 0.25:
        weights = changed_bytes(rng, weights)
    else:
        parts = xml.split(b"<")
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(1, len(parts))
            match rng.randrange(5):
                case 0:
                    del parts[at]
                case 1:
                    parts.insert(at, rng.choice(parts[1:]))
                case 2:
                    words = parts[at].split(b'"')
                    words[rng.randrange(len(words))] = rng.choice(
                        (b"-1", b"999999999999", b"", b"Loop", b"f64", b"\xff")
                    )
                    parts[at] = b'"'.join(words)
                case 3:
                    parts.insert(at, rng.choice((b"!DOCTYPE net [", b"a>" * 200, b"!ENTITY a 'b'>", b"?xml?>")))
                case _:
                    parts[at] = changed_bytes(rng, parts[at])
        xml = b"<".join(parts)
    (place / "m.xml").write_bytes(xml)
    (place / "m.bin").write_bytes(weights)
    return _use(rng, "m.xml")


def litert(rng: Random, stock: Path, place: Path) -> list[str]:
    """A .tflite: its tables, tensors, offsets and card, as bytes."""
    data = bytearray((stock / "tiny.tflite").read_bytes())
    if rng.random() < 0.3:
        data[:] = changed_bytes(rng, bytes(data))
    else:  # every part stays at its place, so that most of the file is still understood
        for _ in range(rng.randint(1, 3)):
            at = 4 * rng.randrange(len(data) // 4)
            if rng.random() < 0.5:
                data[at + rng.randrange(4)] = rng.choice((0, 1, 2, 3, 7, 9, 25, 33, 114, 128, 255))
            else:
                data[at : at + 4] = rng.choice(changing.EXTREMES).to_bytes(4, "little")
    (place / "m.tflite").write_bytes(data)
    return _use(rng, "m.tflite")
