"""`--collect`: frames that are kept as pictures, which ones, how many, and what happens when that ends badly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import colour_of, plain, write_clip
from tests.datasets.datasets_support import Remembering
from tests.full_disk import files_of_at_most
from tests.web_support import wait_until
from toolchain.camera.answering import Answered
from toolchain.camera.session import CameraReport, watch
from toolchain.camera.sinks import collect
from toolchain.camera.sinks.collect import LINES, CollectOptions, When, parse_when
from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.system.claims import InUseError

posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals as POSIX has them")
SURE, UNSURE = 0.05, 0.0005
"""How much the tiny network makes of a colour: the second is ahead of none."""
ANY = When(frozenset({"uncertain", "changed"}), 1.0)


def _images(folder: Path, pictures: Sequence[str | int]) -> Path:
    """A folder with a picture for each colour; for a number, noise of that seed."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), plain(picture) if isinstance(picture, str) else noise)
    return folder


def _collect(
    folder: Path, source: Path, options: CollectOptions, scale: float = UNSURE, **more: Any
) -> tuple[CameraReport, list[str]]:
    """Watch `source`, of whose pictures each is shown for two seconds; the report, and what was warned of."""
    tiny_artifact(folder / "tiny.onnx", scale=scale)
    reporter = Remembering()
    report = watch(folder / "tiny.onnx", source, sinks=[options], every_frame=True, reporter=reporter, **more)
    return report, reporter.warned


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LINES).read_text().splitlines()]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LINES)


def _whole(folder: Path) -> list[str]:
    """The pictures without the one that is being written, which has a hidden name."""
    return [name for name in _names(folder) if not name.startswith(".")]


def test_a_line_beside_each_picture_says_what_was_answered(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "kept"
    before = datetime.now(timezone.utc)
    report, warned = _collect(tmp_path, _images(tmp_path / "in", ["red", "green", "blue"]), CollectOptions(kept))
    lines = _lines(kept)
    assert [line["file"] for line in lines] == _names(kept)
    assert all(re.fullmatch(rf"\d{{8}}T\d{{6}}Z-{n}\.jpg", line["file"]) for n, line in enumerate(lines, 1))
    pictures = [cv2.imread(str(kept / line["file"])) for line in lines]
    assert [colour_of(np.asarray(picture, np.uint8)) for picture in pictures] == ["red", "green", "blue"]
    digest = tiny_artifact(tmp_path / "tiny.onnx", scale=UNSURE).sha256
    for line, label in zip(lines, ("red", "green", "blue"), strict=True):
        assert list(line) == ["file", "time", "label", "probabilities", "rejected", "why", "artifact"]
        at = datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert before - timedelta(seconds=1) < at <= datetime.now(timezone.utc)
        assert line["file"].startswith(f"{at:%Y%m%dT%H%M%SZ}-")
        assert (line["label"], line["rejected"], line["why"], line["artifact"]) == (
            label,
            False,
            "uncertain",
            digest,
        )
        assert line["probabilities"][0][0] == label
        shares = [share for _, share in line["probabilities"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert report.notes == (f"collected: 3 pictures in {kept}",)
    assert not report.unwritten
    assert not warned


@pytest.mark.parametrize(
    ("words", "scale", "min_probability", "wanted"),
    [
        (["uncertain"], SURE, 0.0, []),
        (["uncertain"], UNSURE, 0.0, [(0, "uncertain"), (2, "uncertain"), (3, "uncertain")]),
        (["uncertain"], UNSURE, 0.9, [(0, "rejected"), (2, "rejected"), (3, "rejected")]),
        (["rejected"], UNSURE, 0.0, []),
        (["rejected"], UNSURE, 0.9, [(0, "rejected"), (2, "rejected"), (3, "rejected")]),
        (["changed"], SURE, 0.0, [(0, "changed"), (2, "changed"), (3, "changed")]),
        (["every=2"], SURE, 0.0, [(0, "every"), (1, "every"), (2, "every"), (3, "every")]),
        (["every=3"], SURE, 0.0, [(0, "every"), (2, "every")]),
        (
            ["every=2", "rejected"],
            UNSURE,
            0.9,
            [(0, "every"), (1, "every"), (2, "every"), (3, "every")],
        ),
        (["changed", "rejected"], UNSURE, 0.9, [(0, "changed"), (2, "rejected"), (3, "rejected")]),
        (["every=4", "changed"], SURE, 0.0, [(0, "changed"), (1, "every"), (2, "changed"), (3, "changed")]),
    ],
)
def test_which_frames_are_kept(
    tmp_path: Path, words: list[str], scale: float, min_probability: float, wanted: list[tuple[int, str]]
) -> None:
    """Of two that look alike, the second tells nothing new, unless it was asked for."""
    source = _images(tmp_path / "in", ["red", "red", "green", "blue"])
    shown: list[str] = []

    def remember(answered: Answered) -> None:
        shown.append(colour_of(answered.frame.bgr))

    options = CollectOptions(tmp_path / "kept", parse_when(words))
    _collect(tmp_path, source, options, scale, min_probability=min_probability, on_answer=remember)
    assert shown == ["red", "red", "green", "blue"]
    lines = _lines(options.path) if wanted else []
    assert [(line["why"], line["label"]) for line in lines] == [
        (why, None if min_probability else shown[frame]) for frame, why in wanted
    ]
    if not wanted:
        assert not options.path.exists(), "nothing was kept, and nothing is left"


def test_at_most_one_a_second(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "noise.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for seed in range(35):
        writer.write(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1))
    writer.release()
    options = CollectOptions(tmp_path / "kept", ANY)
    _collect(tmp_path, tmp_path / "noise.mp4", options)
    assert len(_lines(options.path)) == 4


def test_lens_caps_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "0.png"), np.zeros((48, 64, 3), np.uint8))
    options = CollectOptions(tmp_path / "kept", When(frozenset(collect.KINDS), 1.0))
    report, _ = _collect(tmp_path, tmp_path / "in", options)
    assert report.summary.frames_answered == 1
    assert not options.path.exists()


@pytest.mark.parametrize(("bound", "kept"), [({"max_pictures": 2}, 2), ({"max_mb": 0.0001}, 0)])
def test_a_folder_is_bounded_and_the_answers_go_on(tmp_path: Path, bound: dict[str, Any], kept: int) -> None:
    options = CollectOptions(tmp_path / "kept", ANY, **bound)
    report, warned = _collect(tmp_path, _images(tmp_path / "in", range(6)), options)
    assert report.summary.frames_answered == 6
    assert report.notes == (f"collected: {kept} pictures in {options.path}",)
    [said] = warned
    assert f"stops: it holds {kept} pictures" in said
    assert not report.unwritten, "which is what was asked for"
    if kept:
        assert len(_names(options.path)) == len(_lines(options.path)) == kept


def test_what_is_taken_away_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "AGAIN_S", 0.0)
    options = CollectOptions(tmp_path / "kept", ANY, max_pictures=2)

    def review(answered: Answered) -> None:
        if answered.frame.number == 3:
            for name in wait_until(lambda: len(found := _whole(options.path)) == 2 and found):
                (options.path / name).unlink()

    report, warned = _collect(tmp_path, _images(tmp_path / "in", range(8)), options, on_answer=review)
    assert len(_names(options.path)) == 2
    assert len(_lines(options.path)) == 4, "what was reviewed keeps its line"
    assert report.summary.frames_answered == 8
    assert "stops: it holds 2 pictures" in warned[0]


def test_a_picture_that_goes_while_they_are_counted_does_not_end_collecting(tmp_path: Path) -> None:
    """A link to nothing is listed and not there, as what a review moves at that moment."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "20260101T000000Z-1.jpg").symlink_to(tmp_path / "gone")
    report, warned = _collect(
        tmp_path, _images(tmp_path / "in", range(4)), CollectOptions(kept, ANY, max_pictures=2)
    )
    assert len(_lines(kept)) == 2
    assert "stops: it holds 2 pictures" in warned[0]
    assert report.summary.frames_answered == 4


@posix
def test_a_full_disk_ends_collecting_and_not_answering(tmp_path: Path) -> None:
    """Pictures fit here, but at some time not one more line."""
    options = CollectOptions(tmp_path / "kept", ANY)
    source = _images(tmp_path / "in", ["red", "green", "blue"] * 6)
    tiny_artifact(tmp_path / "tiny.onnx", scale=UNSURE)
    reporter = Remembering()
    with files_of_at_most(2000):
        report = watch(
            tmp_path / "tiny.onnx",
            source,
            sinks=[CollectOptions(options.path, parse_when(["every=1"]))],
            every_frame=True,
            reporter=reporter,
        )
    assert report.summary.frames_answered == 18
    [said] = reporter.warned
    assert "stops: File too large; the camera goes on" in said
    assert report.unwritten == (f"collecting into {options.path}: File too large",)
    whole = [json.loads(line)["file"] for line in (options.path / LINES).read_bytes().split(b"\n")[:-1]]
    assert whole == _names(options.path), "a picture whose line does not fit goes, too"
    assert 3 < len(whole) < 18
    before = len(whole)
    watch(tmp_path / "tiny.onnx", source, sinks=[options], every_frame=True)
    lines = [line for line in (options.path / LINES).read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["file"] for line in lines][:before] == whole
    assert sorted(json.loads(line)["file"] for line in lines) == _names(options.path)


@posix
def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    write_clip(tmp_path / "clip.mp4", ["red", "green", "blue"] * 1000, fps=1)
    tiny_artifact(tmp_path / "tiny.onnx")
    words = ["camera", str(tmp_path / "tiny.onnx"), "--source", str(tmp_path / "clip.mp4"), "--as-fast-as-possible",
             "--json", "--collect", str(kept), "--when", "every=1"]  # fmt: skip
    for so_far in (20, 60):
        with subprocess.Popen([sys.executable, "-m", "toolchain", *words], stdout=subprocess.DEVNULL) as process:
            wait_until(lambda wanted=so_far: kept.exists() and len(_names(kept)) > wanted, 30)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    data = (kept / LINES).read_bytes()
    assert data.endswith(b"\n")
    named = [json.loads(line)["file"] for line in data.splitlines()]
    pictures = _whole(kept)
    assert set(named) <= set(pictures)
    assert len(set(named)) == len(named) > 40
    assert len(pictures) - len(named) <= 2, "at most one without its line for each time that it was killed"
    assert all(cv2.imread(str(kept / name)) is not None for name in pictures)


def test_unfinished_pictures_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / ".20260101T000000Z-7.jpg.0123456789ab.jpg").write_bytes(b"\xff\xd8")
    (kept / "mine.txt").write_text("stays")
    _collect(tmp_path, _images(tmp_path / "in", ["red"]), CollectOptions(kept))
    assert len(_names(kept)) == 2
    assert (kept / "mine.txt").exists()


def test_a_second_camera_is_refused(tmp_path: Path) -> None:
    options = CollectOptions(tmp_path / "kept")
    source = _images(tmp_path / "in", ["red"])
    refused: list[InUseError] = []

    def second(answered: Answered) -> None:
        with pytest.raises(InUseError, match="is in use: another camera writes it") as raised:
            watch(tmp_path / "tiny.onnx", source, sinks=[options], every_frame=True)
        refused.append(raised.value)

    _collect(tmp_path, source, options, on_answer=second)
    assert len(refused) == 1
    assert len(_lines(options.path)) == 1


@pytest.mark.parametrize("word", ["sometimes", "every", "every=", "every=0", "every=0.5", "every=nan", "every=1e9"])
def test_a_strange_when_is_told(word: str) -> None:
    with pytest.raises(BadInputError) as raised:
        parse_when([word])
    assert raised.value.hint


def test_what_is_no_place_to_collect_into(tmp_path: Path) -> None:
    source = _images(tmp_path / "in", ["red"])
    with pytest.raises(BadInputError, match="is the source itself"):
        _collect(tmp_path, source, CollectOptions(source))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match="cannot be made: "):
        _collect(tmp_path, source, CollectOptions(tmp_path / "file"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LINES).write_text("something else\n")
    with pytest.raises(BadInputError, match="exists already"):
        _collect(tmp_path, source, CollectOptions(tmp_path / "other"))
    assert (tmp_path / "other" / LINES).read_text() == "something else\n"


def test_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _images(tmp_path / "in", ["red", "green", "blue"])
    tiny_artifact(tmp_path / "tiny.onnx")
    words = ["camera", str(tmp_path / "tiny.onnx"), "--source", str(source), "--as-fast-as-possible", "--headless"]
    assert run([*words, "--collect", str(tmp_path / "a"), "--when", "changed", "--collect-limit", "2"]) == 0
    assert f"collected: 2 pictures in {tmp_path / 'a'}" in capsys.readouterr().out
    assert run([*words, "--sink", f"collect={tmp_path / 'b'}", "--min-probability", "1"]) == 0
    assert f"collected: 3 pictures in {tmp_path / 'b'}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name not in {"a", "b", "in", "tiny.onnx"}] == []
    for wrong in (
        ["--when", "changed"],
        ["--collect-limit", "3"],
        ["--collect", str(tmp_path / "c"), "--when", "x"],
    ):
        assert run([*words, *wrong]) == 2
    assert not (tmp_path / "c").exists()
