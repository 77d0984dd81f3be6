"""LiteRT as a device: right answers for any number of pictures and threads, and nothing said unasked."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("ai_edge_litert")

import toolchain
from tests.artifacts import tiny_artifact, tiny_tflite
from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, BadInputError
from toolchain.runtimes import default_device, litert, open_runtime
from toolchain.runtimes.devices import probe


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_tflite(tmp_path_factory.mktemp("litert") / "model.tflite")


def _pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)


def _expected(tmp_path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return open_runtime(tiny_artifact(tmp_path / "model.onnx"), "ort:cpu", threads=1).infer(images).logits


def test_device_is_here_and_the_files_own() -> None:
    assert probe("LiteRT:CPU").available
    with pytest.raises(BadInputError, match="unknown device"):
        probe("litert:gpu")


def test_answers_are_those_of_onnx_runtime_for_any_batch(artifact: Artifact, tmp_path: Path) -> None:
    assert default_device(artifact) == "litert:cpu"
    runtime = open_runtime(artifact, "litert:cpu", threads=2)
    assert (runtime.device, runtime.threads, runtime.provider_effective) == ("litert:cpu", 2, "XNNPACK")
    for count in (1, 3, 2, 1):
        images = _pictures(count)
        answer = runtime.infer(images)
        assert (answer.logits.dtype, answer.probabilities.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(answer.logits, _expected(tmp_path, images), atol=1e-4)
        np.testing.assert_allclose(answer.probabilities.sum(1), 1, atol=1e-6)


def test_after_more_than_fits_it_takes_what_it_took_before(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = litert._Interpreter(
        litert.write(litert.read_network(artifact.model, artifact.path), {}), artifact, 1
    )
    before = interpreter(_pictures(2))
    allocate = type(interpreter._interpreter).allocate_tensors

    def no_room(self: object) -> None:
        raise RuntimeError("arena.cc:1 there is no memory for that")

    with monkeypatch.context() as patch:
        patch.setattr(type(interpreter._interpreter), "allocate_tensors", no_room)
        with pytest.raises(ArtifactError, match="no memory"):
            interpreter(_pictures(3))
    assert type(interpreter._interpreter).allocate_tensors is allocate
    np.testing.assert_array_equal(interpreter(_pictures(2)).logits, before.logits)


def test_nothing_needs_to_be_written_to_open_it(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose disk is read-only."""

    def read_only() -> None:
        raise FileNotFoundError("no usable temporary directory found")

    monkeypatch.setattr(litert, "TemporaryFile", read_only)
    open_runtime(artifact, "litert:cpu", threads=1).infer(_pictures(1))


def test_answers_belong_to_the_caller(artifact: Artifact) -> None:
    runtime = open_runtime(artifact, "litert:cpu", threads=1)
    first = runtime.infer(np.zeros((1, 32, 32, 3), np.uint8))
    before = first.logits.copy()
    runtime.infer(np.full((1, 32, 32, 3), (255, 0, 0), np.uint8))
    np.testing.assert_array_equal(first.logits, before)


@pytest.mark.parametrize("pictures", [np.zeros((1, 32, 31, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float32)])
def test_other_pictures_are_refused(artifact: Artifact, pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        open_runtime(artifact, "litert:cpu", threads=1).infer(pictures)


def test_many_threads_get_the_answers_to_their_own_pictures(artifact: Artifact, tmp_path: Path) -> None:
    runtime = open_runtime(artifact, "litert:cpu", threads=2)
    pictures = [_pictures(count) for count in (1, 2, 3, 4)] * 20
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(runtime.infer, pictures))
    for images, answer in zip(pictures[:4], answers[-4:], strict=True):
        np.testing.assert_allclose(answer.logits, _expected(tmp_path, images), atol=1e-4)
    assert len(runtime.streams(2, 1)) == 2


def test_a_program_loads_it_by_its_name_alone(artifact: Artifact) -> None:
    red = np.full((40, 50, 3), (250, 10, 10), np.uint8)
    assert toolchain.load(artifact.path).predict(red).label == "red"


@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU"])
def test_each_runtime_has_its_files(artifact: Artifact, tmp_path: Path, device: str) -> None:
    with pytest.raises(BadInputError, match=rf"model\.tflite does not run on {device}") as caught:
        open_runtime(artifact, device)
    assert "litert:cpu" in caught.value.hint
    with pytest.raises(BadInputError, match=r"LiteRT runs \.tflite files"):
        open_runtime(tiny_artifact(tmp_path / "model.onnx"), "litert:cpu")


def test_what_litert_cannot_load_is_told(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "write", lambda network, metadata: b"\0" * 64)
    with pytest.raises(ArtifactError, match="LiteRT cannot load it"):
        open_runtime(artifact, "litert:cpu")


def test_nothing_is_said_unasked_and_the_rest_of_stderr_stays(artifact: Artifact) -> None:
    code = (
        "import os, sys, pathlib; from toolchain.artifact import read_artifact; "
        "from toolchain.runtimes import litert, open_runtime\n"
        "open_runtime(read_artifact(pathlib.Path(sys.argv[1])), 'litert:cpu')\n"
        "with litert._quiet(): os.write(2, b'heard\\n')\n"
        "print('said', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact.path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "heard\nsaid\n")
