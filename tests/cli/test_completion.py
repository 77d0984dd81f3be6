"""What the shell completes, asked as the shell asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from toolchain.backbones import recipes


def _completed(line: str, folder: Path) -> list[str]:
    words = line.split(" ")
    environment = {**os.environ, "_EDGETL_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(words)}
    environment["COMP_CWORD"] = str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-c", "from toolchain.cli import main; main([])"],
        env=environment, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if entry]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("edgetl fine", {"finetune"}),
        ("edgetl data f", {"fetch"}),
        ("edgetl finetune x --model ", {*recipes.names(), "timm:"}),
        ("edgetl finetune x --model mobilenet_v3", {"mobilenet_v3_small", "mobilenet_v3_large"}),
        ("edgetl finetune x --weights r", {"ready-made", "r"}),
        ("edgetl finetune cats", {"cats-vs-dogs", "cats"}),
        ("edgetl data info p", {"pets", "p"}),
        (
            "edgetl predict m.onnx x.jpg --device openvino",
            {f"openvino:{one}" for one in ("CPU", "CPU+bf16", "CPU+f16", "GPU", "NPU", "AUTO")},
        ),
        ("edgetl bench m.onnx --device ort", {"ort:cpu", "ort:cpu+bf16", "ort:cuda", "ort:tensorrt"}),
        ("edgetl explain ideal --class siam", {"Siamese"}),
        ("edgetl explain ideal run --class ", {"cat", "dog"}),
        ("edgetl card re", {"ready-made", "re"}),
        ("edgetl explain features vgg", {"vgg16", "vgg19", "vgg"}),
        ("edgetl explain why model.onnx x.jpg --class r", {"red"}),
        ("edgetl explain why nowhere x.jpg --class r", set()),
    ],
)
def test_completion(line: str, expected: set[str], tmp_path: Path, run_folder: Path) -> None:
    (tmp_path / "run").mkdir()
    document = json.loads((run_folder / "run.json").read_text())
    document["data"]["classes"] = ["cat", "dog"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(document))
    (tmp_path / "run" / "model.safetensors").touch()
    tiny_artifact(tmp_path / "model.onnx")
    assert set(_completed(line, tmp_path)) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from toolchain.cli import main; main([])"],
        env={**os.environ, "_EDGETL_COMPLETE": f"{shell}_source"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "_EDGETL_COMPLETE" in done.stdout
