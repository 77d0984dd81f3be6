"""`edgetl --help` is quick because it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from toolchain.cli import COMMANDS, root

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


@pytest.mark.parametrize("words", [["finetune", "pets"], ["export", "run"], ["demo"]])
def test_a_device_without_the_workshop_is_told_what_to_install(words: list[str]) -> None:
    code = f"import sys; sys.modules['torch'] = None\nfrom toolchain.cli import run\nsys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: this command needs torch, which is not installed",
        "hint: pip install 'edgetl[train]'",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = root.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert (command.help or "").split("\n\n")[0].replace("\n", " ").strip() == COMMANDS[name]
