"""`edgetl camera` as a person and a program meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import pytest

import toolchain
from tests.artifacts import tiny_artifact
from tests.clips import colour_of, plain, read_clip, write_clip
from toolchain.cli import run

COLOURS = ["red"] * 30 + ["green"] * 30 + ["blue"] * 30
LINE = ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms", "answer"]
TOLD = {"frames_in", "frames_answered", "frames_dropped", "fps", "age_ms", "infer_ms"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx and clip.mp4. Not to be written to."""
    folder = tmp_path_factory.mktemp("camera")
    tiny_artifact(folder / "tiny.onnx")
    write_clip(folder / "clip.mp4", COLOURS, fps=60)
    return folder


def _camera(place: Path, *words: str) -> int:
    return run(["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), *words])


def test_clip_in_real_time_ends_by_itself_and_its_last_frame_is_answered(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _camera(place, "--headless", "--json") == 0
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(list(line) == LINE for line in lines)
    assert lines[-1]["frame"] == 89
    assert lines[-1]["label"] == "blue"
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(set(numbers))
    summary = last["summary"]
    assert set(summary) >= TOLD
    assert summary["frames_in"] == 90
    assert summary["frames_answered"] == len(lines)
    assert summary["frames_dropped"] == 90 - len(lines)
    assert set(summary["age_ms"]) == set(summary["infer_ms"]) == {"p50", "p95", "p99"}
    assert summary["ended"] == "end"
    assert summary["seconds"] >= 89 / 60, "frames did not come before their time"


def test_as_fast_as_possible_answers_every_frame(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _camera(place, "--json", "--as-fast-as-possible") == 0
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(90))
    assert [lines[index]["label"] for index in (29, 59, 89)] == ["red", "green", "blue"]
    assert last["summary"]["frames_dropped"] == 0


def test_headless_prints_a_line_for_each_change_and_a_summary(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _camera(place, "--headless", "--as-fast-as-possible") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["red", "green", "blue"]
    assert "90 of 90 frames" in lines[3]
    assert len(lines) == 5


def test_recording_holds_what_was_seen(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    assert _camera(place, "--headless", "--as-fast-as-possible", "--record", str(path)) == 0
    fps, frames = read_clip(path)
    assert fps == pytest.approx(60)
    assert [colour_of(frame) for frame in frames] == COLOURS
    assert list(tmp_path.iterdir()) == [path]


def test_frames_duration_and_threshold(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _camera(place, "--json", "--frames", "5", "--min-probability", "1") == 0
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5
    assert all(line["rejected"] for line in lines)
    assert last["summary"]["ended"] == "frames"
    assert _camera(place, "--json", "--duration", "0.1") == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert summary["ended"] == "duration"
    assert summary["frames_in"] < 90


def test_folder_of_images(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, colour in enumerate(("blue", "red")):
        cv2.imwrite(str(tmp_path / f"{index}.png"), plain(colour, 100, 90 + index))
    words = ["--source", str(tmp_path), "--json", "--seconds-per-image", "0.3"]
    assert run(["camera", str(place / "tiny.onnx"), *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("label") for line in lines] == ["blue", "red", None]


def test_run_folder_stands_for_its_int8_file(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    words = ["camera", str(tmp_path), "--source", str(place / "clip.mp4"), "--json", "--frames", "1"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["artifact"].endswith("model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["artifact"].endswith("int8.onnx")


def test_window_shows_the_clip_and_ends(place: Path) -> None:
    words = ["camera", "tiny.onnx", "--source", "clip.mp4", "--as-fast-as-possible"]
    done = subprocess.run(
        [sys.executable, "-m", "toolchain", *words],
        cwd=place,
        env=os.environ | {"SDL_VIDEODRIVER": "dummy"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "90 of 90 frames" in done.stdout
    assert "pygame" not in done.stdout, "no advertisement on stdout"
    assert "Escape" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--source", "97", "--headless"], 3, "camera 97"),
        (["--source", "nope.mp4", "--headless"], 2, "does not exist"),
        (["--source", "{place}/tiny.onnx", "--headless"], 2, "is a model file"),
        (["--source", "{empty}", "--headless"], 2, "holds no images"),
        (["--record", "x.avi", "--headless"], 2, "MP4"),
        (["--record", "{place}/clip.mp4", "--headless"], 2, "is the source itself"),
        (["--duration", "nan", "--headless"], 2, "nan"),
        (["--duration", "-1", "--headless"], 2, "--duration"),
        (["--frames", "0"], 2, "--frames"),
        (["--min-probability", "1.1"], 2, "--min-probability"),
        (["--device", "abacus", "--headless"], 2, "abacus"),
        (["--source", "97", "--as-fast-as-possible", "--headless"], 2, "as fast as possible"),
    ],
)
def test_mistakes_are_told_in_one_line_and_a_hint(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    words = [word.format(place=place, empty=tmp_path) for word in words]
    assert _camera(place, *words) == code
    told = capsys.readouterr()
    assert not told.out
    error, hint = told.err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert not list(tmp_path.iterdir())


def test_no_display_is_missing_and_headless_suggested(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    assert _camera(place) == 3
    assert "--headless" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
@pytest.mark.parametrize(
    ("sent", "code", "ended"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 0, "terminated"), (signal.SIGHUP, 0, "terminated")],
)
def test_ctrl_c_and_kill_end_in_order(
    place: Path, tmp_path: Path, sent: signal.Signals, code: int, ended: str
) -> None:
    """SIGTERM is how services end, and a closed terminal is no failure either."""
    path = tmp_path / "out.mp4"
    write_clip(tmp_path / "long.mp4", COLOURS * 10)
    words = ["camera", str(place / "tiny.onnx"), "--source", str(tmp_path / "long.mp4"), "--json"]
    command = [sys.executable, "-m", "toolchain", *words, "--record", str(path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup it is ignored, which is respected.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(10):
            assert json.loads(process.stdout.readline())["label"] == "red", "lines come at once, not at the end"
        process.send_signal(sent)
        *_, last = process.stdout
        assert process.wait(20) == code
        source, _ = process.stderr.read().splitlines()  # the second says which model on which device
        assert source == f"{tmp_path / 'long.mp4'}: 64 x 48, 30 fps, FMP4"
    summary = json.loads(last)["summary"]
    assert summary["ended"] == ended
    assert 10 <= summary["frames_answered"] < 900
    assert len(read_clip(path)[1]) >= 10
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["long.mp4", "out.mp4"]


def test_without_an_artifact_the_ready_made_model_answers(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies inside an installed package, and beside the package in a checkout."""
    monkeypatch.setattr(toolchain, "__file__", str(tmp_path / "toolchain" / "__init__.py"))
    words = ["camera", "--source", str(place / "clip.mp4"), "--json", "--frames", "1"]
    assert run(words) == 3
    assert json.loads(capsys.readouterr().out)["exit_code"] == 3
    for folder in (tmp_path, tmp_path / "toolchain"):
        ready_made = folder / "models" / "pets" / "model.int8.onnx"
        tiny_artifact(ready_made, precision="int8")
        assert run(words) == 0
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
        assert summary["artifact"] == str(ready_made)
