"""`edgetl predict` on files, folders and patterns."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.artifacts import tiny_artifact, tiny_ir
from tests.clips import BGR, plain
from toolchain.cli import run
from toolchain.system import files


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tiny.onnx and photos/: 20 good ones and a broken one."""
    monkeypatch.chdir(tmp_path)
    tiny_artifact(tmp_path / "tiny.onnx")
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number in range(20):
        colour = list(BGR)[number % 3]
        folder = "photos/more" if number % 2 else "photos"
        cv2.imwrite(f"{folder}/{number:02}-{colour}.png", plain(colour, 30 + number, 60))
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return tmp_path


def _predict(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["predict", "tiny.onnx", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_folder_is_named_whole_and_the_broken_file_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _predict(capsys, "photos", "--json", "--quiet")
    assert code == 0
    document = json.loads(out)
    about = ["artifact", "sha256", "device", "provider_effective", "mirror_average"]
    assert list(document) == [*about, "predictions", "skipped"]
    assert document["sha256"] == files.sha256_of(place / "tiny.onnx")
    assert document["provider_effective"] == "CPUExecutionProvider"
    assert len(document["predictions"]) == 20
    for entry in document["predictions"]:
        assert list(entry) == ["image", "label", "probability", "rejected", "answer", "top"]
        assert entry["label"] in entry["image"], "each answer belongs to its photograph"
        assert entry["top"][0] == {"label": entry["label"], "probability": entry["probability"]}
    assert document["skipped"] == [{"image": "photos/broken.jpg", "reason": "not a readable picture"}]
    assert "1 skipped, 20 named" in err


def test_top_limits_the_classes_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for top, expected in ((1, 1), (2, 2), (50, 3)):
        _, out, _ = _predict(capsys, "photos/*.png", "--top", str(top), "--json")
        assert {len(entry["top"]) for entry in json.loads(out)["predictions"]} == {expected}


def test_people_get_a_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _predict(capsys, "photos/00-red.png", "photos/more/01-green.png", "--device", "openvino:CPU")
    assert code == 0
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["photos/00-red.png", "red"], ["photos/more/01-green.png", "green"]]


def test_rejected_answers_are_marked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from toolchain.artifact.card import Reject

    tiny_artifact(place / "tiny.onnx", scale=0.001, reject=Reject("max_probability", 0.9))
    _, out, _ = _predict(capsys, "photos/00-red.png")
    assert "not sure (red?)" in out
    _, out, _ = _predict(capsys, "photos/00-red.png", "--json")
    assert json.loads(out)["predictions"][0]["rejected"] is True


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope.jpg"], 2, "nope.jpg: does not exist"),
        (["*.bmp"], 2, "*.bmp: nothing matches"),
        (["photos/broken.jpg"], 2, "photos/broken.jpg: not a readable picture"),
        (["nope.jpg", "photos/broken.jpg"], 2, "none of 2 can be read"),
        ([], 2, "Missing argument"),
        (["photos", "--top", "0"], 2, "--top"),
        (["photos", "--device", "abacus"], 2, "unknown device 'abacus'"),
        (["photos", "--threads", "0"], 2, "--threads"),
    ],
)
def test_mistakes_are_told_in_one_line_and_a_hint(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    found, out, err = _predict(capsys, *words, "--quiet")
    assert (found, out) == (code, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")


def test_missing_words_are_skipped_when_others_are_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _predict(capsys, "photos/00-red.png", "nope.jpg", "--json")
    assert code == 0
    assert json.loads(out)["skipped"] == [{"image": "nope.jpg", "reason": "does not exist"}]
    assert "nope.jpg" in err


def test_run_folder_stands_for_its_model_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_artifact(place / "run" / "model.onnx")
    assert run(["predict", "run", "photos/00-red.png", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["artifact"].endswith("model.onnx")
    assert "run/model.onnx (float32, accuracy not measured yet) on ort:cpu" in told.err
    tiny_artifact(place / "run" / "model.int8.onnx", precision="int8")
    assert run(["predict", "run", "photos/00-red.png", "--device", "openvino:CPU"]) == 0
    assert "run/model.int8.onnx (int8, accuracy not measured yet) on openvino:CPU" in capsys.readouterr().err
    assert run(["predict", "run", "photos/00-red.png", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["predict", "photos", "photos/00-red.png", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_openvino_file_runs_on_openvino_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_ir(place / "tiny.xml")
    assert run(["predict", "tiny.xml", "photos/00-red.png", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"] == "openvino:CPU"
    assert document["predictions"][0]["label"] == "red"
    for device in ("ort:cpu", "torch:cpu"):
        assert run(["predict", "tiny.xml", "photos/00-red.png", "--device", device]) == 2
        error, hint = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: tiny.xml does not run on {device}: ")
        assert hint == "hint: Run it on openvino:CPU, or name the .onnx file."
