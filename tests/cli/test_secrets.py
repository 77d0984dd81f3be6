"""A password in an address is shown nowhere: not in errors, JSON, pages and logs, and not in what is written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain, write_clip
from tests.conftest import Recorder
from tests.secret_shapes import SECRET, shapes
from tests.streams import Stream
from tests.web_support import view
from toolchain.camera.sinks.web import Address
from toolchain.camera.sources.opening import CaptureOptions, open_source
from toolchain.cli import run
from toolchain.errors import EdgetlError
from toolchain.system.masking import masked

A = "tiny.onnx"
WAYS: dict[str, Callable[[str], list[str]]] = {
    "artifact": lambda word: ["camera", word, "--headless"],
    "record": lambda word: ["camera", A, "--headless", "--source", "nosuch.mp4", "--record", word],
    "log": lambda word: ["camera", A, "--headless", "--source", "nosuch.mp4", "--log", word],
    "collect": lambda word: ["camera", A, "--headless", "--source", "nosuch.mp4", "--collect", word],
    "mqtt": lambda word: ["camera", A, "--headless", "--source", "nosuch.mp4", "--mqtt", word],
    "webhook": lambda word: ["camera", A, "--headless", "--source", "nosuch.mp4", "--webhook", word],
    "web": lambda word: ["camera", A, "--web", word],
    "web-host": lambda word: ["camera", A, "--source", "nosuch.mp4", "--web", "--web-host", word],
    "token": lambda word: ["camera", A, "--source", "nosuch.mp4", "--headless", "--web-token", word],
    "size": lambda word: ["camera", A, "--size", word],
    "one more": lambda word: ["camera", A, word],
    "misspelt option": lambda word: ["camera", A, f"--sorce={word}"],
    "command": lambda word: [word],
    "image": lambda word: ["predict", A, word],
    "model of predict": lambda word: ["predict", word, "x.jpg"],
    "device": lambda word: ["predict", A, "clip.mp4", "--device", word],
    "bench": lambda word: ["bench", word],
    "data of bench": lambda word: ["bench", A, "--data", word],
    "out of bench": lambda word: ["bench", "nosuch.onnx", "--out", word],
    "data": lambda word: ["data", "info", word],
    "card": lambda word: ["card", word],
    "finetune": lambda word: ["finetune", word, "--device", "cpu"],
    "out of finetune": lambda word: ["finetune", "nosuch", "--out", word],
    "run": lambda word: ["export", word],
    "debug": lambda word: ["camera", word, "--headless", "--debug"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    tiny_artifact(folder / A)
    write_clip(folder / "clip.mp4", ["red"] * 3)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_password_is_in_no_error_and_no_name(
    place: Path, way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    # Whatever is measured, or imports torch, is not asked for each.
    for word in shapes()[:: 10 if way == "data of bench" else 1]:
        assert run([*WAYS[way](word), "--json"]) in {2, 3}, word
        told = capsys.readouterr()
        assert SECRET not in told.out + told.err, word
        assert json.loads(told.out)["error"]
    assert sorted(place.rglob("*")) == before, "nothing was made under such a name"


@pytest.mark.parametrize("word", shapes())
def test_a_source_that_cannot_be_opened_is_named_without_its_password(
    place: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = re.split("[/?#]", word.partition("://")[2])[0]
    if "://" in word and (authority.rpartition("@")[2] != "127.0.0.1:9" or word.startswith("udp")):
        word = f"x{word}"  # else FFmpeg would look up `me`, or wait for packets
    reporter = Recorder()
    with pytest.raises(EdgetlError) as raised:
        open_source(word, CaptureOptions(), reporter=reporter, open_limit_s=5)
    assert SECRET not in "".join([raised.value.message, raised.value.hint, *reporter.said, *reporter.warned])
    words = ["camera", str(place / A), "--headless", "--json", "--source", word]
    assert run(words) in {2, 3}
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
@pytest.mark.parametrize(
    ("user", "path"),
    [("me:S3cret@", "/user=me_password=S3cret_channel=1"), ("", "/video.cgi?user=me&pwd=S3cret#S3cret")],
)
def test_a_stream_that_is_answered_shows_its_password_nowhere(
    place: Path, tmp_path: Path, user: str, path: str
) -> None:
    log = tmp_path / "log.jsonl"
    with Stream(lambda number: plain("red")) as stream:
        url = stream.url.replace("//", f"//{user}").removesuffix("/live") + path
        words = [A, "--source", url, "--json", "--log", str(log), "--web", "127.0.0.1:0", "--stall-limit", "1"]
        with subprocess.Popen(
            [sys.executable, "-m", "toolchain", "camera", *words],
            cwd=place,
            env=os.environ | {"OPENCV_LOG_LEVEL": "DEBUG"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            told = []
            while not (told and "watch at" in told[-1]):
                told.append(process.stderr.readline())
            address = told[-1].split()[-1]
            answered = ""  # the page is there before the stream is; OpenCV's own log goes to stdout, too
            while '"frame"' not in answered.rpartition("\n")[2]:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                answered += f"\n{line.rstrip()}"
            pages = [_get(address), _get(f"{address}answer")]
            stream.cut()
            end = time.monotonic() + 10
            while not json.loads(page := _get(f"{address}answer"))["state"] and time.monotonic() < end:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["source"].startswith(stream.url.removesuffix("live"))
    assert json.loads(page)["about"]["source"] == summary["source"]
    assert "trying again" in err
    everything = [*told, answered, *pages, page, out, err, log.read_text()]
    assert SECRET not in "".join(everything)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


@pytest.mark.parametrize("way", ["variable", "file"])
def test_a_source_may_stay_out_of_the_list_of_processes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    with Stream(lambda number: plain("red")) as stream:
        url = stream.url.replace("//", f"//me:{SECRET}@")
        words = ["camera", str(place / A), "--headless", "--json", "--frames", "3"]
        if way == "variable":
            monkeypatch.setenv("EDGETL_SOURCE", url)
        else:
            (tmp_path / "source").write_text(f"{url}\n")
            words += ["--source", f"@{tmp_path / 'source'}"]
        assert run(words) == 0
    told = capsys.readouterr()
    summary = json.loads(told.out.splitlines()[-1])["summary"]
    assert summary["source"] == stream.url
    assert SECRET not in told.out + told.err
    monkeypatch.setenv("EDGETL_SOURCE", f"rtsp://me:{SECRET}@[::zz]/x")
    assert run(["camera", str(place / A), "--headless"]) == 2
    assert SECRET not in capsys.readouterr().err


def test_a_file_of_a_source_that_cannot_be_read_is_told(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two, zeros = tmp_path / "two", tmp_path / "zeros"
    two.write_text(f"rtsp://{SECRET}\nrtsp://b\n")
    zeros.write_bytes(b"\0" * 10**6)
    for path, said in ((Path("nosuch"), "cannot be read"), (two, "more than one source"), (zeros, "or none")):
        assert run(["camera", str(place / A), "--headless", "--source", f"@{path}"]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told) < 400
        assert SECRET not in told


def test_a_token_of_the_environment_is_not_written_to_the_journal(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_WEB_TOKEN", f"{SECRET}-and-long-enough")
    for address in ("0.0.0.0:0", "127.0.0.1:0"):
        words = ["camera", str(place / A), "--source", str(place / "clip.mp4"), "--web", address]
        assert run([*words, "--json"]) == 0
        told = capsys.readouterr()
        assert "token" in told.err
        assert SECRET not in told.out + told.err


def test_what_is_skipped_beside_what_is_named_is_named_without_its_password(
    place: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--json"]):
        assert run(["predict", str(place / A), str(drawn_folder / "cat"), *shapes(), *more]) == 0
        told = capsys.readouterr()
        assert "skipped" in told.err
        assert SECRET not in told.out + told.err


def test_a_token_that_was_given_is_not_said_and_one_that_was_made_is() -> None:
    given, made = Recorder(), Recorder()
    with view(Address("0.0.0.0", 0), reporter=given, token="S3cret-and-long-enough"):
        assert SECRET not in "".join(given.warned)
        assert "know the token" in given.warned[0]
    with view(Address("0.0.0.0", 0), reporter=made) as shown:
        assert shown.url in masked(made.warned[0])


def test_a_token_of_the_environment_is_shown_by_no_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_WEB_TOKEN", "S3cret-and-long-enough")
    assert run(["camera", str(place / A), "--source", "S3cret-and-long-enough", "--headless"]) == 2
    assert SECRET not in capsys.readouterr().err
