"""The programs in examples/ run."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from artifacts import COLOURS, tiny_artifact

from toolchain.drawn.pets import draw

EXAMPLES = Path(__file__).parent.parent / "examples"
LIMIT_S = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that names colours, and a photograph of each."""
    tiny_artifact(tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for position, colour in enumerate(COLOURS):
        cv2.imwrite(str(tmp_path / "photos" / f"{colour}.png"), plain(position)[..., ::-1])
    return tmp_path


def plain(position: int) -> np.ndarray:
    rgb = np.zeros((60, 80, 3), np.uint8)
    rgb[..., position] = 255
    return rgb


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])}


def example(folder: Path, name: str, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict_folder(folder: Path) -> None:
    (folder / "photos" / "broken.jpg").write_bytes(b"no picture")
    rows = list(csv.DictReader(io.StringIO(example(folder, "predict_folder.py", "model.onnx", "photos"))))
    assert {Path(row["file"]).stem: row["answer"] for row in rows} == {colour: colour for colour in COLOURS}


def test_own_loop(folder: Path) -> None:
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for position in (0, 0, 2, 2, 1):
        writer.write(np.ascontiguousarray(plain(position)[..., ::-1]))
    writer.release()
    said = example(folder, "own_loop.py", "model.onnx", "clip.avi")
    assert [line.split()[0] for line in said.splitlines()] == ["red", "blue", "green"]


@pytest.mark.slow
def test_compare(folder: Path) -> None:
    tiny_artifact(folder / "new.onnx", height=64, width=64)
    said = example(folder, "compare.py", "model.onnx", "new.onnx")
    assert "times as fast" in said


@pytest.mark.slow
def test_train(tmp_path: Path) -> None:
    for label in ("cat", "fish"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            cv2.imwrite(str(tmp_path / "photos" / label / f"{number}.jpg"), draw(label, number)[..., ::-1])
    said = example(tmp_path, "train.py", "photos", "run")
    assert "test photographs are named rightly" in said
    assert (tmp_path / "run" / "model.xml").is_file()


def test_service(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(EXAMPLES / "service.py"), "model.onnx", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        address = f"http://127.0.0.1:{port}/"
        for colour in COLOURS:
            photograph = (folder / "photos" / f"{colour}.png").read_bytes()
            with urllib.request.urlopen(address, photograph, timeout=LIMIT_S) as answer:
                assert json.load(answer)["answer"] == colour
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, b"no picture", timeout=LIMIT_S)
        assert refused.value.code == 415
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def test_there_are_five_and_each_is_short() -> None:
    programs = sorted(EXAMPLES.glob("*.py"))
    assert len(programs) == 5
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 35 for path in programs)
