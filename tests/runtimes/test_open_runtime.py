from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bench_support import SIDE, artifact_that_loads_slowly, colour_artifact
from numpy.typing import NDArray

from toolchain import runtimes
from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, BadInputError, MissingError
from toolchain.runtimes import Infer, onnxruntime, open_runtime
from toolchain.runtimes.openvino import _models

DEVICES = (
    "ort:cpu",
    "openvino:CPU",
    "openvino:AUTO",
    "openvino:HETERO:CPU",
    "openvino:BATCH:CPU",
    "openvino:MULTI:CPU",
    pytest.param("ncnn:cpu", marks=pytest.mark.skipif(find_spec("ncnn") is None, reason="ncnn is not installed")),
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return colour_artifact(tmp_path_factory.mktemp("runtimes") / "model.onnx")


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def test_streams_of_openvino_are_not_bound_to_the_same_core() -> None:
    configs: list[dict[str, object]] = []

    def compiled(config: dict[str, object], batch: int) -> None:
        configs.append(config)
        raise ArtifactError("enough")

    for models in _models(compiled, "CPU", 4, 2):  # type: ignore[arg-type]
        with pytest.raises(ArtifactError):
            models(1)
    assert [(one["INFERENCE_NUM_THREADS"], one["ENABLE_CPU_PINNING"]) for one in configs] == [(2, False)] * 2


@pytest.mark.parametrize("device", DEVICES)
def test_answers_are_right_for_any_batch(artifact: Artifact, device: str) -> None:
    runtime = open_runtime(artifact, device, threads=1)
    assert runtime.device == device
    assert "CPU" in runtime.provider_effective
    for count in (1, 3, 2):
        images = pictures(count)
        colour = images.mean((1, 2))
        logits = (colour - colour.mean(1, keepdims=True)) * 0.05
        weights = np.exp(logits - logits.max(1, keepdims=True))
        answer = runtime.infer(images)
        assert (answer.logits.dtype, answer.probabilities.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(answer.logits, logits, atol=1e-4)
        np.testing.assert_allclose(answer.probabilities, weights / weights.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_belong_to_the_caller(artifact: Artifact, device: str) -> None:
    runtime = open_runtime(artifact, device, threads=1)
    first = runtime.infer(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    second = runtime.infer(np.full((1, SIDE, SIDE, 3), (255, 0, 0), np.uint8))
    assert first.logits.tolist() == [[0.0, 0.0, 0.0]]
    assert second.logits.argmax() == 0


@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU"])
def test_a_file_that_takes_too_long_to_load_is_refused(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = artifact_that_loads_slowly(tmp_path / "model.onnx")
    monkeypatch.setattr(runtimes, "CPU_LOADING_LIMIT_S", 0.02)
    with pytest.raises(MissingError, match=f"was not ready on {device} after 0.02 s"):
        open_runtime(slow, device, threads=1)
    monkeypatch.undo()
    assert open_runtime(slow, device, threads=1).infer(pictures(1)).logits.shape == (1, 3)


def test_threads_are_those_asked_for(artifact: Artifact) -> None:
    for device in ("ort:cpu", "openvino:CPU"):
        assert open_runtime(artifact, device, threads=1).threads == 1
        assert open_runtime(artifact, device).threads >= 1


def test_int8_runs_only_where_it_was_proven(tmp_path: Path) -> None:
    int8 = colour_artifact(tmp_path / "model.int8.onnx", int8_on=["ort:cpu"])
    assert open_runtime(int8, "ort:cpu", threads=1).infer(pictures(1)).logits.shape == (1, 3)
    with pytest.raises(BadInputError, match=r"proven on ort:cpu, not on openvino:CPU") as raised:
        open_runtime(int8, "openvino:CPU")
    assert "--device ort:cpu" in raised.value.hint
    runtime = open_runtime(int8, "openvino:CPU", threads=1, unproven=True)
    assert runtime.infer(pictures(1)).logits.shape == (1, 3)


def test_devices_that_are_not_here(artifact: Artifact) -> None:
    with pytest.raises(BadInputError, match="unknown device"):
        open_runtime(artifact, "ort:gpu")
    with pytest.raises(MissingError, match="NOTHING"):
        open_runtime(artifact, "openvino:HETERO:NOTHING")


def test_a_runtime_tells_what_it_really_runs(artifact: Artifact) -> None:
    ort = open_runtime(artifact, "ort:cpu", threads=1).execution
    assert set(ort.nodes) <= {"CPUExecutionProvider"}
    openvino = open_runtime(artifact, "openvino:CPU", threads=1, batch=3).execution
    assert (openvino.hint, openvino.inference_precision, openvino.static) == ("LATENCY", "f32", True)
    assert openvino.nodes["f32"] >= 1


@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU", "openvino:AUTO"])
@pytest.mark.parametrize("batch", [1, 2])
def test_streams_answer_at_once_and_as_one_does(artifact: Artifact, device: str, batch: int) -> None:
    runtime = open_runtime(artifact, device, threads=2)
    images = [np.roll(pictures(batch), shift, axis=3) for shift in range(3)]
    expected = [runtime.infer(each).logits for each in images]
    streams = runtime.streams(2, batch)
    assert len(streams) == 2

    def run(stream: Infer) -> list[np.ndarray]:
        return [stream(each).logits for _ in range(20) for each in images]

    with ThreadPoolExecutor(2) as pool:
        for logits in pool.map(run, streams):
            np.testing.assert_allclose(logits, expected * 20, atol=1e-5)


def test_pictures_of_another_size_are_refused(artifact: Artifact) -> None:
    runtime = open_runtime(artifact, "openvino:CPU", threads=1)
    with pytest.raises(ValueError, match="images are"):
        runtime.infer(np.zeros((1, SIDE + 1, SIDE, 3), np.uint8))


@pytest.mark.parametrize(
    ("device", "library", "reason"),
    [
        ("ort:cpu", "onnxruntime", "ONNX Runtime (onnxruntime) is not installed"),
        ("openvino:CPU", "openvino", "OpenVINO is not installed"),
        ("torch:cpu", "torch", "PyTorch is not installed"),
    ],
)
def test_a_library_that_is_not_here_is_named(artifact: Artifact, device: str, library: str, reason: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
import toolchain
from toolchain.errors import MissingError
try:
    toolchain.load({str(artifact.path)!r}, {device!r})
except MissingError as error:
    print(error.message, error.hint, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    message, hint = done.stdout.strip().split("|")
    assert (message, hint[:11]) == (f"{device}: {reason}", "pip install"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_library_that_cannot_be_loaded_is_told_so(artifact: Artifact) -> None:
    """As where memory is short: the loader cannot map it."""
    (artifact.path.parent / "x.png").touch()
    code = f"""
import importlib.abc, importlib.machinery, sys
class Broken(importlib.abc.Loader):
    def create_module(self, spec): return None
    def exec_module(self, module): raise ImportError("libopenvino.so: failed to map segment from shared object")
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, Broken()) if name == "openvino" else None
sys.meta_path.insert(0, Finder())
from toolchain.cli import run
photograph = {str(artifact.path.parent / "x.png")!r}
sys.exit(run(["predict", {str(artifact.path)!r}, photograph, "--device", "openvino:CPU"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "it does not start here" in done.stderr) == (3, True), done.stderr


def test_an_older_onnxruntime_tells_by_a_profile_what_ran(artifact: Artifact) -> None:
    """Before 1.24 a session does not say which provider was given which node."""
    cpu = onnxruntime.PROVIDERS["cpu"]
    ran = onnxruntime._profiled(artifact, [("AzureExecutionProvider", {}), (cpu, {})])
    assert set(ran) == {cpu}
    assert ran[cpu] >= 1
