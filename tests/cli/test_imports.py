"""`edgetl --help` is quick because it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.cli import COMMANDS, root
from toolchain.system.installation import install

HEAVY = (
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "nncf",
    "numpy",
    "scipy",
    "rich",
    "msgspec",
)


def _loaded(*words: str) -> list[str]:
    code = (
        "import sys\n"
        "from toolchain.cli import run\n"
        f"assert run({list(words)!r}) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [str(name) for name in eval(done.stderr.splitlines()[-1])]


def test_help_loads_nothing_heavy() -> None:
    assert _loaded("--help") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_loads_no_runtime(name: str) -> None:
    assert not {"torch", "onnx", "onnxruntime", "openvino", "cv2"} & set(_loaded(name, "--help"))


@pytest.mark.parametrize("words", [["finetune", "pets"], ["export", "run"], ["demo"], ["teach", "cup"]])
def test_a_device_without_the_workshop_is_told_what_to_install(words: list[str]) -> None:
    code = f"import sys; sys.modules['torch'] = None\nfrom toolchain.cli import run\nsys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: this command needs torch, which is not installed",
        f"hint: {install('train')}",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = root.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert (command.help or "").split("\n\n")[0].replace("\n", " ").strip() == COMMANDS[name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetune nosuch", "'nosuch' is neither a known data set nor a folder"),
        ("finetune drawn-pets --weights nosuch.pth", "weights nosuch.pth do not exist"),
        ("finetune drawn-pets --out .", ". is there already and not empty"),
        ("finetune drawn-pets --model nosuch", "unknown model 'nosuch'"),
        ("finetune drawn-pets --model resnet18 --weights ready-made", "those of a mobilenet_v2"),
        ("finetune drawn-pets --outliers nosuch", "--outliers nosuch is no folder"),
        ("finetune --resume nosuch", "nosuch holds nothing to resume"),
        ("teach cup --weights nosuch.pth", "weights nosuch.pth do not exist"),
        ("teach cup --model nosuch", "unknown model 'nosuch'"),
        ("teach cup --source nosuch.mp4 --web 0", "nosuch.mp4 does not exist"),
        ("export nosuch", "nosuch is not a run folder"),
        ("demo --out .", ". is there already and not empty"),
        ("explain ideal nosuch --class cat", "nosuch does not exist"),
        ("explain why ready-made nosuch.jpg", "nosuch.jpg: does not exist"),
        ("explain features nosuch.jpg", "nosuch.jpg: No such file"),
        ("explain features --run nosuch here.txt", "nosuch does not exist"),
        ("explain attack nosuch here.txt", "nosuch does not exist"),
        ("explain features nosuch here.txt", "nosuch does not exist"),
        ("explain attack here.txt here.txt", "here.txt is not a run folder"),
        ("explain attack ready-made nosuch.jpg", "nosuch.jpg: No such file"),
    ],
)
def test_mistakes_are_found_before_torch_is_loaded(words: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "here.txt").touch()
    code = (
        f"import sys\nfrom toolchain.cli import run\ncode = run({words.split()!r})\n"
        "print([name for name in ('torch', 'openvino', 'onnxruntime') if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[0]
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("PIL", "explain ideal --class Siamese --steps 1", "train"),
        ("captum", "explain why ready-made {photo}", "train"),
        ("torchvision", "explain features {photo}", "train"),
        ("safetensors", "explain attack ready-made {photo}", "train"),
        ("av", "camera --source {photo} --headless --record out.mp4", "record"),
        ("onnxruntime", "predict {pets} {photo}", ""),
    ],
)
def test_what_is_not_installed_is_told_with_what_brings_it(
    module: str, words: str, extra: str, tmp_path: Path
) -> None:
    import cv2

    from tests.clips import plain
    from toolchain.runs.ready_made import ready_made_artifact

    cv2.imwrite(str(tmp_path / "photo.png"), plain("red", 64, 64))
    filled = words.format(photo=tmp_path / "photo.png", pets=ready_made_artifact()).split()
    code = f"import sys; sys.modules[{module!r}] = None\nfrom toolchain.cli import run\nsys.exit(run({filled!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    error, hint = [line for line in done.stderr.splitlines() if line.startswith(("error", "hint"))]
    assert module in error or "PyAV" in error
    assert (install(extra) if extra else f"pip install {module}") in hint
    assert not [path for path in tmp_path.rglob("*") if path.name != "photo.png" and path.is_file()]


def test_a_small_device_does_without_openvino_pages_and_windows(tmp_path: Path) -> None:
    import cv2

    from tests.artifacts import tiny_artifact
    from tests.clips import plain

    tiny_artifact(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "photo.png"), plain("red", 64, 64))
    code = (
        "import sys\nsys.modules |= dict.fromkeys(('openvino', 'pygame', 'starlette', 'uvicorn', 'torch'))\n"
        "from toolchain.doctor import missing_packages\nassert missing_packages() == []\n"
        "from toolchain.cli import run\n"
        "assert run(['predict', 'model.onnx', 'photo.png']) == 0\n"
        "assert run(['camera', 'model.onnx', '--source', 'photo.png', '--headless', '--frames', '1']) == 0\n"
        "sys.exit(run(['predict', 'model.onnx', 'photo.png', '--device', 'openvino:CPU']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("red") >= 2
    assert "pip install openvino" in done.stderr
