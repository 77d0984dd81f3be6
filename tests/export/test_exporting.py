"""From a run to files that answer as the run does, on every runtime that reads ONNX."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino
import pytest
import scipy.special
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file

import toolchain
from tests.artifacts import tiny_artifact
from tests.conftest import Recorder, lively
from toolchain.artifact import find_artifact, read_artifact
from toolchain.artifact.card import Accuracy
from toolchain.backbones.networks import build, head_of, normalised
from toolchain.cli import run
from toolchain.datasets.splits import sha256_of_labelled
from toolchain.errors import BadInputError, MissingError, PromiseBrokenError
from toolchain.export import exporting
from toolchain.export.exporting import TARGETS, export
from toolchain.export.int8.sensitivity import MAX_FLOAT_LAYERS
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.photographs import calibration_of
from toolchain.export.results import Measurement
from toolchain.export.ways import ways_here
from toolchain.images.preprocess import Preprocess
from toolchain.runs import read_run, read_splits
from toolchain.runtimes import open_runtime

SMALL = Preprocess(height=64, width=64, shortest_edge=64)


MOBILENETS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
"""The others are tried in test_other_backbones.py."""


@pytest.fixture(scope="module", params=MOBILENETS)
def network_and_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.nn.Module, Path]:
    """Each network with lively random weights and statistics, and its ONNX file."""
    network = lively(request.param, 7, seed=0)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    onnx.save(to_onnx(network, SMALL, 1.7), path)
    return network, path


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, 64, 64, 3), np.uint8)


def _expected(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(normalised(torch.from_numpy(images))).numpy()


def test_graph_is_the_contract(network_and_file: tuple[object, Path]) -> None:
    model = onnx.load(network_and_file[1])
    onnx.checker.check_model(model, full_check=True)

    def shape(value: onnx.ValueInfoProto) -> list[object]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    assert [(value.name, shape(value)) for value in model.graph.input] == [("image", ["batch", 64, 64, 3])]
    assert [(value.name, shape(value)) for value in model.graph.output] == [
        ("logits", ["batch", 7]),
        ("probabilities", ["batch", 7]),
    ]
    assert not [node for node in model.graph.node if node.op_type in {"BatchNormalization", "Gather", "Shape"}]
    assert str(Path(toolchain.__file__).parent) not in str(model)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_runtime_answers_as_torch_does(
    network_and_file: tuple[torch.nn.Module, Path], images: np.ndarray, batch: int
) -> None:
    network, path = network_and_file
    images = images[:batch]
    expected = _expected(network, images)
    scale = np.abs(expected).max()
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    logits, probabilities = session.run(["logits", "probabilities"], {"image": images})
    assert np.abs(logits - expected).max() < 1e-4 * scale
    softmax = scipy.special.softmax(expected / 1.7, axis=1)
    np.testing.assert_allclose(probabilities, softmax, rtol=1e-3, atol=1e-6)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(compiled({"image": images})["logits"] - expected).max() < 1e-4 * scale
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(images, "image")
    answer = net.forward("logits")
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() < 1e-4 * scale


def test_reference_evaluator_answers_as_torch_does(
    network_and_file: tuple[torch.nn.Module, Path], images: np.ndarray
) -> None:
    network, path = network_and_file
    expected = _expected(network, images[:1])
    logits = ReferenceEvaluator(str(path)).run(["logits"], {"image": images[:1]})[0]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_cards_tell_the_whole_story(exported: Path) -> None:
    run = read_run(exported)
    ways = ways_here(TARGETS)
    for name, precision in (("model.onnx", "float32"), ("model.int8.onnx", "int8")):
        card = read_artifact(exported / name).card
        assert card.labels == run.data.classes
        assert card.preprocess == run.preprocess
        assert card.temperature == run.temperature
        assert card.reject == run.reject
        assert card.splits == run.data.split_sha256
        assert card.precision == precision
        assert card.source.run_sha256 == run.model.sha256
        assert card.runtimes[:2] == ("ort:cpu", "openvino:CPU")
        assert set(card.runtimes[2:]) <= set(ways)
        hops = {(entry.device, entry.precision) for entry in card.accuracy}
        expected = {(device, "float32") for device in ("torch:cpu", *TARGETS, *ways)}
        if precision == "int8":
            expected |= {(device, "int8") for device in card.runtimes}
            assert card.recipe is not None
            files = calibration_of(read_splits(exported))
            assert card.recipe.calibration_n == len(files)
            assert card.recipe.calibration_sha256 == sha256_of_labelled((f.sha256, f.label) for f in files)
        assert hops == expected
        assert all(entry.split_sha256 == run.data.split_sha256["val"] for entry in card.accuracy)


def test_deployed_pipeline_answers_as_the_run_does(exported: Path, drawn_folder: Path) -> None:
    photograph = next((drawn_folder / "cat").iterdir())
    run = read_run(exported)
    pixels = run.preprocess(toolchain.images.preprocess.read(photograph))
    network = build(run.model.name, 3)
    network.load_state_dict(load_file(exported / "model.safetensors"))
    expected = _expected(network.eval(), pixels[None])[0]
    for device in ("ort:cpu", "openvino:CPU", "torch:cpu"):
        prediction = toolchain.load(exported / "model.onnx", device).predict(photograph)
        np.testing.assert_allclose(prediction.logits, expected, rtol=1e-3, atol=1e-4)


def test_pytorch_in_bfloat16_answers_nearly_as_in_float32(exported: Path, images: np.ndarray) -> None:
    artifact = read_artifact(exported / "model.onnx")
    exact = open_runtime(artifact, "torch:cpu").infer(images).logits
    runtime = open_runtime(artifact, "torch:cpu+bf16")
    logits = runtime.infer(images).logits
    assert runtime.execution.inference_precision == "bfloat16"
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_int8_is_smaller_and_quantised_on_both_runtimes(exported: Path, images: np.ndarray) -> None:
    sizes = {name: (exported / name).stat().st_size for name in ("model.onnx", "model.int8.onnx")}
    assert sizes["model.int8.onnx"] < 0.4 * sizes["model.onnx"]
    nodes = onnx.load(exported / "model.int8.onnx").graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    layers = [[made_by.get(name) for name in node.input[:2]] for node in nodes if node.op_type == "Conv"]
    # Two layers of each squeeze-and-excitation stay float (behind a mean; the last mean is the network's own), and
    # some recipes, of which the fastest here is written, leave their most sensitive layers in float.
    squeezes = sum(node.op_type in {"ReduceMean", "GlobalAveragePool"} for node in nodes) - 1
    assert layers.count(["DequantizeLinear", "DequantizeLinear"]) >= len(layers) - 2 * squeezes - MAX_FLOAT_LAYERS
    artifact = read_artifact(exported / "model.int8.onnx")
    for device in artifact.card.runtimes:
        answer = open_runtime(artifact, device).infer(images)
        assert np.isfinite(answer.logits).all()
        np.testing.assert_allclose(answer.probabilities.sum(1), 1, atol=1e-5)


def test_damaged_weights_are_an_error_and_nothing_is_written(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "model.onnx").unlink()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(BadInputError, match=r"model\.safetensors is damaged"):
        export(folder)
    assert not (folder / "model.onnx").exists()


def test_wrong_weights_do_not_pass_parity(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "model.onnx").unlink()
    original = exporting.to_onnx

    def other(network: torch.nn.Module, spec: Preprocess, temperature: float) -> onnx.ModelProto:
        with torch.no_grad():
            head_of(network).bias.add_(torch.tensor([0.0, 0.1, 0.0]))
        return original(network, spec, temperature)

    monkeypatch.setattr(exporting, "to_onnx", other)
    with pytest.raises(PromiseBrokenError, match="answers differently"):
        export(folder)
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize(
    ("device", "difference", "passes"),
    [
        ("ort:cpu", 5e-5, True),
        ("ort:cpu", 1e-3, False),
        ("openvino:NPU", 1e-3, True),  # it computes in float16
        ("openvino:NPU", math.inf, False),  # some answers are no numbers
    ],
)
def test_how_far_answers_may_be_from_the_networks(device: str, difference: float, passes: bool) -> None:
    accuracy = Accuracy(device, "float32", "val", "0" * 64, 200, 0.9, 0.9, 1.0, relative_difference=difference)
    with nullcontext() if passes else pytest.raises(PromiseBrokenError, match="answers differently"):
        exporting._check_parity(Measurement(device, accuracy))


def test_photographs_that_are_gone_or_changed(run_folder: Path, tmp_path: Path, drawn_folder: Path) -> None:
    folder, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(run_folder, folder)
    shutil.copytree(drawn_folder, data)
    document = json.loads((folder / "run.json").read_text())
    document["data"]["path"] = str(data)
    (folder / "run.json").write_text(json.dumps(document))
    validation = json.loads((folder / "splits.json").read_text())["val"][0]["name"]
    (data / validation).write_bytes((data / validation).read_bytes() + b"\0")
    with pytest.raises(MissingError, match="has changed"):
        export(folder)
    (data / validation).unlink()
    with pytest.raises(MissingError, match="is not there") as caught:
        export(folder)
    assert "--data FOLDER" in caught.value.hint
    assert Path(export(folder, data=drawn_folder).float_file).is_file(), "where they are now"


def test_photographs_that_were_moved_and_renamed_are_found_by_content(
    run_folder: Path, tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "model.onnx").unlink()
    run_file = folder / "run.json"
    run_file.write_text(run_file.read_text().replace(str(drawn_folder), "/nowhere"))
    now = tmp_path / "now"
    (now / "deep").mkdir(parents=True)
    for number, photo in enumerate(sorted(drawn_folder.rglob("*.jpg"))):
        shutil.copy(photo, now / "deep" / f"{number}.jpg")
    words = ["export", str(folder), "--quiet"]
    assert run(words) == 3
    assert "--data" in capsys.readouterr().err
    assert run([*words, "--data", str(now)]) == 0
    capsys.readouterr()
    assert read_artifact(folder / "model.onnx").card.accuracy
    for photo in (now / "deep").iterdir():
        photo.write_bytes(photo.read_bytes() + b" changed")
    assert run([*words, "--data", str(now)]) == 3
    assert f"{now}/" in capsys.readouterr().err
    for wrong, said in ((tmp_path / "absent", "is not a folder"), (folder, "holds no photographs")):
        assert run([*words, "--data", str(wrong)]) == 2
        assert said in capsys.readouterr().err


def test_each_photograph_is_read_once(run_folder: Path, tmp_path: Path, drawn_folder: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    opened: Counter[str] = Counter()
    listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open":
            opened[str(arguments[0])] += 1

    sys.addaudithook(hook)  # it cannot be removed again
    done = export(folder)
    listening = False
    seen = {path: opened[path] for path in map(str, drawn_folder.rglob("*.jpg")) if opened[path]}
    assert len(seen) == done.n
    assert set(seen.values()) == {1}


def test_files_of_another_network_do_not_answer_for_the_new_one(
    run_folder: Path, tmp_path: Path, drawn_folder: Path
) -> None:
    deployed = tmp_path / "deploy é"
    others = (
        "model.fp16.onnx",
        "model.int8.onnx",
        "model.int8.openvino.onnx",
        "model.int8.rejected.onnx",
        "model.w8.onnx",
    )
    names = (*others, "model.int8.ort.onnx")
    export(run_folder, out=deployed / "model.onnx", target="ort:cpu")
    card = read_artifact(deployed / "model.onnx").card
    (deployed / "model.tflite").write_bytes(b"of a runtime that is not installed, or no model at all")
    for name in names:
        other = replace(card.source, run_sha256="0" * 64) if name in others else card.source
        tiny_artifact(deployed / name, card.labels, precision="int8", source=other)
    recorder = Recorder()
    export(run_folder, out=deployed / "model.onnx", target="ort:cpu", reporter=recorder)
    assert find_artifact(deployed).name not in others
    assert sorted(path.name for path in deployed.glob("*.older")) == [f"{name}.older" for name in others]
    assert sum("was of an earlier export" in line for line in recorder.warned) == len(others)


def test_folders_that_hold_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a run folder"):
        export(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(BadInputError, match="has not finished"):
        export(tmp_path)


def test_targets_that_cannot_be(run_folder: Path) -> None:
    with pytest.raises(BadInputError, match="PyTorch does not run"):
        export(run_folder, target="torch:cpu")
    with pytest.raises(BadInputError, match="unknown device"):
        export(run_folder, target="tpu")
