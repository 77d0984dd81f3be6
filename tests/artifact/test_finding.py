"""Which model files a folder stands for, and on which devices a file is proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import tiny_card
from toolchain.artifact import find_artifact, find_artifacts
from toolchain.errors import ArtifactError


def test_int8_is_proven_where_it_was_measured_and_float_everywhere() -> None:
    assert tiny_card(runtimes=()).proven_on("torch:cpu")
    int8 = tiny_card(precision="int8", runtimes=("ort:cpu",))
    assert int8.proven_on("ort:cpu")
    assert not int8.proven_on("openvino:CPU")


@pytest.mark.parametrize(
    ("proven", "device", "may_run"),
    [
        ("ort:cpu", "ort:cuda", False),
        ("ort:cpu", "ort:tensorrt", False),
        ("openvino:CPU", "openvino:GPU", False),
        ("openvino:CPU", "openvino:NPU", False),
        ("openvino:CPU", "openvino:AUTO", False),
        ("openvino:CPU", "openvino:HETERO:GPU,CPU", False),
        ("openvino:HETERO:GPU,CPU", "openvino:CPU", False),
        ("openvino:HETERO:GPU,CPU", "openvino:GPU", False),
        ("openvino:HETERO:GPU,CPU", "openvino:hetero:gpu,cpu", True),
        ("openvino:GPU", "openvino:GPU.1", True),
        ("ort:cuda", "ort:cuda:1", True),
        ("openvino:CPU", "openvino:cpu", True),
        ("openvino:CPU", "openvino:CPU+bf16", False),
        ("openvino:CPU+bf16", "openvino:CPU+bf16", True),
        ("openvino:CPU+bf16", "openvino:CPU+f16", False),
        ("ort:cpu", "ort:cpu+bf16", False),
    ],
)
def test_int8_of_a_cpu_is_not_proven_on_a_gpu(proven: str, device: str, may_run: bool) -> None:
    assert tiny_card(precision="int8", runtimes=(proven,)).proven_on(device) == may_run
    if proven.split(":")[0] == device.split(":")[0]:
        assert tiny_card(precision="float16", runtimes=(proven,)).proven_on(device), "computed in floats"


def test_folder_stands_for_its_int8_file_then_its_float_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert find_artifact(tmp_path).name == "model.onnx"
    (tmp_path / "model.int8.onnx").touch()
    assert find_artifact(tmp_path).name == "model.int8.onnx"
    assert find_artifact(tmp_path / "other.onnx") == tmp_path / "other.onnx", "a file stands for itself"


def test_folder_stands_for_all_its_files_the_float_one_first(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.int8.onnx", "model.int8.ort.onnx", "other.onnx"):
        (tmp_path / name).touch()
    names = ["model.onnx", "model.int8.onnx", "model.int8.ort.onnx"]
    assert [path.name for path in find_artifacts(tmp_path)] == names
    assert find_artifacts(tmp_path / "other.onnx") == [tmp_path / "other.onnx"]


@pytest.mark.parametrize(
    ("holds", "hint"),
    [
        ("run.json", "edgetl export"),  # a run of an edgetl that left no model.onnx
        ("checkpoint/state.safetensors", "edgetl finetune --resume"),
        ("cat/1.jpg", "edgetl finetune"),
    ],
)
def test_folder_without_a_model_file_says_what_would_make_one(tmp_path: Path, holds: str, hint: str) -> None:
    folder = tmp_path / "two words"
    (folder / holds).parent.mkdir(parents=True)
    (folder / holds).touch()
    for find in (find_artifact, find_artifacts):
        with pytest.raises(ArtifactError, match=r"holds no model\.onnx") as raised:
            find(folder)
        assert f"{hint} '{folder}'" in raised.value.hint
