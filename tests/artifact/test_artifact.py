"""A model file is read strictly: what is wrong is named, and nothing half written is left behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.artifacts import tiny_artifact, tiny_card, tiny_model
from toolchain.artifact import (
    CARD_KEY,
    MAX_CARD_BYTES,
    least_ir_version,
    make_artifact,
    read_artifact,
    write_artifact,
)
from toolchain.artifact.card import Accuracy, Card, QuantizationRecipe, Reject, Source
from toolchain.errors import ArtifactError
from toolchain.images.preprocess import Preprocess
from toolchain.system import files

ZEROS = "0" * 64
Change = Callable[[onnx.ModelProto], None]


def _card_text(model: onnx.ModelProto) -> str:
    [text] = [entry.value for entry in model.metadata_props if entry.key == CARD_KEY]
    return text


def _with_card(model: onnx.ModelProto, text: str) -> None:
    del model.metadata_props[:]
    model.metadata_props.add(key=CARD_KEY, value=text)


def _stored(path: Path, change: Change) -> Path:
    """A valid artifact, changed behind our back."""
    model = onnx.load_model_from_string(tiny_artifact(path).model)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _full_card() -> Card:
    return tiny_card(
        ("Siamese", "größe", "猫"),
        preprocess=Preprocess(height=32, width=48, resize="squash", interpolation="linear"),
        temperature=1.25,
        reject=Reject("max_probability", 0.4),
        precision="int8",
        recipe=QuantizationRecipe("nncf", {"bits": 8, "nested": {"a": [1, 2.5, None]}}, ZEROS, 300),
        accuracy=(Accuracy("ort:cpu", "int8", "val", ZEROS, 100, 0.9, 0.89, 0.97),),
        splits={"train": ZEROS, "test": "f" * 64},
        source=Source("mobilenet_v2", "RUN", "imagenet", ZEROS, "pets", {"photographs": "CC BY-SA 4.0"}, "a" * 64),
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    card = _full_card()
    path = tmp_path / "model.onnx"
    written = write_artifact(tiny_model(3, 32, 48), card, path)
    found = read_artifact(path)
    assert found == written
    assert found.card == card
    assert found.sha256 == files.sha256_of(path)
    assert found.model == path.read_bytes()
    assert found.size_mb == path.stat().st_size / 1e6


def test_card_is_json_under_its_key_with_the_documented_preprocessing(tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    card = json.loads(_card_text(onnx.load(tmp_path / "model.onnx")))
    assert card["schema"] == "edgetl.card/1"
    assert card["preprocess"] == {
        "height": 32,
        "width": 32,
        "resize": "shortest-edge",
        "shortest_edge": 32,
        "interpolation": "area",
        "crop": "center",
        "colour": "RGB",
    }


def test_writing_again_replaces_the_card(tmp_path: Path) -> None:
    first = tiny_artifact(tmp_path / "model.onnx")
    model = onnx.load_model_from_string(first.model)
    model.metadata_props.add(key="author", value="somebody")
    before = len(model.metadata_props)
    accuracy = Accuracy("ort:cpu", "float32", "val", ZEROS, 1, 1.0, 1.0)
    second = make_artifact(model, first.card.with_accuracy(accuracy), tmp_path / "model.onnx")
    assert second.card.accuracy == (accuracy,)
    entries = [entry.key for entry in onnx.load_model_from_string(second.model).metadata_props]
    assert {key for key in entries if not key.startswith("model_info ")} == {"author", CARD_KEY}
    assert len(entries) == len(set(entries)) == before
    assert len(model.metadata_props) == before, "the caller's model is untouched"


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda model, card: (model, replace(card, labels=("a", "b"))), ArtifactError),
        (lambda model, card: (model, replace(card, temperature=-1.0)), ArtifactError),
        (
            lambda model, card: (model, replace(card, preprocess=Preprocess(16, 16, shortest_edge=16))),
            ArtifactError,
        ),
        (lambda model, card: (onnx.ModelProto(), card), ArtifactError),
    ],
)
def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, break_it: Callable[..., tuple[onnx.ModelProto, Card]], error: type[Exception]
) -> None:
    path = tmp_path / "model.onnx"
    before = tiny_artifact(path).model
    with pytest.raises(error):
        write_artifact(*break_it(tiny_model(), tiny_card()), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_nothing_is_left_behind_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        tiny_artifact(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 1, 10, 0.2, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.onnx"
    data = tiny_artifact(path).model
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        read_artifact(path)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"words, not a network\n" * 50, bytes(1000)])
def test_files_of_another_kind_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="not a whole ONNX file"):
        read_artifact(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "nope.onnx", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ArtifactError, match=said) as raised:
            read_artifact(path)
        assert raised.value.hint


def test_giant_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole, not a gigabyte
    with pytest.raises(ArtifactError, match="at most 1 GiB"):
        read_artifact(path)


def _second_card(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key=CARD_KEY, value=_card_text(model))


def _other_dtype(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64


def _channels_first(model: onnx.ModelProto) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    for dim, value in zip(list(shape.dim)[1:], (3, 32, 32), strict=True):
        dim.dim_value = value


def _renamed(field: str, old: str, new: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for value in getattr(model.graph, field):
            value.name = new if value.name == old else value.name

    return change


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def _external(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def _external_in_a_node(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def _external_in_a_function(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "tucked away")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    model.functions.append(helper.make_function("own", "Given", [], ["y"], [node], model.opset_import))


def _external_in_a_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])])
    tensor = branch.initializer.add(name="deep", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("If", ["logits"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.ClearField("metadata_props"), "no card"),
        (_second_card, "2 cards"),
        (lambda model: _with_card(model, "{" + " " * MAX_CARD_BYTES + "}"), "more than 4 MiB"),
        (_other_dtype, "`image` is float"),
        (_other_size, "`image` is uint8"),
        (_channels_first, "`image` is uint8"),
        (_renamed("input", "image", "input"), r"inputs are \['input'\]"),
        (_second_input, r"inputs are \['image', 'mask'\]"),
        (_renamed("output", "logits", "scores"), "no output `logits`"),
        (_renamed("output", "probabilities", "scores"), "no output `probabilities`"),
        (_external, "weights `weights` lie in another file"),
        (_external_in_a_node, "weights `hidden` lie in another file"),
        (_external_in_a_function, "holds functions"),
        (_external_in_a_branch, "`If` holds more than numbers"),
    ],
)
def test_files_that_were_tampered_with_are_refused(tmp_path: Path, change: Change, said: str) -> None:
    path = _stored(tmp_path / "model.onnx", change)
    with pytest.raises(ArtifactError, match=said):
        read_artifact(path)


WRONG: list[tuple[tuple[str | int, ...], Any]] = [
    (("labels",), "red"),
    (("labels",), ["red"]),
    (("labels",), ["red", "green", 3]),
    (("labels",), ["red", "green", ""]),
    (("labels",), ["red", "green", "red"]),
    (("preprocess",), None),
    (("preprocess", "height"), "32"),
    (("preprocess", "height"), 0),
    (("preprocess", "width"), 1 << 20),
    (("preprocess", "resize"), "letterbox"),
    (("preprocess", "shortest_edge"), 3.5),
    (("preprocess", "shortest_edge"), 8),
    (("preprocess", "interpolation"), "nearest"),
    (("preprocess", "crop"), "random"),
    (("preprocess", "colour"), "BGR"),
    (("temperature",), 0),
    (("temperature",), "1"),
    (("reject",), {"score": "entropy", "threshold": 0.5}),
    (("reject",), {"score": "max_probability", "threshold": 1.5}),
    (("precision",), "int4"),
    (("precision",), "int8"),
    (("recipe",), {"quantiser": "x", "settings": {}, "calibration_sha256": ZEROS, "calibration_n": 1}),
    (("recipe",), "by hand"),
    (("accuracy",), {}),
    (("accuracy",), [{"device": "ort:cpu"}]),
    (("splits",), {"test": "abc"}),
    (("splits",), []),
    (("source",), {}),
    (("source", "model"), 5),
    (("source", "weights_sha256"), "xyz"),
    (("source", "licences"), ["MIT"]),
    (("edgetl_version",), None),
    (("runtimes",), "ort:cpu"),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: msgspec.json.encode(part).decode()[:40])
def test_a_wrong_field_of_the_card_is_named(tmp_path: Path, place: tuple[str | int, ...], value: object) -> None:
    def change(model: onnx.ModelProto) -> None:
        card = json.loads(_card_text(model))
        inner = card
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        _with_card(model, json.dumps(card))

    path = _stored(tmp_path / "model.onnx", change)
    with pytest.raises(ArtifactError) as raised:
        read_artifact(path)
    assert str(path) in raised.value.message
    said = raised.value.message.replace(str(path), "")
    either = {str(place[-1])} | ({"recipe"} if place == ("precision",) else set())
    assert any(name in said for name in either)


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(Card) if field.default is dataclasses.MISSING]
)
def test_a_missing_field_of_the_card_is_named(tmp_path: Path, field: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        card = json.loads(_card_text(model))
        del card[field]
        _with_card(model, json.dumps(card))

    with pytest.raises(ArtifactError, match=field):
        read_artifact(_stored(tmp_path / "model.onnx", change))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"card"', "{}", '{"schema": "edgetl.card/2"}', '{"schema": 1}']
)
def test_cards_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="card"):
        read_artifact(_stored(tmp_path / "model.onnx", lambda model: _with_card(model, text)))


@pytest.mark.parametrize("count", [2, 4])
def test_labels_must_fit_the_graph(tmp_path: Path, count: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        card = json.loads(_card_text(model))
        card["labels"] = [str(label) for label in range(count)]
        _with_card(model, json.dumps(card))

    with pytest.raises(ArtifactError, match=f"`logits` .*{count}"):
        read_artifact(_stored(tmp_path / "model.onnx", change))


def test_oldest_file_format_that_holds_the_model_is_written(tmp_path: Path) -> None:
    model = tiny_model()
    model.ir_version = 10
    assert onnx.load_model_from_string(make_artifact(model, tiny_card(), tmp_path / "a.onnx").model).ir_version == 8
    newer = tiny_model()
    newer.ir_version = 10
    newer.opset_import[0].version = 20  # came with ONNX 1.15 and version 9
    assert least_ir_version(newer) == 9
    newer.graph.initializer.add(name="small", data_type=onnx.TensorProto.INT4)
    assert least_ir_version(newer) == 10, "types ask for more than operators do"
