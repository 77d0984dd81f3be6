"""Outputs by name: those of edgetl, and one that somebody else's package adds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import read_clip, write_clip
from tests.test_plugins import installed
from toolchain.camera.sinks import SINKS, sink_options
from toolchain.camera.sinks.command import CommandOptions
from toolchain.camera.sinks.log import LogOptions
from toolchain.camera.sinks.recorder import RecordOptions
from toolchain.camera.sinks.web import Address, WebOptions
from toolchain.cli import run
from toolchain.errors import BadInputError, EdgetlError

BELL = """
from dataclasses import dataclass
from pathlib import Path

from toolchain.camera.answering import Answered
from toolchain.camera.sinks import Sink, SinkContext, SinkReport
from toolchain.errors import BadInputError


@dataclass(frozen=True)
class BellOptions:
    path: Path

    def open(self, context: SinkContext) -> "Bell":
        return Bell(self.path)


class Bell(Sink):
    name = "ringing the bell"
    delivery = "all"

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._path = path

    def show(self, answered: Answered) -> None:
        if answered.prediction.answer == "green":
            self._file.write(f"{answered.frame.number}\\n")

    def close(self) -> None:
        self._file.close()

    def report(self) -> SinkReport:
        return SinkReport(unwritten="the bell is cracked" if self._path.name == "cracked" else "")


def from_text(value: str) -> BellOptions:
    if not value:
        raise BadInputError("the sink `bell` needs a file", "Write --sink bell=FILE.")
    return BellOptions(Path(value))
"""
POINTS = {"edgetl.sinks": "bell = bell_of_somebody:from_text\nrusty = bell_of_somebody:NOTHING"}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a camera, with the package of the bell installed."""
    site = tmp_path / "site"
    site.mkdir()
    installed(site, POINTS, BELL, name="bell_of_somebody")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "bell_of_somebody", raising=False)
    tiny_artifact(tmp_path / "tiny.onnx")
    write_clip(tmp_path / "clip.mp4", ["red"] * 10 + ["green"] * 10)
    source = ["--source", str(tmp_path / "clip.mp4"), "--as-fast-as-possible"]
    return ["camera", str(tmp_path / "tiny.onnx"), *source, "--json"]


def test_a_sink_of_somebody_elses_package_gets_the_answers(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = tmp_path / "rung"
    assert run([*words, "--sink", f"bell={rung}"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = [str(one["frame"]) for one in answers if one.get("answer") == "green"]
    assert rung.read_text().split() == wanted
    assert len(wanted) >= 9
    assert run([*words, "--sink", f"bell={tmp_path / 'cracked'}"]) == 1, "what a sink reports as unwritten counts"
    assert "the bell is cracked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sink", "code", "said"),
    [
        ("bell", 2, "needs a file"),
        ("horn=x", 2, "there is no sink 'horn'"),
        ("rusty=x", 3, "the plug-in rusty (edgetl.sinks, from bell_of_somebody 1.0) does not work"),
        ("log", 2, "needs a file"),
        ("record=x.avi", 2, "MP4"),
        ("command=", 2, "has no command"),
        ("web=host:99999", 2, "no address to serve a page at"),
    ],
)
def test_a_sink_that_cannot_be_opened_is_told(
    words: list[str], capsys: pytest.CaptureFixture[str], sink: str, code: int, said: str
) -> None:
    assert run([*words, "--sink", sink]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert "hint: " in told.err


def test_sinks_of_edgetl_go_by_name_too(words: list[str], tmp_path: Path) -> None:
    log, video, told = tmp_path / "log.jsonl", tmp_path / "out.mp4", tmp_path / "told"
    sinks = [f"log={log}", f"record={video}", f"command=echo $EDGETL_LABEL >> {told}"]
    assert run([*words, *(word for sink in sinks for word in ("--sink", sink))]) == 0
    assert len(log.read_text().splitlines()) == 20
    assert len(read_clip(video)[1]) == 20
    assert told.read_text().split() == ["red", "green"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("log=a=b.jsonl", LogOptions(Path("a=b.jsonl"))),
        ("record=out.mp4", RecordOptions(Path("out.mp4"))),
        ("command=notify x=y", CommandOptions(on_change="notify x=y")),
        ("web", WebOptions(Address())),
        ("web=0.0.0.0:1", WebOptions(Address("0.0.0.0", 1))),
    ],
)
def test_a_value_becomes_the_options_of_its_sink(text: str, options: object) -> None:
    assert sink_options(text) == options


def test_names_are_known_without_loading_any_sink() -> None:
    code = (
        "import sys\nfrom toolchain.camera.sinks import SINKS\nprint(*SINKS.names())\n"
        "print([name for name in ('cv2', 'numpy', 'torch', 'onnxruntime', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names.split() == list(SINKS.names()) == ["collect", "command", "log", "mqtt", "record", "web", "webhook"]
    assert heavy == "[]"


def test_an_unknown_sink_names_those_that_there_are() -> None:
    with pytest.raises(BadInputError) as raised:
        sink_options("nosuch")
    assert isinstance(raised.value, EdgetlError)
    assert raised.value.hint == "Sinks are: collect, command, log, mqtt, record, web, webhook."
