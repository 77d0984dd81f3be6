"""`edgetl camera`: a lost stream, a log, a command for each change, latency."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain, write_clip
from tests.served import Served, in_pieces, whole, write_ts
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


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_service_that_is_ended_while_its_stream_is_away_has_not_failed(place: Path) -> None:
    with Stream(lambda number: plain("red")) as stream, _camera(place, stream.url) as process:
        _answer(process)
        stream.cut()
        time.sleep(1.5)
        process.terminate()
        out, _ = process.communicate(timeout=20)
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert (process.returncode, summary["ended"], summary["lost"]) == (0, "terminated", True)


def test_log_holds_each_answer_and_an_older_one_is_gone_on_with(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "answers.jsonl"
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--headless"]
    words += ["--as-fast-as-possible", "--log", str(log)]
    assert run(words) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(90))
    assert list(lines[0]) == ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms", "answer"]
    log.write_bytes(log.read_bytes()[:-30])  # the power went
    assert run(words) == 0
    appended = log.read_text().splitlines()
    assert len(appended) == 180
    assert json.loads(appended[90])["frame"] == 0, "a line of its own"
    clip = place / "clip.mp4"
    content = clip.read_bytes()
    capsys.readouterr()
    assert run([*words[:-1], str(clip)]) == 2
    assert "is no log" in capsys.readouterr().err
    assert clip.read_bytes() == content
    words[-1] = str(log / "below-a-file.jsonl")
    assert run(words) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, as Linux has it")
def test_a_log_on_a_full_disk_is_told_and_the_camera_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--json"]
    assert run([*words, "--as-fast-as-possible", "--log", "/dev/full"]) == 1
    told = capsys.readouterr()
    *lines, last = told.out.splitlines()
    assert len(lines) == 90
    summary = json.loads(last)["summary"]
    assert "90 answers lost (No space left" in summary["unwritten"][0]
    assert summary["lines_unwritten"] == 90
    assert told.err.count("goes on without it") == 1


IMPATIENT = """
import sys
import toolchain.camera.sinks.background, toolchain.cli, toolchain.cli.camera_report
toolchain.camera.sinks.background.CLOSE_LIMIT_S = toolchain.cli.camera_report.SUMMARY_LIMIT_S = 0.3
toolchain.cli.main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is set")
@pytest.mark.parametrize("late", [True, False], ids=["reads late", "never reads"])
def test_a_reader_that_does_not_read_hangs_nothing_and_is_told_by_the_exit_code(place: Path, late: bool) -> None:
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "clip.mp4"), "--json"]
    command = [sys.executable, "-c", IMPATIENT, *words]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        with open(reading, encoding="utf-8") as output:  # noqa: PTH123 - a descriptor
            if late:
                time.sleep(1.0)
                *lines, last = output.read().splitlines()
                assert process.wait(20) == 0
                summary = json.loads(last)["summary"]
                assert summary["lines_unwritten"] == 0
                assert len(lines) == summary["frames_answered"]
                return
            assert process.stderr is not None
            told = process.stderr.read()
            assert process.wait(20) == 1
    assert "answers lost (nobody reads standard output)" in told
    assert "the summary was not written" in told


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_service_that_is_stopped_while_it_begins_ends_without_a_failure(place: Path) -> None:
    """Nobody answers at that address for a while."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        with _camera(place, url) as process:
            assert process.stderr is not None
            assert "opening" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


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
def test_what_is_rejected_does_not_act(place: Path, tmp_path: Path) -> None:
    """The lens is covered for a while: "not sure". The same label after it is a new answer."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for picture in [plain("red")] * 20 + [np.zeros((48, 64, 3), np.uint8)] * 20 + [plain("red")] * 20:
        writer.write(picture)
    writer.release()
    told = tmp_path / "told"
    words = ["camera", str(place / "tiny.onnx"), "--source", str(tmp_path / "clip.mp4"), "--headless"]
    words += ["--as-fast-as-possible", "--log", str(tmp_path / "log.jsonl")]
    words += ["--on-change", f'echo "change [$EDGETL_LABEL] $EDGETL_REJECTED [$EDGETL_GUESS]" >> {told}']
    unsure = f'echo "unsure [$EDGETL_LABEL] $EDGETL_REJECTED [${{EDGETL_GUESS:+some}}]" >> {told}'
    assert run([*words, "--on-unsure", unsure]) == 0
    change = "change [red] 0 [red]"
    assert told.read_text().splitlines() == [change, "unsure [] 1 [some]", change]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {line["answer"] for line in lines if line["rejected"]} == {None}
    assert all(line["answer"] == line["label"] for line in lines if not line["rejected"])
    told.unlink()
    (tmp_path / "log.jsonl").unlink()
    assert run([*words, "--min-probability", "1"]) == 0
    assert not told.exists(), "there was no answer"


@pytest.mark.skipif(os.name != "posix", reason="the command is written for a POSIX shell")
def test_a_label_is_never_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    artifact = tiny_artifact(tmp_path / "evil.onnx", labels=[f"$(touch {mark})", "`id`", "blue"])
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 3)
    words = ["camera", str(artifact.path), "--source", str(clip), "--headless", "--as-fast-as-possible"]
    assert run([*words, "--on-change", f'printf "%s" "$EDGETL_LABEL" > {tmp_path / "label"}']) == 0
    assert (tmp_path / "label").read_text() == f"$(touch {mark})"
    assert not mark.exists()


@pytest.mark.slow
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


def test_a_snapshot_is_a_source_and_a_file_over_http_ends(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shot = cv2.imencode(".jpg", plain("green"))[1].tobytes()
    with Served(whole(shot, "image/jpeg")) as served:
        words = ["camera", str(place / "tiny.onnx"), "--source", f"{served.url}/shot", "--json"]
        assert run([*words, "--fps", "10", "--frames", "4"]) == 0
    told = capsys.readouterr()
    *lines, last = [json.loads(line) for line in told.out.splitlines()]
    assert [line["answer"] for line in lines] == ["green"] * 4
    assert last["summary"]["reconnects"] == 0
    assert "warning" not in told.err
    clip = write_ts(tmp_path / "clip.ts", lambda number: plain("blue"), 20).read_bytes()
    with Served(in_pieces(clip, "video/mp2t")) as served:
        words[words.index("--source") + 1] = f"{served.url}/clip.ts"
        assert run(words) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert (summary["ended"], summary["frames_in"], summary["lost"]) == ("end", 20, False)


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
        (["--on-unsure", " "], "has no command"),
        (["--web-token", "a-token-that-is-long-enough"], "is for --web"),
        (["--web-host", "cam.example"], "is for --web"),
        (["--web", "127.0.0.1:0", "--web-host", "http://cam.example"], "no name of a host"),
        (["--record", "x.mp4", "--log", "x.mp4"], "the log and the recording"),
        (["--log", "{place}"], "is a folder"),
        (["--web", "{place}/tiny.onnx"], "MODEL goes before --web"),
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
