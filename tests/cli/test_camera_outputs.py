"""`edgetl camera`: a lost stream, a log, a command for each change, latency."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain, write_clip
from tests.streams import Stream
from toolchain.cli import run

COLOURS = ["red"] * 30 + ["green"] * 30 + ["blue"] * 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx and clip.mp4. Not to be written to."""
    folder = tmp_path_factory.mktemp("outputs")
    tiny_artifact(folder / "tiny.onnx")
    write_clip(folder / "clip.mp4", COLOURS, fps=60)
    return folder


@contextmanager
def _camera(place: Path, url: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "toolchain", "camera", str(place / "tiny.onnx"), "--source", url, "--json"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def _end(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Press Ctrl-C; the summary and what was said."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return json.loads(out.splitlines()[-1])["summary"], err


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_stream_that_was_pulled_is_answered_again(place: Path) -> None:
    with Stream(lambda number: plain("red")) as stream, _camera(place, stream.url) as process:
        before = [_answer(process)["frame"] for _ in range(10)]
        stream.cut()
        time.sleep(1.5)
        stream.back()
        back = time.monotonic()
        while (line := _answer(process))["time_s"] < 1.5:
            pass
        assert time.monotonic() - back < 5
        assert line["frame"] > before[-1], "frames are counted on"
        summary, said = _end(process)
    assert process.returncode == 130
    assert summary["reconnects"] == 1
    assert not summary["lost"]
    assert "trying again" in said
    assert "is back after" in said


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_stream_that_falls_silent_is_opened_again(place: Path) -> None:
    """The connection stays open and nothing comes: a camera that hung, a cable that was pulled."""
    with (
        Stream(lambda number: plain("red")) as stream,
        _camera(place, stream.url, "--stall-limit", "0.4") as process,
    ):
        _answer(process)
        stream.flowing.clear()
        time.sleep(1.5)
        stream.flowing.set()
        while _answer(process)["time_s"] < 1.5:
            pass
        summary, said = _end(process)
    assert summary["reconnects"] >= 1
    assert "gave no frame for 0." in said


def test_without_reconnecting_a_lost_stream_is_the_end(place: Path) -> None:
    with Stream(lambda number: plain("red")) as stream, _camera(place, stream.url, "--no-reconnect") as process:
        _answer(process)
        stream.cut()
        out, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert json.loads(out.splitlines()[-1])["summary"]["ended"] == "lost"
    assert "was lost" in err


def test_a_stream_that_never_comes_back_ends_with_the_duration_and_exit_code_3(place: Path) -> None:
    with Stream(lambda number: plain("red")) as stream, _camera(place, stream.url, "--duration", "2") as process:
        _answer(process)
        stream.cut()
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert (summary["ended"], summary["lost"]) == ("duration", True)
    assert 1.9 < summary["seconds"] < 4


def test_log_holds_each_answer_and_an_older_one_is_kept(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "answers.jsonl"
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--headless"]
    words += ["--as-fast-as-possible", "--log", str(log)]
    assert run(words) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(90))
    assert list(lines[0]) == ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms"]
    content = log.read_bytes()
    capsys.readouterr()
    assert run(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert log.read_bytes() == content
    words[-1] = str(log / "below-a-file.jsonl")
    assert run(words) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, as Linux has it")
def test_a_log_on_a_full_disk_is_told_and_the_camera_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--json"]
    assert run([*words, "--as-fast-as-possible", "--log", "/dev/full"]) == 2
    told = capsys.readouterr()
    *lines, last = told.out.splitlines()
    assert len(lines) == 90
    assert "No space left" in json.loads(last)["summary"]["unwritten"][0]
    assert "goes on without it" in told.err


@pytest.mark.skipif(os.name != "posix", reason="the command is written for a POSIX shell")
def test_a_command_is_run_for_each_change(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "told"
    command = f'echo "$EDGETL_LABEL $EDGETL_REJECTED $EDGETL_FRAME" >> {told}; cat >> {told}; echo heard'
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--json"]
    assert run([*words, "--as-fast-as-possible", "--on-change", command]) == 0
    lines = told.read_text().splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [["red", "0"], ["green", "0"], ["blue", "0"]]
    assert [json.loads(line)["label"] for line in lines[1::2]] == ["red", "green", "blue"]
    captured = capfd.readouterr()
    assert all(line.startswith("{") for line in captured.out.splitlines()), "stdout belongs to the answers"
    assert captured.err.count("heard") == 3


@pytest.mark.skipif(os.name != "posix", reason="the command is written for a POSIX shell")
def test_a_label_is_never_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    artifact = tiny_artifact(tmp_path / "evil.onnx", labels=[f"$(touch {mark})", "`id`", "blue"])
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 3)
    words = ["camera", str(artifact.path), "--source", str(clip), "--headless", "--as-fast-as-possible"]
    assert run([*words, "--on-change", f'printf "%s" "$EDGETL_LABEL" > {tmp_path / "label"}']) == 0
    assert (tmp_path / "label").read_text() == f"$(touch {mark})"
    assert not mark.exists()


@pytest.mark.skipif(os.name != "posix", reason="the command is written for a POSIX shell")
def test_a_command_that_fails_or_hangs_does_not_hold_up_the_camera(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--json"]
    assert run([*words, "--on-change", "exit 7"]) == 0
    assert capfd.readouterr().err.count("exit code 7") == 1, "said once"
    before = time.monotonic()
    assert run([*words, "--on-change", "sleep 60"]) == 0
    summary = json.loads(capfd.readouterr().out.splitlines()[-1])["summary"]
    assert summary["frames_answered"] > 60
    assert time.monotonic() - before < 12, "nobody waits for it in the end"


def test_latency_without_a_window_is_the_frames_age(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--headless"]
    assert run([*words, "--measure-latency", "--frames", "20"]) == 0
    out = capsys.readouterr().out
    assert "of the age (p50, p95): waiting" in out
    assert "resizing" in out
    assert "inference" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "640"], "no size such as"),
        (["--pixel-format", "MJPEG"], "four letters"),
        (["--fps", "0"], "--fps"),
        (["--stall-limit", "0"], "--stall-limit"),
        (["--record", "x.mp4", "--measure-latency"], "--record"),
        (["--source", "/dev/null"], "neither a file nor a folder"),
        (["--source", ""], "--source is empty"),
        (["--on-change", " "], "has no command"),
        (["--web-token", "a-token-that-is-long-enough"], "is for --web"),
        (["--web-host", "cam.example"], "is for --web"),
        (["--web", "127.0.0.1:0", "--web-host", "http://cam.example"], "no name of a host"),
        (["--record", "x.mp4", "--log", "x.mp4"], "the log and the recording"),
        (["--log", "{place}"], "exists already"),
        (["--web", "{place}/tiny.onnx"], "ARTIFACT goes before --web"),
        (["--web", "host:99999"], "no address to serve a page at"),
        (["--web", "0.0.0.0:0", "--web-token", "short"], "token"),
    ],
)
def test_mistakes_are_told(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    given = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--headless"]
    assert run([*given, *(word.format(place=place) for word in words)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert not told.out


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_page_shows_the_answers_and_why_there_are_none(place: Path) -> None:
    with Stream(lambda number: plain("red")) as stream:
        with _camera(place, stream.url, "--web", "127.0.0.1:0") as process:
            assert process.stderr is not None
            told = [process.stderr.readline(), process.stderr.readline()]
            [address] = [
                word for line in told for word in line.split() if word.startswith("http") and "live" not in word
            ]
            answers = [_answer(process) for _ in range(5)]
            assert answers[-1]["label"] == "red"

            def now() -> dict[str, Any]:
                with urllib.request.urlopen(f"{address}answer", timeout=5) as response:
                    found: dict[str, Any] = json.loads(response.read())
                return found

            shown = now()
            assert shown["answer"]["label"] == "red"
            assert shown["about"]["device"] == "float32 on ort:cpu"
            assert not shown["state"]
            stream.cut()
            end = time.monotonic() + 10
            while not (shown := now())["state"] and time.monotonic() < end:
                time.sleep(0.05)
            assert "gives no frames any more" in shown["state"]
            stream.back()
            end = time.monotonic() + 10
            while (shown := now())["state"] and time.monotonic() < end:
                time.sleep(0.05)
            assert not shown["state"]
            _end(process)
        assert process.returncode == 130


def test_a_token_in_the_environment_is_there_for_when_it_is_needed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETL_WEB_TOKEN", "a-token-that-is-long-enough")
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--headless", "--frames", "1"]
    assert run(words) == 0
