"""A run as OpenVINO's own files: the same card, the same answers, and other programs can open them."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest

from tests.artifacts import tiny_artifact
from toolchain.artifact import read_artifact
from toolchain.export.variants import make_ir, write_ir
from toolchain.runtimes import open_runtime

BENCHMARK_APP = shutil.which("benchmark_app", path=sysconfig.get_path("scripts")) or shutil.which("benchmark_app")


@pytest.fixture(scope="module")
def converted(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and model.int8.onnx of a run, and both as OpenVINO's files."""
    folder = tmp_path_factory.mktemp("ir")
    for name in ("model.onnx", "model.int8.onnx"):
        shutil.copy(exported / name, folder)
        artifact = read_artifact(folder / name)
        write_ir(make_ir(artifact.model, artifact.card, artifact.path.with_suffix(".xml")))
    return folder


@pytest.mark.parametrize("name", ["model", "model.int8"])
def test_card_and_answers_are_those_of_the_onnx_file(converted: Path, name: str) -> None:
    onnx_file, ir = (read_artifact(converted / f"{name}{suffix}") for suffix in (".onnx", ".xml"))
    assert ir.card == onnx_file.card
    spec = ir.card.preprocess
    images = np.random.default_rng(5).integers(0, 256, (5, spec.height, spec.width, 3), np.uint8)
    answers = [open_runtime(artifact, "openvino:CPU").infer(images) for artifact in (onnx_file, ir)]
    np.testing.assert_allclose(answers[1].logits, answers[0].logits, rtol=1e-5, atol=1e-5)


def test_contract_stands_for_those_who_read_it_with_openvino(converted: Path) -> None:
    model = openvino.Core().read_model(converted / "model.xml")
    [image] = model.inputs
    assert (image.any_name, str(image.partial_shape), str(image.element_type)) == (
        "image",
        "[?,64,64,3]",
        "<Type: 'uint8_t'>",
    )
    assert [output.any_name for output in model.outputs] == ["logits", "probabilities"]
    card = model.get_rt_info("edgetl.card").astype(str)
    assert card.startswith('{"schema":"edgetl.card/1"')
    assert (converted / "model.xml").read_text(encoding="utf-8").count("<edgetl.card ") == 1


def test_half_stores_float16(tmp_path: Path) -> None:
    source = tiny_artifact(tmp_path / "model.onnx", labels=[str(label) for label in range(100)])
    plain = make_ir(source.model, source.card, tmp_path / "model.xml")
    half = make_ir(source.model, source.card, tmp_path / "model.xml", fp16=True)
    assert len(half.weights) < 0.6 * len(plain.weights)
    assert list(tmp_path.iterdir()) == [source.path], "nothing is written yet"


def test_a_network_replaced_without_its_weights_is_refused(tmp_path: Path) -> None:
    """Two files cannot be renamed at once: whichever came first, the pair is found out until both are there."""
    from toolchain.errors import ArtifactError

    path = tmp_path / "model.xml"
    for scale in (0.05, 0.06):
        source = tiny_artifact(tmp_path / "model.onnx", scale=scale)
        artifact = make_ir(source.model, source.card, path)
        if scale == 0.05:
            write_ir(artifact)
    path.write_bytes(artifact.model)
    with pytest.raises(ArtifactError, match=r"model\.bin does not hold the weights"):
        read_artifact(path)
    write_ir(replace(artifact))
    assert read_artifact(path) == artifact


@pytest.mark.skipif(BENCHMARK_APP is None, reason="benchmark_app is not installed")
@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "model.xml", "model.int8.xml"])
def test_benchmark_app_runs_each_file(converted: Path, name: str) -> None:
    words = ["-m", converted / name, "-d", "CPU", "-hint", "latency", "-niter", "5"]
    done = subprocess.run(
        [str(BENCHMARK_APP), *map(str, words), "-shape", "image[1,64,64,3]"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=converted,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Throughput:" in done.stdout
