"""Names that are no UTF-8, hold line breaks or commands for terminals, and terminals that cannot show a name."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest

from tests.artifacts import tiny_artifact, tiny_card
from tests.clips import plain, write_clip
from toolchain.artifact.card import QuantizationRecipe, Source
from toolchain.cli import run
from toolchain.runs import read_run, read_splits
from toolchain.system import files
from toolchain.system.text import escaped, fixed, folded, harmless, harmless_cell, is_printable, percent, unescaped

BAD = os.fsdecode(b"caf\xe9")
"""As an old archive of another code page leaves it."""
UGLY = f"{BAD}\x1b[31m \n"
LABELS = ("réd", "gr中en", "blue")
TEXTS = ("", "plain", "é中", BAD, "\\udce9", "\\u005cudce9", f"\\{BAD}", "\\ud", f"\\u{BAD}",
         f"\\u005c{BAD}\\\\udce9\\",
         "C:\\photos\\udc\\x", "\\u005cu005cudce9", "\ud800", "\\u005c")  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes, as Linux has them")


@pytest.mark.parametrize("text", TEXTS)
def test_every_name_has_one_form_and_comes_back(text: str) -> None:
    escaped(text).encode()
    assert unescaped(escaped(text)) == text
    data = files.to_json({"name": text, text: [text]})
    assert json.loads(data.decode()) == {"name": escaped(text), escaped(text): [escaped(text)]}
    assert files.from_json(data, dict[str, Any]) == {"name": text, text: [text]}
    assert files.from_json(files.to_json({1: text}), dict[int, str]) == {1: text}


def test_no_two_names_share_a_form() -> None:
    assert len({escaped(text) for text in TEXTS}) == len(TEXTS)


def test_what_is_no_json_is_told() -> None:
    for data in (b"", b"{", b'{"a": "\\\\udce9"', b'"\xff\\\\ud"'):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            files.from_json(data, dict[str, str])


def test_commands_for_terminals_are_shown_and_not_sent() -> None:
    assert harmless("a\x1b[31mb\nc\x07\u202ed é中") == "a\\x1b[31mb\\x0ac\\x07\\u202ed é中"
    assert harmless("a\nb", keep="\n") == "a\nb"


STEERING = ("\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\x7f", "\u202eabc", "\u2066", "\u2028", "\r")
"""Commands of terminals in 7 and 8 bits (clipboard, clear screen, colour), and other ways to lie about a line."""


@pytest.mark.parametrize("steering", STEERING)
def test_nothing_that_steers_a_terminal_is_in_json_and_nothing_is_lost_of_it(steering: str) -> None:
    text = f"cat{steering}é中"
    assert not is_printable(text)
    assert is_printable("é中 \u200c\u200d")  # Persian and emoji need them
    document = files.to_json({text: [text]})
    assert document.decode() == harmless(document.decode(), keep="\n")
    assert files.from_json(document, dict[str, list[str]]) == {text: [text]}
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize("steering", STEERING)
def test_what_others_wrote_into_a_card_does_not_steer_the_terminal(
    steering: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = f"a{steering}b"
    with pytest.raises(ValueError, match="control characters"):
        tiny_card((text, "dog"))
    source = Source(text, text, text, None, text, {text: text})
    recipe = QuantizationRecipe(text, {text: text})
    where = tmp_path / "model.onnx"
    tiny_artifact(
        where, precision="float16", recipe=recipe, source=source, edgetl_version=text, runtimes=("ort:cpu", text)
    )
    picture = tmp_path / f"{text}.png"
    cv2.imwrite(str(tmp_path / "a.png"), plain("red"))
    (tmp_path / "a.png").rename(picture)
    (tmp_path / f"broken{text}.jpg").write_bytes(b"no picture")
    for words in (
        ["card", str(where)],
        ["predict", str(where), str(tmp_path)],
        ["predict", str(where), str(tmp_path / f"broken{text}.jpg")],
        ["camera", str(where), "--source", str(picture), "--frames", "1"],
        ["data", "check", str(tmp_path / text)],
    ):
        for way in ([], ["--json"]):
            run([*words, *way])
            told = capfd.readouterr()
            assert told.out + told.err == harmless(told.out + told.err, keep="\n"), words


def test_a_spreadsheet_computes_nothing() -> None:
    assert [harmless_cell(text) for text in ("=1+1", "+1", "-1", "@x", "\t=1", "cat", "1-1", "")] == [
        "'=1+1", "'+1", "'-1", "'@x", "'\t=1", "cat", "1-1", "",
    ]  # fmt: skip


PROGRAM = """
import json, sys
from toolchain.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as leave:
        print("-- done", int(leave.code), flush=True)
"""


@pytest.fixture
def place(tmp_path: Path, drawn_folder: Path) -> Path:
    """A folder with a name that is no UTF-8, with photographs of such names, a model and a clip."""
    folder = tmp_path / BAD
    shutil.copytree(drawn_folder, folder / "photos")
    for number, path in enumerate(sorted((folder / "photos").rglob("*.jpg"))):
        if number % 3 == 0:
            path.rename(path.with_name(f"{UGLY}{number}.jpg"))
    tiny_artifact(folder / "tiny.onnx", labels=LABELS)
    write_clip(tmp_path / "clip.mp4", ["red"] * 3 + ["blue"] * 3).rename(folder / f"{BAD}.mp4")
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "ascii", "C"])
def test_no_terminal_costs_a_result(place: Path, encoding: str) -> None:
    variables = {"LC_ALL": "C"} if encoding == "C" else {"PYTHONIOENCODING": encoding}
    model, clip = str(place / "tiny.onnx"), str(place / f"{BAD}.mp4")
    commands = [
        ["predict", model, str(place / "photos")],
        ["card", model],
        ["camera", model, "--source", clip, "--headless", "--as-fast-as-possible"],
    ]
    commands += [[*words, "--json"] for words in commands]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        env=os.environ | variables,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    answers = done.stdout.split(b"-- done 0\n")[:-1]
    assert len(answers) == len(commands)
    shown = "r\\xe9d" if encoding == "ascii" else "réd"
    for answer in answers[:3]:
        assert shown in answer.decode("utf-8" if encoding == "C" else encoding)
    for words, answer in zip(commands[3:], answers[3:], strict=True):
        lines = answer.splitlines() if words[0] == "camera" else [answer]
        found = [json.loads(line.decode("utf-8")) for line in lines]
        assert "réd" in json.dumps(found, ensure_ascii=False)


def test_results_name_such_files_so_that_they_are_found_again(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(place / "tiny.onnx"), str(place / "photos"), "--json"]) == 0
    named = [Path(unescaped(one["image"])) for one in json.loads(capsys.readouterr().out)["predictions"]]
    assert sorted(named) == sorted((place / "photos").rglob("*.jpg"))
    for words in (["card", str(place / "tiny.onnx")], ["data", "info", str(place / "photos")]):
        assert run([*words, "--json"]) == 0
        json.loads(capsys.readouterr().out)
    assert run(["predict", str(place / f"{UGLY}.onnx"), "x.jpg", "--json"]) == 2
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 2
    assert "caf\\udce9" in json.loads(told.out)["error"]


def test_a_file_that_is_set_aside_comes_back_under_its_name(place: Path) -> None:
    broken = place / "photos" / "cat" / f"{UGLY}broken.jpg"
    broken.write_bytes(b"no picture")
    assert run(["data", "check", str(place / "photos"), "--fix", "--quiet"]) == 0
    assert not broken.exists()
    [record] = place.glob("photos.set-aside/*.json")
    assert run(["data", "restore", str(record)]) == 0
    assert broken.read_bytes() == b"no picture"


def test_a_name_cannot_pretend_to_be_a_line_of_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place / "photos")
    for number in (1, 2):
        Path(f"cat/x\nerror: forged{number}.jpg").write_bytes(b"no picture")
    shutil.copy(place / "tiny.onnx", "t.onnx")
    for words in (
        ["data", "check", "."],
        ["predict", "t.onnx", "cat"],
        ["predict", "t.onnx", "cat/x\nerror: forged1.jpg"],
        ["predict", "nosuch\nerror: forged", "cat"],
        ["data", "check", ".", "--fix"],
    ):
        run(words)
        told = capsys.readouterr()
        assert "forged" in told.out + told.err
        assert not [line for line in (told.out + told.err).splitlines() if line.startswith("error: forged")]


@pytest.mark.slow
def test_the_whole_road_on_such_names(place: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, photos = place / f"{BAD}-run", place / "photos"
    words = ["finetune", str(photos), "--weights", str(weights), "--model", "mobilenet_v3_small", "--size", "64"]
    assert run([*words, "--device", "cpu", "--probe-only", "--out", str(folder), "--json"]) == 0
    assert read_run(folder).data.path == str(photos)
    splits = read_splits(folder)
    names = {photo.name for photos in splits.values() for photo in photos}
    assert names == {str(path.relative_to(photos)) for path in photos.rglob("*.jpg")}
    written = (folder / "predictions.csv").read_bytes().decode()
    rows = csv.DictReader(io.StringIO(written, newline=""))
    assert {unescaped(row["name"]) for row in rows} == {
        photo.name for one in ("val", "test") for photo in splits[one]
    }
    assert run(["export", str(folder), "--json"]) == 0
    bench = ["bench", str(folder), "--data", str(photos), "--rounds", "1", "--device", "ort:cpu"]
    assert run([*bench, "--out", str(place / f"{BAD}-bench"), "--json"]) == 0
    report = str(place / f"{BAD}-bench" / "bench.json")
    capsys.readouterr()
    assert run(["bench", report, "--compare", report, "--json"]) in (0, 4)  # noisy runs are undecided
    [arm] = json.loads(capsys.readouterr().out)["arms"]
    assert Path(unescaped(arm["artifact"])) == folder / "model.onnx"
    assert arm["accuracy"]["n"] > 0
    picture = str(next(photos.glob("*/caf*")))
    for more in (["why", str(folder / "model.onnx"), picture],):
        assert run(["explain", *more, "--out", str(place / f"{BAD}-{more[0]}"), "--json"]) == 0


@pytest.mark.parametrize(
    ("value", "digits", "plain", "signed"),
    [
        (-0.0, 2, "0.00", "0.00"),
        (-0.0004, 3, "0.000", "0.000"),
        (0.0004, 3, "0.000", "0.000"),
        (-0.0006, 3, "-0.001", "-0.001"),
        (1.25, 1, "1.2", "+1.2"),
        (-12.0, 0, "-12", "-12"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value: float, digits: int, plain: str, signed: str) -> None:
    assert (fixed(value, digits), fixed(value, digits, plus=True)) == (plain, signed)


def test_shares_in_percent() -> None:
    shown = [percent(-0.0001, 1, plus=True), percent(0.031, 1, plus=True), percent(0.5, 0)]
    assert shown == ["0.0%", "+3.1%", "50%"]


def test_names_are_the_same_in_both_forms_of_unicode() -> None:
    """Macs take letters apart."""
    assert folded("A\u0308pfel") == folded("\u00c4pfel") == folded("\u00e4pfel")
