from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.artifacts import tiny_artifact
from toolchain.errors import BadInputError
from toolchain.runtimes import ncnn, onnxruntime, openvino, torch
from toolchain.runtimes.devices import (
    canonical,
    cores,
    cpu_name,
    discover,
    expand,
    known_devices,
    parse_device,
    probe,
)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ort:cpu", ("ort", "cpu")),
        ("openvino:GPU.1", ("openvino", "GPU.1")),
        ("openvino:HETERO:GPU,CPU", ("openvino", "HETERO:GPU,CPU")),
        ("torch:cuda:1", ("torch", "cuda:1")),
        ("ort:cuda:1", ("ort", "cuda:1")),
        ("torch:cpu+bf16+compile", ("torch", "cpu+bf16+compile")),
        ("openvino:CPU+bf16", ("openvino", "CPU+bf16")),
        ("openvino:GPU.1+f16", ("openvino", "GPU.1+f16")),
        ("ort:cpu+bf16", ("ort", "cpu+bf16")),
        ("ncnn:cpu+f16", ("ncnn", "cpu+f16")),
    ],
)
def test_names_are_split_into_runtime_and_target(name: str, parts: tuple[str, str]) -> None:
    assert parse_device(name) == parts


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("openvino:cpu", "openvino:CPU"),
        ("OpenVINO:Cpu", "openvino:CPU"),
        ("openvino:gpu.1", "openvino:GPU.1"),
        ("openvino:hetero:gpu,cpu", "openvino:HETERO:GPU,CPU"),
        ("ORT:CPU", "ort:cpu"),
        (" ort:TensorRT", "ort:tensorrt"),
        ("Torch:CUDA:1", "torch:cuda:1"),
        ("torch:CPU+BF16+Compile", "torch:cpu+bf16+compile"),
        ("OpenVINO:cpu+BF16", "openvino:CPU+bf16"),
        ("ORT:CPU+BF16", "ort:cpu+bf16"),
        ("NCNN:CPU", "ncnn:cpu"),
    ],
)
def test_small_letters_and_capitals_are_the_same(name: str, written: str) -> None:
    assert canonical(name) == written
    assert expand([name, written]) == [written]
    assert parse_device(name) == parse_device(written)


def test_every_device_is_found_in_small_letters() -> None:
    assert [canonical(name.lower()) for name in known_devices()] == list(known_devices())
    assert expand(["ALL"]) == list(known_devices())
    assert probe("openvino:cpu").available


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cpu",
        "ort",
        "ort:",
        "ort:gpu",
        "openvino:",
        "torch:tpu",
        "tflite:cpu",
        "all",
        "ort:cpu+f16",
        "ort:cuda+bf16",
        "ort:cpu:1",
        "ort:cuda:x",
        "torch:cuda:x",
        "ncnn:gpu",
        "ncnn:cpu+bf16",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="unknown device") as caught:
        parse_device(name)
    assert "ort:cpu" in caught.value.hint


def test_ways_of_running_that_pytorch_has_not() -> None:
    with pytest.raises(BadInputError, match="no way called fast, int4"):
        parse_device("torch:cpu+int4+fast")
    assert "only CUDA has graphs" in probe("torch:cpu+graph").reason


def test_a_provider_that_is_listed_and_gets_no_session_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["TensorrtExecutionProvider", *onnxruntime._library().get_available_providers()]
    monkeypatch.setattr(onnxruntime._library(), "get_available_providers", lambda: listed)
    found = probe("ort:tensorrt")
    assert not found.available
    assert "the libraries or the GPU that it needs are not here" in found.reason
    assert onnxruntime._opens("CPUExecutionProvider")


def test_all_stands_for_every_known_device_once() -> None:
    assert expand(["all"]) == list(known_devices())
    assert expand(["torch:cpu", "all", "torch:cpu"]) == [
        "torch:cpu",
        *(name for name in known_devices() if name != "torch:cpu"),
    ]
    assert expand([]) == []
    with pytest.raises(BadInputError):
        expand(["ort:cpu", "nonsense"])


def test_every_known_device_is_here_or_says_why_not() -> None:
    found = discover()
    assert [device.name for device in found] == list(known_devices())
    assert {device.name for device in found if device.available} >= {"ort:cpu", "openvino:CPU"}
    assert all(device.available != bool(device.reason) for device in found)


@pytest.mark.parametrize(
    ("name", "module"),
    [("ort:cpu", onnxruntime), ("openvino:CPU", openvino), ("torch:cpu", torch), ("ncnn:cpu", ncnn)],
)
def test_runtime_that_is_not_installed(name: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda module: None)
    found = probe(name)
    assert not found.available
    assert "not installed" in found.reason
    assert found.install.startswith("pip install")


def test_composed_openvino_devices_need_all_their_parts() -> None:
    assert probe("openvino:HETERO:CPU").available
    assert "no NOTHING" in probe("openvino:HETERO:NOTHING,CPU").reason


def test_processor_has_cores_and_a_name() -> None:
    assert cores() >= 1
    assert cpu_name()


PI = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (4 * PI, "Cortex-A76"),
        (PI.replace("0xd0b", "0xd05") + PI, "Cortex-A55 + Cortex-A76"),
        (PI.replace("0x41", "0x61"), "Arm 0x61 0xd0b"),
        (PI + "model name\t: Some CPU\n", "Some CPU"),
    ],
)
def test_arm_has_names_of_cores(cpuinfo: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux gives none there, and "aarch64" would make all boards one."""
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: cpuinfo)
    assert cpu_name() == name


def test_gpus_compute_float32_as_it_is_and_tensorrt_has_cuda_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "cache_folder", lambda: tmp_path / "cache")
    artifact = tiny_artifact(tmp_path / "model.onnx")
    cuda = ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})
    assert onnxruntime.providers_of("cuda:1", artifact) == [cuda]
    (name, options), behind = onnxruntime.providers_of("tensorrt:1", artifact)
    assert (name, behind) == ("TensorrtExecutionProvider", cuda)
    assert options["device_id"] == "1"
    assert options["trt_engine_cache_enable"] == "1"
    assert Path(options["trt_engine_cache_path"]).is_dir()
    assert onnxruntime.providers_of("cpu", artifact) == [("CPUExecutionProvider", {})]
