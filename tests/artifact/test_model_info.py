"""What Model API and its kin read: the words, where they are written, and whether it answers as edgetl does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.artifacts import COLOURS, tiny_artifact, tiny_card, tiny_ir, tiny_model
from toolchain.artifact import Artifact, make_artifact, write_artifact
from toolchain.artifact.card import Card
from toolchain.artifact.model_info import model_info
from toolchain.classifier import Classifier
from toolchain.export.raw_frame import with_raw_frame
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import open_runtime

ALL = {"model_type": "Classification", "labels": "red green blue"}


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (tiny_card(), ALL | {"resize_type": "crop", "reverse_input_channels": "True"}),
        (
            tiny_card(preprocess=Preprocess(32, 48, "squash", 48)),
            ALL | {"resize_type": "standard", "reverse_input_channels": "True"},
        ),
        (tiny_card(input="frame"), ALL),
        (
            tiny_card(("British Shorthair", "pug   dog"), input="frame"),
            {"model_type": "Classification", "labels": "British_Shorthair pug_dog"},
        ),
    ],
    ids=["crop", "squash", "frame", "labels with spaces"],
)
def test_the_card_in_other_words(card: Card, told: dict[str, str]) -> None:
    assert model_info(card) == told


def test_they_stand_in_the_file_once(tmp_path: Path) -> None:
    first = make_artifact(tiny_model(), tiny_card(), tmp_path / "model.onnx")
    model = onnx.load_model_from_string(first.model)
    second = make_artifact(model, tiny_card(("one", "two", "three")), tmp_path / "model.onnx")
    entries = [
        (entry.key, entry.value)
        for entry in onnx.load_model_from_string(second.model).metadata_props
        if entry.key.startswith("model_info")
    ]
    assert len(entries) == len(dict(entries)) == 4
    assert dict(entries)["model_info labels"] == "one two three"


def pictures() -> list[np.ndarray]:
    """RGB pictures of the size of the network's input, in which one colour is strongest."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(9):
        picture = rng.integers(0, 180, (32, 32, 3), np.uint8)
        picture[..., number % 3] += np.uint8(5 + 4 * number)
        found.append(picture)
    return found


@pytest.mark.parametrize("kind", ["onnx", "frame", "openvino"])
def test_model_api_answers_as_edgetl(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("model_api", reason="openvino-model-api is not installed (it wants an OpenCV before 5)")
    from model_api.adapters import OpenvinoAdapter, create_core
    from model_api.models import ClassificationModel

    artifact = written(kind, tmp_path)
    classifier = Classifier(artifact.card, open_runtime(artifact, "openvino:CPU"))
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    adapter = OpenvinoAdapter(create_core(), str(artifact.path), device="CPU", plugin_config=exact)
    model = ClassificationModel.create_model(adapter)
    model.out_layer_names = ["probabilities"]
    for rgb in pictures():
        answered = model(rgb if kind == "frame" else np.ascontiguousarray(rgb[..., ::-1])).top_labels[0]
        expected = classifier.predict(rgb)
        assert answered.name == expected.label
        assert answered.confidence == pytest.approx(expected.probability, abs=1e-4)


def written(kind: str, folder: Path) -> Artifact:
    if kind == "openvino":
        return tiny_ir(folder / "model.xml", temperature=2.0)
    if kind == "onnx":
        return tiny_artifact(folder / "model.onnx", temperature=2.0)
    card = tiny_card(COLOURS, input="frame", temperature=2.0)
    return write_artifact(with_raw_frame(tiny_model(temperature=2.0), card.preprocess), card, folder / "f.onnx")
