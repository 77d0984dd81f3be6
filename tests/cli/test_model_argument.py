"""A network has one set of names, whichever command is asked about it."""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from artifacts import tiny_artifact

from toolchain.cli import root, run
from toolchain.cli.model_argument import ModelArgument, ModelName
from toolchain.errors import BadInputError
from toolchain.runs.ready_made import READY_MADE, ready_made_artifact

TAKERS = {
    "predict": "edgetl predict {model} cat.jpg",
    "card": "edgetl card {model}",
    "bench": "edgetl bench {model}",
    "camera": "edgetl camera {model} --source cat.jpg --headless",
    "explain ideal": "edgetl explain ideal {model} --class cat",
    "explain why": "edgetl explain why {model} cat.jpg",
    "explain features": "edgetl explain features {model} cat.jpg",
    "explain attack": "edgetl explain attack {model} cat.jpg",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cat.jpg").touch()
    Path("runs/flowers").mkdir(parents=True)
    tiny_artifact(Path("model.onnx"))
    tiny_artifact(Path("runs/flowers/model.onnx"))


def test_what_a_word_names() -> None:
    words = ("runs/flowers", "model.onnx", "ready-made", "nothing", "vgg16", "timm:tf_efficientnet_lite0")
    kinds = ["folder", "file", "ready-made", "missing", "published", "published"]
    assert [ModelName.of(word).kind for word in words] == kinds
    assert ModelName.of(READY_MADE).artifact_file() == ready_made_artifact()
    Path("vgg16").mkdir()
    Path("ready-made").touch()
    assert [ModelName.of(word).kind for word in ("vgg16", "ready-made")] == ["folder", "file"], (
        "what is here is first"
    )


def test_files_and_classes_of_a_network() -> None:
    for word in ("runs/flowers", "runs/flowers/model.onnx"):
        model = ModelName.of(word)
        assert [model.artifact_file()] == model.artifact_files() == [Path("runs/flowers/model.onnx")]
        assert model.labels() == ("red", "green", "blue")
    assert "Siamese" in ModelName.of(READY_MADE).labels()
    with pytest.raises(BadInputError, match="has no gradients") as raised:
        ModelName.of("runs/flowers/model.onnx").run_folder()
    assert "run folder" in raised.value.hint


@pytest.mark.parametrize("command", TAKERS)
@pytest.mark.parametrize(
    ("model", "error", "hint"),
    [
        ("flowers", "flowers does not exist", "Did you mean runs/flowers?"),
        ("modle.onnx", "modle.onnx does not exist", "Did you mean model.onnx?"),
        ("readymade", "readymade does not exist", "Did you mean ready-made?"),
        ("xyzzy", "xyzzy does not exist", "Name a run folder, a model file, or ready-made."),
        ("https://host/model.onnx", " takes a file or folder of this machine", "edgetl camera --source"),
    ],
)
def test_the_same_error_in_every_command(
    command: str, model: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TAKERS[command].format(model=model).split()[1:]) == 2
    said, advised = capsys.readouterr().err.splitlines()
    assert error in said
    assert hint in advised


@pytest.mark.parametrize("command", ["predict", "card", "bench", "camera"])
def test_a_published_network_is_adopted_before_it_is_deployed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TAKERS[command].format(model="vgg16").split()[1:]) == 2
    said = capsys.readouterr().err
    assert "edgetl adopt vgg16 --out RUN" in said
    assert "edgetl finetune PHOTOS --model vgg16" in said


@pytest.mark.parametrize("command", ["explain ideal", "explain why", "explain attack"])
@pytest.mark.parametrize("as_option", [False, True])
def test_a_published_network_is_explained_with_its_head_only(
    command: str, as_option: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cat.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes())
    words = TAKERS[command].format(model="--model resnet18" if as_option else "resnet18").split()[1:]
    assert run([*words, "--weights", "none"]) == 2
    assert "the weights none bring no head that fits resnet18" in capsys.readouterr().err


@pytest.mark.parametrize("command", TAKERS)
def test_help_says_the_same_of_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "MODEL is a run folder" in told
    assert "ready-made (the classifier of cat and dog breeds that comes with edgetl)" in told


def test_no_other_argument_names_a_network() -> None:
    def arguments(command: click.Command, context: click.Context, path: str) -> dict[str, list[click.Parameter]]:
        if isinstance(command, click.Group):
            found: dict[str, list[click.Parameter]] = {}
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                found |= arguments(below, context, f"{path} {name}".strip())
            return found
        return {path: [one for one in command.params if isinstance(one.type, ModelArgument)]}

    with click.Context(root) as context:
        takers = {name for name, found in arguments(root, context, "").items() if found}
    assert takers == set(TAKERS)
