"""`export --fp16 --int8-weights --openvino`: measured, told, and written only if the answers hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.artifacts import tiny_artifact
from toolchain.artifact import read_artifact
from toolchain.artifact.card import Accuracy, QuantizationRecipe
from toolchain.cli import run
from toolchain.errors import BadInputError, MissingError, PromiseBrokenError
from toolchain.export import older, raw_frame, results, variants
from toolchain.export.exporting import export
from toolchain.export.fp16 import largest_activation
from toolchain.export.int8 import quantize, search
from toolchain.export.int8.quantisers import recipes
from toolchain.export.photographs import RunPhotographs
from toolchain.export.raw_frame import with_raw_frame
from toolchain.export.results import Measurement, Variants
from toolchain.images.preprocess import Preprocess
from toolchain.runs import read_run
from toolchain.runtimes.devices import plain
from toolchain.system import files
from toolchain.system.progress import Silent

FILES = {
    "model.onnx": "float32",
    "model.xml": "float32",
    "model.fp16.onnx": "float16",
    "model.fp16.xml": "float16",
    "model.w8.onnx": "int8-weights",
    "model.w8.xml": "int8-weights",
}


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_each_file_is_measured_and_its_card_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(folder), "--fp16", "--int8-weights", "--openvino", "--max-drop", "100"]
    assert run([*words, "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    told = {Path(one["file"]).name: one for one in document["further"]}
    assert told.keys() == FILES.keys() - {"model.onnx"}
    for name, precision in FILES.items():
        artifact = read_artifact(folder / name)
        card = artifact.card
        assert card.precision == precision
        assert (card.recipe is None) == (precision == "float32")
        devices = {"openvino:CPU"} if name.endswith(".xml") else {"ort:cpu", "openvino:CPU"}
        assert set(map(plain, card.runtimes)) == devices  # the float file may be proven in bfloat16, too
        own = {plain(entry.device) for entry in card.accuracy if entry.precision == precision}
        assert own == (devices if precision != "float32" else {"torch:cpu", "ort:cpu", "openvino:CPU"})
        assert len({(entry.device, entry.precision) for entry in card.accuracy}) == len(card.accuracy)
        if name in told:
            assert {hop["device"] for hop in told[name]["hops"]} == devices
            assert told[name]["size_mb"] == pytest.approx(artifact.size_mb, abs=1e-3)
            assert told[name]["broken"] is None
    sizes = {name: read_artifact(folder / name).size_mb for name in FILES}
    assert sizes["model.fp16.onnx"] < 0.55 * sizes["model.onnx"]
    assert sizes["model.w8.onnx"] < 0.35 * sizes["model.onnx"]


def test_the_range_of_float16_is_checked_on_photographs_of_all_classes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def looked_at(model: onnx.ModelProto, images: np.ndarray) -> float:
        seen.append(images)
        return largest_activation(model, images)

    monkeypatch.setattr(variants, "largest_activation", looked_at)
    monkeypatch.setattr(variants, "RANGE_SAMPLE", 3)
    export(folder, further=Variants(fp16=True), target="ort:cpu")
    sample = RunPhotographs(folder, read_run(folder), None, Silent()).read("val")
    (images,) = seen
    labels = [int(sample.labels[(sample.pixels == image).all((1, 2, 3))][0]) for image in images]
    assert sorted(labels) == [0, 1, 2]


@pytest.mark.slow
def test_int8_is_converted_too_and_people_read_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "recipes", lambda task: recipes(task)[:1])
    words = ["export", str(folder), "--int8", "--openvino", "--max-drop", "100", "--min-speed-up", "0"]
    assert run(words) == 0
    out = capsys.readouterr().out
    for name in ("model.xml", "model.int8.xml"):
        assert f"{name}: " in out.replace("\n", "")
    artifact = read_artifact(folder / "model.int8.xml")
    assert artifact.card.precision == "int8"
    assert artifact.card.runtimes == ("openvino:CPU",)
    assert artifact.card.recipe == read_artifact(folder / "model.int8.onnx").card.recipe


def test_a_file_that_answers_otherwise_is_not_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "MIN_AGREEMENT", {"float32": 0.999, "float16": 1.1})
    assert run(["export", str(folder), "--fp16"]) == 1
    told = capsys.readouterr()
    assert "model.fp16.onnx was not written: agreement" in told.err.replace("\n", " ")
    assert "not written" in told.out
    assert (folder / "model.onnx").exists()
    assert not (folder / "model.fp16.onnx").exists()


def test_drop_of_int8_weights_is_promised_as_that_of_int8(tmp_path: Path) -> None:
    recipe = QuantizationRecipe("edgetl", {})
    artifact = tiny_artifact(tmp_path / "model.w8.onnx", precision="int8-weights", recipe=recipe)
    accuracy = Accuracy("ort:cpu", "int8-weights", "val", "0" * 64, 1, 1.0, 1.0, 0.5)
    hop = Measurement("ort:cpu", accuracy, drop_pp=1.2)
    assert variants._broken(artifact, (hop,), 1.5) is None
    said = variants._broken(artifact, (hop,), 1.0)
    assert said == "model.w8.onnx was not written: it loses 1.20 pp of top-1 on ort:cpu, more than --max-drop 1"
    # Labels say little, and probabilities that hardly anything is lost: as int8 is judged.
    known = Measurement("ort:cpu", accuracy, 0.66, 2.14, -0.74, expected_pp=0.09, expected_error_pp=0.03)
    assert variants._broken(artifact, (known,), 0.5) is None
    assert "it may lose" in (variants._broken(artifact, (replace(known, expected_pp=0.5),), 0.5) or "")


def _unknown(model: onnx.ModelProto) -> onnx.ModelProto:
    raise ValueError("operator LayerNormalization is not known to the quantiser")


def _too_large(model: onnx.ModelProto, images: np.ndarray) -> float:
    raise PromiseBrokenError("float16 ends at 65504, and this network computes values up to 70000", "")


def _refused(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.node.append(helper.make_node("Resize", ["logits", "", "image"], ["larger"]))
    return made


def _asking(model: onnx.ModelProto, spec: Preprocess) -> onnx.ModelProto:
    """As vision transformers do after a batch was freed: what it asks for depends on the frame's size then."""
    made = with_raw_frame(model, spec)
    made.graph.node.append(helper.make_node("Shape", ["frame_resized"], ["asked"], start=0, end=1))
    return made


@pytest.mark.parametrize(
    ("module", "function", "fails", "file", "said"),
    [
        (quantize, "int8_weights", _unknown, "model.w8.onnx", "operator LayerNormalization is not known"),
        (quantize, "int8_weights", _refused, "model.w8.onnx", "ONNX's checker refuses it"),
        (variants, "largest_activation", _too_large, "model.fp16.onnx", "float16 ends at 65504"),
        (raw_frame, "with_raw_frame", _asking, "model.frame.onnx", "depends on a frame's size"),
    ],
)
def test_a_form_that_cannot_be_written_costs_that_file_alone(
    module: ModuleType,
    function: str,
    fails: Callable[..., object],
    file: str,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, function, fails)
    words = [
        "export",
        str(folder),
        "--fp16",
        "--int8-weights",
        "--raw-frame",
        "--max-drop",
        "9",
        "--json",
        "--quiet",
    ]
    assert run([*words, "--target", "ort:cpu", "--json", "--quiet"]) == 1
    told = {Path(one["file"]).name: one["broken"] for one in json.loads(capsys.readouterr().out)["further"]}
    assert [name for name, broken in told.items() if broken] == [file]
    assert f"{file} was not written: " in told[file]
    assert said in told[file]
    assert {name for name in told if (folder / name).exists()} == told.keys() - {file}


def test_the_drop_that_is_allowed_reaches_files_that_are_written_without_int8(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(folder), "--int8-weights", "--target", "ort:cpu"]
    assert run([*words, "--max-drop", "0"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "more than --max-drop 0: 0.00 on 3 photographs" in told
    assert "no answer changed; 3 photographs cannot prove a smaller loss" in told
    assert run([*words, "--max-drop", "100"]) == 0
    assert (folder / "model.w8.onnx").is_file()


def test_what_is_missing_or_wrong_is_told_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="--out names the ONNX file"):
        export(folder, out=folder / "model.xml")
    monkeypatch.setattr(results, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="OpenVINO is not installed"):
        Variants(openvino=True)
    with pytest.raises(MissingError, match=r"LiteRT .ai-edge-litert. is not installed"):
        Variants(litert=True)
    assert Variants(fp16=True, int8_weights=True) != Variants()


def test_what_was_made_of_a_file_that_is_replaced_does_not_stay(tmp_path: Path) -> None:
    """Also where the export ends early: it would be run instead of the new file."""
    old, new = tmp_path / "model.int8.xml", tmp_path / "model.int8.frame.onnx"
    stays = tmp_path / "model.int8.ort.xml"  # its own file is not written
    for path in (old, old.with_suffix(".bin"), new, tmp_path / "model.int8.onnx", stays):
        path.write_text("old")

    def interrupted() -> None:
        with older.replacing([tmp_path / "model.int8.onnx", tmp_path / "model.int8.ort.onnx"], Silent()):
            files.write_bytes(new, b"new")
            files.write_bytes(tmp_path / "model.int8.onnx", b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.int8.bin.older",
        "model.int8.frame.onnx",
        "model.int8.onnx",
        "model.int8.ort.xml",
        "model.int8.xml.older",
    ]
    assert new.read_text() == "new"
