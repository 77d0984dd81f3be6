"""`edgetl camera` where what it writes to gives way: a closed pipe, a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact, tiny_ir
from tests.clips import read_clip, write_clip
from toolchain.cli import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and file size limits as POSIX has them")


def _words(folder: Path, clip: Path, *more: str) -> list[str]:
    tiny_artifact(folder / "tiny.onnx")
    words = ["camera", str(folder / "tiny.onnx"), "--source", str(clip), "--json", "--as-fast-as-possible"]
    return [sys.executable, "-m", "toolchain", *words, *more]


def test_a_reader_that_has_seen_enough_is_no_broken_promise(tmp_path: Path) -> None:
    """Exit code 1 would say that a gate was not kept; `edgetl camera --json | head -1` is everyday use."""
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 2000)
    with subprocess.Popen(
        _words(tmp_path, clip), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        assert process.wait(60) == 0
        source, model = process.stderr.read().splitlines()
        assert source == f"{clip}: 64 x 48, 30 fps, FMP4"
        assert model.endswith("tiny.onnx (float32, accuracy not measured yet) on ort:cpu")


def test_remarks_that_nobody_reads_stop_nothing(tmp_path: Path) -> None:
    """As of `edgetl camera ... 2> >(head -1)`: all answers come, and the exit code says so."""
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 300)
    with subprocess.Popen(
        _words(tmp_path, clip), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        assert len(process.stdout.read().splitlines()) >= 300
        assert process.wait(60) == 0


def test_recording_that_a_full_disk_cuts_off_is_an_error_and_what_was_recorded_is_kept(tmp_path: Path) -> None:
    import resource

    clip, out = tmp_path / "noise.mp4", tmp_path / "out.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (120, 240, 320, 3), np.uint8)
    writer = cv2.VideoWriter(str(clip), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (320, 240))
    for picture in noise:
        writer.write(picture)
    writer.release()
    before = sorted(entry.name for entry in tmp_path.iterdir())

    def nearly_full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    done = subprocess.run(
        _words(tmp_path, clip, "--record", str(out)),
        preexec_fn=nearly_full,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "not written to its end" in done.stderr
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 120, "the camera goes on without it"
    assert "out.mp4" in last["summary"]["unwritten"][0]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*before, "out.mp4", "tiny.onnx"])
    assert 30 < len(read_clip(out)[1]) < 120


def test_openvino_file_runs_on_openvino_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 3)
    tiny_ir(tmp_path / "tiny.xml")
    words = ["camera", str(tmp_path / "tiny.xml"), "--source", str(clip), "--as-fast-as-possible", "--json"]
    assert run(words) == 0
    *answers, last = capsys.readouterr().out.splitlines()
    assert {json.loads(answer)["label"] for answer in answers} == {"red"}
    assert json.loads(last)["summary"]["device"] == "openvino:CPU"
    assert run([*words, "--device", "ort:cpu"]) == 2
    assert "tiny.xml does not run on ort:cpu" in capsys.readouterr().out
