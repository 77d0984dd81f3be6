"""The program of docs/how-to/other-languages.md in Node, with what a page holds, and sharp from npm's own cache."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

import toolchain
from tests.artifacts import tiny_artifact
from tests.page_support import runtime_here
from toolchain.artifact.card import Reject
from toolchain.browser import write_page
from toolchain.drawn.pets import CLASSES, draw

NODE, NPM = shutil.which("node"), shutil.which("npm")
PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "other-languages" / "name.mjs"


@pytest.mark.slow
@pytest.mark.skipif(not NODE or not NPM, reason="no Node on this machine")
def test_it_answers_as_predict_does(tmp_path: Path) -> None:
    assert NODE
    assert NPM
    shutil.copy(PROGRAM, tmp_path)
    install = [NPM, "install", "--offline", "--no-audit", "--no-fund", "sharp"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=100).returncode:
        pytest.skip("npm does not have sharp in its cache")
    path = tmp_path / "model.onnx"
    artifact = tiny_artifact(path, scale=0.1, temperature=1.5, reject=Reject("max_probability", 0.5))
    write_page(artifact, "", tmp_path / "page", runtime_here())
    photographs = []
    for name in CLASSES:
        photographs.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(photographs[-1]), cv2.cvtColor(draw(name, 5, size=200)[:, :150], cv2.COLOR_RGB2BGR))
    words = [NODE, "name.mjs", "page", *(str(photograph) for photograph in photographs)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    classifier = toolchain.load(path)
    expected = [classifier.predict(photograph) for photograph in photographs]
    assert [(one["answer"], one["label"]) for one in found] == [(one.answer, one.label) for one in expected]
    assert [one["probability"] for one in found] == pytest.approx([one.probability for one in expected], abs=0.01)
    assert len({one.answer is None for one in expected}) == 2, "some are sure and some are not"
