"""`edgetl teach`: by script through the same lesson, and killed in the middle of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.teach.teach_support import write_take
from tests.web_support import wait_until
from toolchain.classifier import load
from toolchain.cli import run
from toolchain.runs import read_run
from toolchain.teach.album import Album


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("take cup", "line 1: 'take cup' is no step"),
        ("dance", "line 1: 'dance' is no step"),
        ("take 'cup x.mp4", "line 1: No closing quotation"),
        ("take cup nosuch.mp4", "nosuch.mp4 does not exist"),
        ("take a/b nosuch.mp4", "'a/b' cannot be the name of a class folder"),
        ("train", "one thing alone cannot be told from anything"),
    ],
)
def test_scripts_that_make_no_sense(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.txt").write_text(line)
    assert run(["teach", "--script", "script.txt", "--quiet"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--weights none", "random weights know nothing"),
        ("--weights nosuch.pth", "weights nosuch.pth do not exist"),
        ("--model nosuch", "unknown model 'nosuch'"),
        ("--web-token a-token-of-a-sensible-length", "are for --web"),
        ("--script x --web", "--script needs no page"),
        ("--script nosuch.txt", "nosuch.txt cannot be read"),
        ("train --script nosuch.txt", "nosuch.txt cannot be read"),
        ("--source nosuch.mp4 --web 0", "nosuch.mp4 does not exist"),
        ("--source @nosuch.txt --web 0", "nosuch.txt cannot be read"),
    ],
)
def test_wrong_use(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["teach", *words.split(), "--quiet"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_taught_by_script_it_knows_another_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = {"cup": "cat", "pen": "fish"}
    lines = [
        f"take {thing} '{write_take(tmp_path / f'{thing} {take}.mp4', like, take)}'"
        for thing, like in things.items()
        for take in range(4)
    ]
    watched = [f"watch '{write_take(tmp_path / f'{thing} 9.mp4', like, 9)}'" for thing, like in things.items()]
    script = tmp_path / "script.txt"
    script.write_text("\n".join([*lines, "train  # at last", *watched]))
    out = tmp_path / "my things"
    assert run(["teach", "--script", str(script), "--out", str(out), "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    learnt = document["state"]["learnt"]
    assert learnt["takes"] == 6, "one take of each never teaches"
    assert learnt["top1"] > 0.5
    assert learnt["test"] is not None
    for thing, seen in zip(things, document["watched"], strict=True):
        assert seen["frames"] == 45
        assert max(seen["answers"], key=seen["answers"].get) in {thing, ""}
    # An ordinary run: known to the other commands, and to a program.
    made = read_run(out / "run")
    assert made.data.counts["test"] > 0
    assert made.model.judged_on == "test"
    assert made.cross_validation is not None
    assert made.cross_validation.folds == 6
    assert load(out / "run").card.source.run == "run"
    assert run(["export", str(out / "run"), "--quiet"]) == 0
    assert run(["predict", str(out / "run"), str(out / "photographs" / "cup" / "take001-0001.jpg")]) == 0
    clip = str(tmp_path / "cup 9.mp4")
    assert run(["camera", str(out / "run"), "--source", clip, "--headless", "--as-fast-as-possible"]) == 0
    assert "45 of 45 frames answered" in capsys.readouterr().out
    killed_while_it_learns(out, script)


def killed_while_it_learns(out: Path, script: Path) -> None:
    """Nothing is lost: neither a photograph, nor the run before."""
    before, photographs = (out / "run" / "run.json").read_bytes(), Album(out).paths()
    script.write_text("train")
    process = started(script, out)
    try:
        wait_until(lambda: (out / ".new" / "run" / "model.safetensors").exists() or process.poll() is not None, 120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    album = Album(out)
    assert album.paths() == photographs
    assert not (out / ".new").exists()
    assert (album.run / "run.json").read_bytes() == before
    assert load(album.run).card.labels == ("cup", "pen")


def started(script: Path, out: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "toolchain", "teach", "--script", str(script), "--out", str(out)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_take_nothing_that_was_counted_is_lost(tmp_path: Path) -> None:
    clip = write_take(tmp_path / "long.mp4", "cat", count=3000)
    script = tmp_path / "script.txt"
    script.write_text(f"take cup {clip}\n")
    out = tmp_path / "a"
    process = started(script, out)
    try:
        wait_until(lambda: len(list(out.glob("photographs/cup/take*.jpg"))) >= 4, 60)
    finally:
        process.kill()
        process.wait()
    found = sorted(out.glob("photographs/cup/take*.jpg"))
    assert len(found) >= 4
    assert all(cv2.imread(str(path)) is not None for path in found)
    album = Album(out)
    assert album.paths() == found
    assert album.new_take() == 2, "the killed take is whole as far as it went; the next one is another"
    assert not list(out.rglob(".take*"))
