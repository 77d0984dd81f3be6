"""Words in each other's place: every one is told in one line, with what to type instead."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from artifacts import tiny_artifact

from toolchain.camera.sinks import window
from toolchain.cli import run
from toolchain.cli.swapped import kind_of
from toolchain.errors import ExitCode


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one of each: a photograph, a clip, a model, a run with its model, photographs in classes."""
    monkeypatch.chdir(tmp_path)
    for path in (Path("cat.jpg"), Path("photos/cat/1.jpg"), Path("split/train/cat/1.png")):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    Path("clip.mp4").touch()
    Path("bench.json").touch()
    tiny_artifact(Path("model.onnx"))
    tiny_artifact(Path("run/model.onnx"))
    Path("run/run.json").touch()
    Path("empty").mkdir()


def test_annotations_beside_photographs_are_no_model(tmp_path: Path) -> None:
    """LabelImg writes 1.xml beside 1.jpg."""
    cv2.imwrite(str(tmp_path / "photos/1.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "photos/1.xml").write_text("<annotation/>")
    assert kind_of("photos") == "photographs"
    (tmp_path / "photos/1.bin").touch()
    assert kind_of("photos") == "run"


def test_kinds() -> None:
    kinds = {
        word: kind_of(word)
        for word in (
            "cat.jpg",
            "clip.MP4",
            "m.onnx",
            "m.xml",
            "run",
            "photos",
            "split",
            "empty",
            "bench.json",
            "pets",
        )
    }
    assert list(kinds.values()) == [
        "photograph", "video", "model", "model", "run", "photographs", "photographs", None, "benchmark", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("predict model.onnx clip.mp4", "clip.mp4 is a video", "edgetl camera model.onnx --source clip.mp4"),
        ("predict cat.jpg model.onnx", "cat.jpg is a photograph", "edgetl predict model.onnx cat.jpg"),
        ("predict cat.jpg run photos", "cat.jpg is a photograph", "edgetl predict run cat.jpg photos"),
        ("predict cat.jpg cat.jpg", "cat.jpg is a photograph", "edgetl predict MODEL cat.jpg cat.jpg"),
        ("predict photos cat.jpg", "photos is a folder of photographs", "edgetl predict MODEL photos cat.jpg"),
        ("camera cat.jpg", "cat.jpg is a photograph", "edgetl camera --source cat.jpg"),
        ("camera clip.mp4", "clip.mp4 is a video", "edgetl camera --source clip.mp4"),
        ("camera photos", "photos is a folder of photographs", "edgetl camera --source photos"),
        ("camera 0", "0 is a camera's number", "edgetl camera --source 0"),
        ("camera --source model.onnx", "model.onnx is a model file", "edgetl camera model.onnx"),
        ("camera --source run", "run is the folder of a run", "edgetl camera run"),
        ("bench photos", "photos is a folder of photographs", "edgetl bench MODEL --data photos"),
        ("bench cat.jpg", "cat.jpg is a photograph", "edgetl predict MODEL cat.jpg"),
        ("bench clip.mp4", "clip.mp4 is a video", "edgetl camera MODEL --source clip.mp4"),
        ("bench bench.json", "bench.json is a benchmark", "edgetl bench bench.json --compare OLD.json"),
        ("bench model.onnx --compare run", "run holds no bench.json", "Name a bench.json"),
        ("card cat.jpg", "cat.jpg is a photograph", "edgetl predict MODEL cat.jpg"),
        ("card clip.mp4", "clip.mp4 is a video", "edgetl camera MODEL --source clip.mp4"),
        ("export run/model.onnx", "run/model.onnx is a model file", "edgetl export run"),
        ("export model.onnx", "model.onnx is a model file", "edgetl finetune PHOTOS --out RUN"),
        ("export photos", "photos is a folder of photographs", "edgetl finetune photos"),
        ("export cat.jpg", "cat.jpg is a photograph", "edgetl finetune PHOTOS"),
        ("explain why cat.jpg run", "cat.jpg is a photograph", "edgetl explain why run cat.jpg"),
        ("explain why run clip.mp4", "clip.mp4 is a video", "edgetl camera run --source clip.mp4"),
        ("explain attack cat.jpg run", "cat.jpg is a photograph", "edgetl explain attack run cat.jpg"),
        ("explain attack run/model.onnx cat.jpg", "run/model.onnx is a deployed file", "exported from: run."),
        ("explain ideal cat.jpg --class cat", "cat.jpg is a photograph", "edgetl explain why MODEL IMAGE"),
        ("explain ideal run/model.onnx --class cat", "run/model.onnx is a deployed file", "exported from: run."),
        ("explain features run", "run is a network", "edgetl explain features run IMAGE"),
        ("explain features model.onnx", "model.onnx is a network", "features model.onnx IMAGE"),
        ("explain features vgg16", "vgg16 is a network", "edgetl explain features vgg16 IMAGE"),
        ("explain features cat.jpg run", "cat.jpg is a photograph", "edgetl explain features run cat.jpg"),
        ("explain features run vgg16 cat.jpg", "run and vgg16 are 2 networks", "features MODEL IMAGE"),
        ("explain features run clip.mp4", "clip.mp4 is a video", "edgetl camera run --source clip.mp4"),
    ],
    ids=lambda value: value if " " in value and value.split()[0].islower() else "",
)  # fmt: skip
def test_words_in_each_others_place(
    words: str, message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    error, told = shown.err.splitlines()
    assert message in error
    assert hint in told
    assert shown.out == ""


def test_a_source_that_is_not_there_is_told_before_the_display_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_window(*_: object, **__: object) -> None:
        raise AssertionError("the window was opened first")

    monkeypatch.setattr(window, "Window", no_window)
    for words in ("camera --source nosuch.mp4", "camera model.onnx --source no/such/folder"):
        assert run(words.split()) == ExitCode.BAD_INPUT
        assert f"{words.split()[-1]} does not exist" in capsys.readouterr().err


def test_files_that_fit_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "model.onnx", "cat.jpg", "photos"]) == ExitCode.DONE
    assert run(["card", "run"]) == ExitCode.DONE
    assert run(["camera", "run", "--source", "cat.jpg", "--headless", "--frames", "1"]) == ExitCode.DONE
    capsys.readouterr()


def test_a_folder_with_a_benchmark_is_what_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/bench-1").mkdir()
    Path("bench.json").rename("run/bench-1/bench.json")
    assert run(["bench", "model.onnx", "--compare", "run"]) == ExitCode.BAD_INPUT
    assert "the newest: run/bench-1/bench.json" in capsys.readouterr().err
    assert run(["bench", "model.onnx", "--compare", "run/bench-1"]) == ExitCode.BAD_INPUT
    assert "run/bench-1/bench.json is no bench.json" in capsys.readouterr().err
