"""The programs of docs/how-to/programs, in other languages, and the unit of systemd: compiled, run and verified."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import openvino
import pytest
from artifacts import tiny_card, tiny_model

import toolchain
from toolchain.artifact import write_artifact
from toolchain.export.raw_frame import with_raw_frame
from toolchain.images.preprocess import Preprocess

PAGES = Path(toolchain.__file__).parent.parent / "docs" / "how-to"
PROGRAMS = PAGES / "programs"
OPENVINO = Path(openvino.__file__).parent
LIMIT_S = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that takes frames, its labels, and pictures as PNG and PPM."""
    spec = Preprocess(32, 32, shortest_edge=36)
    labels = ("red", "light green", "blue")
    model = with_raw_frame(tiny_model(3, 32, 32, temperature=1.0, scale=0.05), spec)
    write_artifact(model, tiny_card(labels, preprocess=spec, input="frame"), tmp_path / "model.frame.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (60 + number, 80, 3), np.uint8)
        picture[..., number] = np.maximum(picture[..., number], 130)  # of BGR
        for kind in ("png", "ppm"):
            cv2.imwrite(str(tmp_path / f"{number}.{kind}"), picture)
    return tmp_path


def said(*words: str | Path, folder: Path, picture: Path | None = None) -> tuple[str, float]:
    """Label and probability that a program prints."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        input=picture.read_bytes() if picture else None,
        capture_output=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    label, _, probability = done.stdout.decode().strip().rpartition(" ")
    return label, float(probability)


def check(answers: dict[str, tuple[str, float]], folder: Path, device: str) -> None:
    classifier = toolchain.load(folder / "model.frame.onnx", device)
    assert {label for label, _ in answers.values()} == set(classifier.card.labels)
    for name, (label, probability) in answers.items():
        expected = classifier.predict(folder / f"{name}.png")
        assert label == expected.label
        assert probability == pytest.approx(expected.probability, abs=1e-4)


@pytest.mark.slow
def test_cpp_answers_as_predict_does(folder: Path) -> None:
    compiler = shutil.which("c++")
    libraries = sorted((OPENVINO / "libs").glob("libopenvino.so*"))
    if compiler is None or not libraries or not (OPENVINO / "include" / "openvino" / "openvino.hpp").is_file():
        pytest.skip("no C++ compiler, or no headers of OpenVINO")
    words = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-isystem{OPENVINO / 'include'}"]
    words += [str(PROGRAMS / "name.cpp"), "-o", "name", str(libraries[0]), f"-Wl,-rpath,{OPENVINO / 'libs'}"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    name = folder / "name"
    answers = {
        str(number): said(name, "model.frame.onnx", "labels.txt", folder=folder, picture=folder / f"{number}.ppm")
        for number in range(3)
    }
    check(answers, folder, "openvino:CPU")
    for content in (b"", b"P6 80 60 255\n" + bytes(100), (folder / "0.png").read_bytes(), b"P6 -1 60 255\n"):
        done_badly = subprocess.run(
            [name, "model.frame.onnx", "labels.txt"], cwd=folder, input=content, capture_output=True
        )
        assert done_badly.returncode == 2
        assert done_badly.stderr.startswith(b"name: ")


def test_javascript_answers_as_predict_does(folder: Path) -> None:
    modules = os.environ.get("EDGETL_NODE_MODULES")  # a node_modules that holds onnxruntime-node and sharp
    if not modules or shutil.which("node") is None:
        pytest.skip("no Node.js, or EDGETL_NODE_MODULES is not set")
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(PROGRAMS / "name.mjs", folder)
    answers = {
        str(number): said("node", "name.mjs", "model.frame.onnx", "labels.txt", f"{number}.png", folder=folder)
        for number in range(3)
    }
    check(answers, folder, "ort:cpu")


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = re.search(r"```ini\n(.*?)```", (PAGES / "service-at-boot.md").read_text(encoding="utf-8"), re.DOTALL)
    assert unit is not None
    (tmp_path / "edgetl.service").write_text(unit[1], encoding="utf-8")
    program = tmp_path / "edgetl" / "bin" / "edgetl"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", "edgetl.service"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), "it says in words what it does not know, and ends with 0"


def test_every_program_is_on_the_page() -> None:
    page = (PAGES / "other-languages.md").read_text(encoding="utf-8")
    assert all(f"(programs/{path.name})" in page for path in PROGRAMS.iterdir())
