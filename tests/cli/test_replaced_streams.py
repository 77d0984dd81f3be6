"""Commands in a notebook, or wherever standard output and error were replaced by text."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from artifacts import tiny_artifact

from toolchain.cli import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_artifact(tmp_path / "model.onnx", labels=("röd", "grön", "blå"))
    bgr = np.random.default_rng(0).integers(0, 200, (60, 80, 3), dtype=np.uint8)
    bgr[..., 2] = np.maximum(bgr[..., 2], 150)
    cv2.imwrite(str(tmp_path / "photo.png"), bgr)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "model.onnx", "photo.png", "--json"],
        ["card", "model.onnx", "--json"],
        ["data", "list", "--json"],
        ["camera", "model.onnx", "--source", "photo.png", "--frames", "1", "--json"],
        ["camera", "model.onnx", "--source", "photo.png", "--frames", "1", "--json", "--on-change", "echo changed"],
        ["predict", "model.onnx", "nothing.png", "--json"],
    ],
    ids=" ".join,
)
def test_text_is_written_where_only_text_can_be(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    code = run(words)
    assert code == (2 if "nothing.png" in words else 0), err.getvalue()
    lines = out.getvalue().splitlines() if words[0] == "camera" else [out.getvalue()]
    documents = [json.loads(line) for line in lines]
    if words[0] in {"card", "predict"} and code == 0:
        assert "röd" in json.dumps(documents, ensure_ascii=False)
    if words[0] == "camera":
        assert documents[-1]["summary"]["frames_answered"] == 1
    assert ("changed" in err.getvalue()) == ("--on-change" in words)


def test_no_standard_output_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without a console has None in its place."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    for more in ([], ["--json"]):
        assert run(["predict", str(folder / "model.onnx"), str(folder / "photo.png"), *more]) == 0
        assert run(["predict", str(folder / "model.onnx"), "nothing.png", *more]) == 2
