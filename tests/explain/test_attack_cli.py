"""`edgetl explain attack`, from the photograph to files that fool the deployed network."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from toolchain.artifact import read_artifact, write_artifact
from toolchain.cli import run
from toolchain.explain.attack import dataset as many_attacks
from toolchain.runs import read_run, read_splits


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = run(["explain", "attack", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture(scope="module")
def photograph(exported: Path) -> Path:
    """One that the run has kept for its test."""
    return Path(read_run(exported).data.path) / read_splits(exported)["test"][0].name


def _by_hand(model: Path, png: Path) -> str:
    """The answer to a PNG without any code of edgetl: Pillow, the centre cut out, ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape
    pixels = np.asarray(Image.open(png))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    image = np.ascontiguousarray(pixels[None, top : top + height, left : left + width])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["edgetl.card"])["labels"]
    return str(labels[int(session.run(["logits"], {"image": image})[0].argmax())])


@pytest.mark.slow
def test_saved_file_fools_the_deployed_network_by_hand_too(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "attack"
    code, text, _ = _run(capsys, exported, photograph, "--budget", 40, "--out", out, "--json", "--quiet")
    assert code == 0
    found = json.loads(text)
    assert found["turned"] is True, "40/255 turns this network"
    assert set(found["files"]) == {path.name for path in out.iterdir()}
    before, after = (np.asarray(Image.open(out / name)).astype(int) for name in ("before.png", "after.png"))
    assert np.abs(after - before).max() == found["change"]["largest"] <= 40
    answers = {(Path(one["name"]).name, one["device"]): one for one in found["answers"]}
    float_file, int8_file = answers["model.onnx", "ort:cpu"], answers["model.int8.onnx", "ort:cpu"]
    assert float_file["turned"] is True
    assert float_file["before"]["label"] == _by_hand(exported / "model.onnx", out / "before.png")
    for one, name in ((float_file, "model.onnx"), (int8_file, "model.int8.onnx")):
        assert one["after"]["label"] == _by_hand(exported / name, out / "after.png")
    # The run, float and int8 files on the runtimes that they are proven on.
    assert ("model.onnx", "openvino:CPU") in answers
    assert next(iter(answers.values()))["device"] == "torch:cpu"
    page = (out / "index.html").read_text()
    assert page.count("<img") == 4
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_smallest_budget_is_saved_and_holds(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "attack"
    words = (exported, photograph, "--norm", "l2", "--budget", 2000, "--out", out, "--json", "--quiet")
    code, text, _ = _run(capsys, *words)
    assert code == 0
    found = json.loads(text)
    smallest = found["smallest"]
    tried = {one["budget"]: one["turned"] for one in smallest["tried"]}
    assert tried[smallest["budget"]] is True
    assert tried.get(smallest["budget"] - 1, False) is False
    before, after = (np.asarray(Image.open(out / name)).astype(float) for name in ("before.png", "smallest.png"))
    assert np.sqrt(((after - before) ** 2).sum()) <= smallest["budget"]
    model = exported / "model.onnx"
    assert _by_hand(model, out / "smallest.png") != _by_hand(model, out / "before.png")


def test_other_networks_are_asked_with_their_own_preprocessing(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    from tests.artifacts import COLOURS, tiny_artifact

    tiny_artifact(tmp_path / "tiny.onnx")
    words = (
        exported,
        photograph,
        "--transfer",
        tmp_path / "tiny.onnx",
        "--out",
        tmp_path / "a",
        "--json",
        "--quiet",
    )
    code, text, _ = _run(capsys, *words)
    assert code == 0
    others = [one for one in json.loads(text)["answers"] if not one["own"]]
    assert [one["device"] for one in others] == ["ort:cpu", "openvino:CPU"]
    for one in others:
        assert one["before"]["label"] in COLOURS
        assert one["reached"] is None, "it has no class of that name"


def test_data_set_gives_curves_that_can_be_recounted(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    data, out = read_run(exported).data.path, tmp_path / "attack"
    words = (exported, "--data", data, "--budgets", "0,8,60", "--out", out, "--json", "--quiet")
    code, text, _ = _run(capsys, *words)
    assert code == 0
    found = json.loads(text)
    rows = list(csv.DictReader((out / "photographs.csv").open()))
    count = len(read_splits(exported)["test"])
    assert found["photographs"] == count
    assert found["complete"] is True
    arms = list(dict.fromkeys((one["name"], one["device"]) for one in found["curve"]))
    assert len(rows) == count * 3 * len(arms)
    for point in found["curve"]:
        number = str(arms.index((point["name"], point["device"])))
        mine = [row for row in rows if row["answering"] == number and int(row["budget"]) == point["budget"]]
        assert point["top1"] == pytest.approx(np.mean([row["answer"] == row["label"] for row in mine]))
        assert all(int(row["largest"]) <= point["budget"] for row in mine)
    own = {point["budget"]: point["top1"] for point in found["curve"][:3]}
    assert own[0] == pytest.approx(read_run(exported).metrics["test"].top1)
    assert own[60] < own[0]
    assert json.loads((out / "attack.json").read_text())["curve"] == found["curve"]
    assert "<svg" in (out / "index.html").read_text()


def test_interrupted_data_set_keeps_what_was_done(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_attacks, "CHUNK", 2)
    made = many_attacks._attack_chunk
    calls = []

    def second_is_interrupted(*words: object) -> object:
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(many_attacks, "_attack_chunk", second_is_interrupted)
    data, out = read_run(exported).data.path, tmp_path / "attack"
    words = (exported, "--data", data, "--budgets", "0,8", "--out", out, "--quiet", "--json")
    code, text, err = _run(capsys, *words)
    assert code == 130
    assert json.loads(text)["exit_code"] == 130
    assert "interrupted" in err
    left = json.loads((out / "attack.json").read_text())
    assert (left["complete"], left["photographs"]) == (False, 2)
    assert len(list(csv.DictReader((out / "photographs.csv").open()))) == 2 * 2 * len(left["curve"]) // 2


def test_target_is_hit_counted_and_never_attacked(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    data = read_run(exported).data.path
    words = (exported, "--data", data, "--target", "FISH", "--budgets", "0,60", "--out", tmp_path / "a")
    code, text, _ = _run(capsys, *words, "--json", "--quiet")
    assert code == 0
    rows = list(csv.DictReader((tmp_path / "a" / "photographs.csv").open()))
    assert {row["label"] for row in rows} == {"cat", "dog"}
    curve = json.loads(text)["curve"]
    assert curve[0]["target"] in (0.0, None)
    for point in curve:
        if point["target"] is not None:
            assert 0 <= point["target"] <= 1


@pytest.mark.parametrize(
    ("words", "said", "advice"),
    [
        (["RUN", "PHOTO", "--target", "dgo"], "no class 'dgo'", "'dog'"),
        (["RUN"], "nothing to attack", "--data"),
        (["RUN", "PHOTO", "--data", "x"], "cannot both", ""),
        (["RUN", "PHOTO", "--budget", "0"], "0 is no budget", "255"),
        (["RUN", "PHOTO", "--budget", "256"], "256 is no budget", ""),
        (["RUN", "PHOTO", "--norm", "l2", "--budget", "99999"], "99999 is no budget", ""),
        (["RUN", "PHOTO", "--budgets", "1,2"], "--budgets for --data", ""),
        (["RUN", "--data", "x", "--budget", "1"], "--budget is for an image", ""),
        (["RUN", "--data", "x", "--budgets", "1,two"], "no list of whole numbers", ""),
        (["RUN", "--data", "nowhere-at-all"], "neither a known data set nor a folder", ""),
        (["RUN", "--data", "DATA", "--split", "tset"], "unknown split 'tset'", "test"),
        (["RUN", "BROKEN"], "broken.jpg: not a readable picture", ""),
        (["RUN", "nope.jpg"], "nope.jpg", ""),
        (["RUN/model.onnx", "PHOTO"], "has no gradients", "run folder"),
        (["nowhere", "PHOTO"], "nowhere does not exist", "Name a run folder"),
        (["RUN", "PHOTO", "--out", "RUN"], "is there already", "--out"),
        (["RUN", "PHOTO", "--transfer", "BROKEN"], "broken.jpg", ""),
        (["RUN", "PHOTO", "--steps", "0"], "--steps", ""),
        (["RUN", "PHOTO", "--split", "val"], "--split does nothing without --data", ""),
        (["RUN", "PHOTO", "--method", "fgsm", "--seed", "3"], "--seed does nothing with --method fgsm", ""),
        (["RUN", "PHOTO", "--method", "cw"], "--method", ""),
    ],
)
def test_mistakes_are_told_in_one_line_and_a_hint(
    capsys: pytest.CaptureFixture[str],
    exported: Path,
    photograph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: Sequence[str],
    said: str,
    advice: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    meant = {"PHOTO": str(photograph), "BROKEN": str(broken), "DATA": read_run(exported).data.path}
    words = [meant.get(word, word.replace("RUN", str(exported))) for word in words]
    code, out, err = _run(capsys, *words, "--quiet")
    assert (code, out) == (2, "")
    error = next(line for line in err.splitlines() if line.startswith("error: "))
    assert said in " ".join(error.split()), err
    assert advice in err
    assert not (tmp_path / "explain").exists(), "nothing is left behind"


def test_target_that_is_the_answer_already(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    _, text, _ = _run(capsys, exported, photograph, "--out", tmp_path / "a", "--json", "--quiet")
    answer = json.loads(text)["answers"][0]["before"]["label"]
    code, _, err = _run(capsys, exported, photograph, "--target", answer, "--out", tmp_path / "b", "--quiet")
    assert code == 2
    assert f"is already taken for '{answer}'" in err
    assert not (tmp_path / "b").exists()


def test_files_of_other_weights_are_left_out(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "run"
    shutil.copytree(exported, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor * 1.0 + (name.endswith("bias")) for name, tensor in weights.items()},
        folder / "model.safetensors",
    )
    code, text, err = _run(capsys, folder, photograph, "--out", tmp_path / "a", "--json", "--quiet")
    assert code == 0
    assert {one["device"] for one in json.loads(text)["answers"]} == {"torch:cpu"}
    assert "older weights" in err


def test_a_file_that_kept_no_promise_stops_nothing(
    capsys: pytest.CaptureFixture[str], exported: Path, photograph: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(exported, folder)
    good, rejected = read_artifact(folder / "model.int8.onnx"), folder / "model.int8.rejected.onnx"
    write_artifact(onnx.load_model_from_string(good.model), replace(good.card, runtimes=()), rejected)
    # One of another device, which this machine does not have, is told and left out.
    shutil.copy(rejected, folder / "model.int8.npu.onnx")
    code, text, err = _run(capsys, folder, photograph, "--out", tmp_path / "a", "--json", "--quiet")
    assert code == 0
    names = {Path(one["name"]).name for one in json.loads(text)["answers"]}
    assert {"model.onnx", "model.int8.onnx"} <= names
    assert not {"model.int8.rejected.onnx", "model.int8.npu.onnx"} & names
    assert "rejected" not in err
    assert "model.int8.npu.onnx does not answer on ort:cpu" in err
    # As the only one to ask, it is an error.
    words = (exported, photograph, "--transfer", rejected, "--out", tmp_path / "b")
    code, _, err = _run(capsys, *words, "--quiet")
    assert code == 3
    assert "answers on no device here" in err
