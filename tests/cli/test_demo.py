"""The main job of the README: the whole road, offline, from nothing but what edgetl brings along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolchain.artifact import read_artifact
from toolchain.cli import run


@pytest.mark.slow
def test_demo_walks_the_whole_road(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "data"))
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["finetune"]["test_top1"] > 0.85
    assert document["export"]["broken"] == {}
    assert document["export"]["int8_mb"] < 0.31 * document["export"]["float_mb"]
    arms = [(row["precision"], row["device"]) for row in document["bench"]]
    assert sorted(arms) == [
        ("float32", "openvino:CPU"),
        ("float32", "ort:cpu"),
        ("float32", "torch:cpu"),
        ("int8", "openvino:CPU"),
        ("int8", "ort:cpu"),
    ]
    camera = document["camera"]
    assert camera["frames_answered"] + camera["frames_dropped"] == camera["frames_in"] == 90
    assert camera["right"] > 0.7
    # One file for both devices, or one for each where none is faster than float on both.
    files = [read_artifact(path).card for path in (out / "run").glob("model.int8*.onnx")]
    assert {card.precision for card in files} == {"int8"}
    assert {device for card in files for device in card.runtimes} >= {"ort:cpu", "openvino:CPU"}
    assert {path.name for path in out.iterdir()} == {"run", "bench", "clip.mp4"}
    assert run(["demo", "--out", str(out), "--quiet"]) == 2
