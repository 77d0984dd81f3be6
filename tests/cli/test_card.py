"""`edgetl card` tells all that the card holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact, tiny_ir
from toolchain.artifact.card import Accuracy, QuantizationRecipe, Reject, Source
from toolchain.cli import run
from toolchain.images.preprocess import Preprocess
from toolchain.system import files

ZEROS = "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "model.int8.onnx"
    tiny_artifact(
        where,
        ("Siamese", "[bold]odd[/bold]", "american_bulldog"),
        precision="int8",
        recipe=QuantizationRecipe("nncf", {"preset": "mixed"}, ZEROS, 300),
        reject=Reject("max_probability", 0.35),
        accuracy=(Accuracy("openvino:CPU", "int8", "val", ZEROS, 740, 0.891, 0.884, 0.975),),
        source=Source(
            "mobilenet_v2", "runs/pets", "imagenet", ZEROS, "pets", {"photographs": "CC BY-SA 4.0"}, "a" * 64
        ),
    )
    return where


def test_json_is_the_card(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["card", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["artifact", "sha256", "format", "size_mb", "card"]
    assert document["sha256"] == files.sha256_of(path)
    assert document["card"]["labels"] == ["Siamese", "[bold]odd[/bold]", "american_bulldog"]
    assert document["card"]["accuracy"][0]["top1"] == 0.891
    assert document["card"]["preprocess"]["shortest_edge"] == 32


def test_people_read_labels_preprocessing_accuracy_recipe_source_and_licences(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["card", str(path.parent)]) == 0
    out = capsys.readouterr().out
    for told in (
        "Siamese, [bold]odd[/bold], american_bulldog",
        "3 labels",
        "shortest edge scaled to 32",
        "0.891",
        "0.975",
        "openvino:CPU",
        "nncf; preset mixed; calibrated on 300 photographs",
        "max_probability below 0.35",
        "imagenet",
        "CC BY-SA 4.0",
        files.sha256_of(path),
    ):
        assert told in out


def test_card_without_measurements_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_artifact(tmp_path / "m.onnx", preprocess=Preprocess(32, 32, resize="squash"))
    assert run(["card", str(tmp_path / "m.onnx")]) == 0
    out = capsys.readouterr().out
    assert "accuracy: not measured yet" in out
    assert "scaled to 32 x 32" in out
    assert "every runtime" in out


def test_what_is_no_artifact_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_text("words")
    for path, said in ((tmp_path / "text.onnx", "not a whole ONNX file"), (tmp_path, "holds no model.onnx")):
        assert run(["card", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_both_files_of_openvino_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.xml"
    tiny_ir(path)
    assert run(["card", str(path)]) == 0
    out = capsys.readouterr().out
    assert "model.xml and model.bin" in "".join(out.split("\n")).replace("  ", "")
    assert "runs on      OpenVINO" in out
    assert run(["card", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "openvino"
    assert document["size_mb"] == pytest.approx(
        (path.stat().st_size + path.with_suffix(".bin").stat().st_size) / 1e6, abs=1e-3
    )
    path.with_suffix(".bin").unlink()
    assert run(["card", str(path)]) == 2
    assert "model.bin does not exist" in capsys.readouterr().err


def test_float16_and_int8_weights_tell_how_they_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for precision, settings in (("float16", {"weights": "float16"}), ("int8-weights", {"weights": "int8"})):
        tiny_artifact(tmp_path / "model.onnx", precision=precision, recipe=QuantizationRecipe("edgetl", settings))
        assert run(["card", str(tmp_path / "model.onnx")]) == 0
        out = capsys.readouterr().out
        assert f"edgetl; weights {settings['weights']}" in out
        assert f"colours, {precision}" in out
        assert "calibrated" not in out
