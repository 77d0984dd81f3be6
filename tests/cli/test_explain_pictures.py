"""`edgetl explain ideal`, `features` and `why` at the command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from toolchain.cli import run
from toolchain.images.preprocess import read


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path) -> Path:
    """The current folder, with run/ (classes cat, dog, fish), tiny.onnx, red.png and broken.jpg."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, tmp_path / "run")
    tiny_artifact(tmp_path / "tiny.onnx")
    cv2.imwrite("red.png", np.full((40, 60, 3), (30, 30, 220), np.uint8))
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return tmp_path


def _explain(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["explain", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_ideal_writes_pictures_and_a_page_and_tells_the_numbers(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ideal", "run", "--class", "CAT", "--class", "fish", "--steps", "6", "--gif", "--octaves", "1")
    code, out, _ = _explain(capsys, *words, "--json", "--quiet")
    assert code == 0
    document = json.loads(out)
    assert document["folder"] == "explain/ideal-1"
    assert sorted(document["files"]) == sorted(path.name for path in Path("explain/ideal-1").iterdir())
    assert {"cat.png", "fish.png", "sheet.png", "cat-descent.gif", "index.html"} <= set(document["files"])
    assert [one["label"] for one in document["classes"]] == ["cat", "fish"]
    for one in document["classes"]:
        assert len(one["loss"]) == len(one["logit"]) == 6
        assert read(Path("explain/ideal-1") / one["file"]).shape == (64, 64, 3)
        assert 0 <= one["shifted_jpeg75"] <= 1
    # Each picture and film once: the sheet, which shows them all again, is a file beside the page.
    assert Path("explain/ideal-1/index.html").read_text(encoding="utf-8").count("<img") == 4
    sheet = read(Path("explain/ideal-1/sheet.png"))
    assert np.array_equal(sheet[:, :64], read(Path("explain/ideal-1/cat.png")))
    assert np.array_equal(sheet[:, 72:], read(Path("explain/ideal-1/fish.png")))


@pytest.mark.slow
def test_the_probability_told_is_that_of_the_deployed_pipeline(
    place: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = _explain(capsys, "ideal", str(exported), "--class", "dog", "--steps", "20", "--json", "--quiet")
    (told,) = json.loads(out)["classes"]
    picture = str(Path("explain/ideal-1") / told["file"])
    assert run(["predict", str(exported / "model.onnx"), picture, "--top", "3", "--json", "--quiet"]) == 0
    top = json.loads(capsys.readouterr().out)["predictions"][0]["top"]
    deployed = {one["label"]: one["probability"] for one in top}["dog"]
    assert told["probability"] == pytest.approx(deployed, abs=1e-3)


def test_the_same_seed_writes_the_same_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("3", "3", "4"):
        assert _explain(capsys, "ideal", "run", "--class", "cat", "--steps", "4", "--seed", seed, "--quiet")[0] == 0
    first, again, other = (Path(f"explain/ideal-{n}/cat.png").read_bytes() for n in (1, 2, 3))
    assert first == again != other


def test_features_of_a_run_and_of_a_published_network(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _explain(capsys, "features", "run", "red.png", "--top", "3", "--json", "--quiet")
    assert code == 0
    document = json.loads(out)
    assert all(len(layer["strongest"]) == 3 for layer in document["layers"])
    assert {layer["file"] for layer in document["layers"]} | {"input.png", "index.html"} == set(document["files"])
    words = ("features", "red.png", "--model", "resnet18", "--weights", "none", "--layer", "layer2", "--out", "two")
    code, out, err = _explain(capsys, *words, "--json", "--quiet")
    assert code == 0
    assert "random" in err
    (layer,) = json.loads(out)["layers"]
    assert layer["layer"] == {"name": "layer2", "kind": "Sequential", "channels": 128, "height": 28, "width": 28}
    assert Path("two/layer2.png").is_file()


def test_layers_are_listed_without_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _explain(capsys, "features", "--run", "run", "--list-layers")  # as it was spelt before
    assert _explain(capsys, "features", "run", "--list-layers") == (code, out, "")
    assert code == 0
    assert "features.12" in out
    assert not Path("explain").exists()


def test_why_of_a_run_and_of_a_file(place: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _explain(capsys, "why", "run", "red.png", "--class", "fish", "--json", "--quiet")
    assert code == 0
    (image,) = json.loads(out)["images"]
    assert image["class"] == "fish"
    assert [look["method"] for look in image["looks"]] == ["grad-cam", "occlusion"]
    code, out, err = _explain(
        capsys,
        "why",
        str(exported / "model.int8.onnx"),
        "red.png",
        "broken.jpg",
        "no.jpg",
        "--out",
        "int8",
        "--json",
    )
    assert code == 0
    document = json.loads(out)
    assert {one["image"] for one in document["skipped"]} == {"broken.jpg", "no.jpg"}
    assert "skipped: broken.jpg" in err
    (look,) = document["images"][0]["looks"]
    heat = cv2.imread(f"int8/{look['heat']}", cv2.IMREAD_UNCHANGED)
    assert heat is not None
    assert (heat.dtype, heat.shape) == (np.uint16, (64, 64))
    x, y = look["peak"]
    assert heat[y, x] == heat.max()
    assert sorted(document["files"]) == sorted(path.name for path in Path("int8").iterdir())


def test_more_photographs_than_a_page_can_show_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.cli.explain.why.MAX_IMAGES", 1)
    assert run(["explain", "why", "tiny.onnx", "red.png", "broken.jpg"]) == 2
    assert "2 photographs are more than the 1 that one page can show" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ideal", "run"], 2, "Missing option '--class'"),
        (["ideal", "run", "--class", "catt"], 2, "there is no class 'catt'"),
        (["ideal", "run", "--class", "catt"], 2, "Do you mean 'cat'?"),
        (["ideal", "tiny.onnx", "--class", "red"], 2, "tiny.onnx is a deployed file, which has no gradients"),
        (["ideal", "nowhere", "--class", "cat"], 2, "nowhere does not exist"),
        (["ideal", "run", "--class", "cat", "--steps", "0"], 2, "'--steps'"),
        (["ideal", "run", "--class", "cat", "--octaves", "big"], 2, "'big' is not a list of numbers"),
        (["ideal", "run", "--class", "cat", "--octaves", "0"], 2, "from 0.1 to 2"),
        (["ideal", "run", "--class", "cat", "--out", "run"], 2, "run is there already"),
        (["ideal", "run", "--class", "cat", "--out", "red.png/x"], 2, "cannot be written"),
        (
            ["ideal", "run", "--class", "cat", "--blur", "1"],
            2,
            "--blur does nothing without --parametrisation pixels",
        ),
        (["why", "tiny.onnx", ""], 2, "error: '': an empty word names no file"),
        (["features"], 2, "there is no IMAGE"),
        (["features", "no.jpg"], 2, "no.jpg: No such file"),
        (["features", "broken.jpg"], 2, "broken.jpg: not a readable picture"),
        (["features", "red.png", "--run", "run", "--model", "vgg16"], 2, "2 networks"),
        (["features", "red.png", "--weights", "none"], 2, "--weights are for a published network"),
        (["features", "red.png", "--model", "vgg61", "--weights", "none"], 2, "unknown model 'vgg61'"),
        (["features", "red.png", "--model", "vgg16", "--weights", "no.pth"], 2, "no.pth do not exist"),
        (["features", "red.png", "--run", "run", "--layer", "features.99"], 2, "Do you mean 'features.9'"),
        (["features", "red.png", "--run", "tiny.onnx"], 2, "has no gradients"),
        (["features", "tiny.onnx", "red.png"], 2, "has no gradients"),
        (["features", "vgg61", "red.png"], 2, "vgg61 does not exist"),
        (["why", "tiny.onnx", "no.jpg"], 2, "no.jpg: does not exist"),
        (["why", "tiny.onnx", "broken.jpg"], 2, "broken.jpg: not a readable picture"),
        (["why", "tiny.onnx", "red.png", "--class", "rad"], 2, "Do you mean 'red'?"),
        (["why", "tiny.onnx", "red.png", "--method", "grad-cam"], 2, "no gradients for grad-cam"),
        (["why", "tiny.onnx", "red.png", "--device", "torch:tpu"], 2, "torch:tpu"),
        (["why", "nowhere.onnx", "red.png"], 2, "nowhere.onnx"),
        (["why", "run", "red.png", "--device", "ort:cpu"], 2, "--device is for a model file"),
    ],
)
def test_what_cannot_be_explained(
    words: list[str], code: int, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert run(["explain", *words]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert sorted(place.rglob("*")) == before, "nothing was written"


def test_ctrl_c_leaves_nothing(place: Path) -> None:
    words = ["explain", "ideal", "run", "--class", "cat", "--steps", "100000"]
    # A test run in the background of a shell is started with SIGINT ignored, and so would be what it starts.
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from toolchain.cli import console\nconsole.PLAIN_INTERVAL_S = 0.2\n"
        f"from toolchain.cli import main\nmain({words!r})"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    assert "drawing" in started.stderr.readline()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "interrupted" in err
    assert not Path("explain").exists()
