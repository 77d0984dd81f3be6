"""Hundreds of bad inputs of every kind: no traceback, no defect, no hang, and nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest

from tests.artifacts import tiny_artifact, tiny_ir
from tests.bad_inputs import (
    bad_archives,
    bad_artifacts,
    bad_cards,
    bad_folders,
    bad_irs,
    bad_names,
    bad_options,
    bad_photographs,
    bad_recipes,
    bad_records,
    bad_reports,
    bad_reviews,
    bad_runs,
    bad_streams,
    bad_surroundings,
    bad_tflites,
)
from tests.bad_inputs.entry import GOOD, MODEL, Entry, Stock
from tests.bad_inputs.trial import attempt, judge, left_behind, lost, snapshot
from tests.clips import plain
from toolchain.errors import ExitCode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names, pipes and devices as Linux has them")

KINDS = {
    "photograph": bad_photographs.ENTRIES,
    "artifact": bad_artifacts.ENTRIES,
    "card": bad_cards.ENTRIES,
    "ir": bad_irs.ENTRIES,
    "tflite": bad_tflites.ENTRIES,
    "run": bad_runs.ENTRIES,
    "recipe": bad_recipes.ENTRIES,
    "report": bad_reports.ENTRIES,
    "record": bad_records.ENTRIES,
    "review": bad_reviews.ENTRIES,
    "archive": bad_archives.ENTRIES,
    "stream": bad_streams.ENTRIES,
    "folder": bad_folders.ENTRIES,
    "name": bad_names.ENTRIES,
    "option": bad_options.ENTRIES,
    "surroundings": bad_surroundings.ENTRIES,
}


def _parameters() -> list[object]:
    return [pytest.param(entry, id=f"{kind}-{entry.id}") for kind, entries in KINDS.items() for entry in entries]


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    tiny_artifact(folder / MODEL)
    tiny_ir(folder / "tiny.xml")
    cv2.imwrite(str(folder / GOOD), plain("red"))
    return Stock(
        tiny=folder / MODEL,
        ir=folder / "tiny.xml",
        photographs=lambda: request.getfixturevalue("drawn_folder"),
        run=lambda: request.getfixturevalue("run_folder"),
        unfinished=lambda: request.getfixturevalue("unfinished_run"),
    )


@pytest.fixture(scope="session")
def unfinished_run(tmp_path_factory: pytest.TempPathFactory, drawn_folder: Path, weights: Path) -> Path:
    """A run that was interrupted when its first epoch was stored."""
    from tests.conftest import QUICK
    from toolchain.training import loop
    from toolchain.training.finetune import finetune
    from toolchain.training.settings import TrainSettings

    folder = tmp_path_factory.mktemp("unfinished") / "run"
    original = loop.save_state

    def interrupted(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    settings = TrainSettings(data=str(drawn_folder), weights=str(weights), **QUICK)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, folder)
    return folder


@pytest.fixture
def place(stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model file and a picture; data and temporary files go beside it."""
    here = tmp_path / "place"
    for folder in (here, tmp_path / "data", tmp_path / "tmp"):
        folder.mkdir()
    for whole in (stock.tiny, stock.tiny.with_name(GOOD)):
        shutil.copyfile(whole, here / whole.name)
    monkeypatch.chdir(here)
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return here


@pytest.mark.parametrize("entry", _parameters())
def test_bad_input_ends_well(
    entry: Entry, stock: Stock, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in entry.environment.items():
        monkeypatch.setenv(name, value)
    entry.make(stock, place)
    with entry.around(stock, place) if entry.around else nullcontext({}) as filled:
        for command in entry.commands:
            words = [word.format_map(filled) if filled else word for word in command]
            # People get a table where programs get a document. An error is the same lines for both: once is enough.
            for as_read in _ways(words):
                before = snapshot(tmp_path)
                outcome = attempt(entry, [words[0], *_first(words), *as_read, *_rest(words)])
                judge(entry, outcome)
                after = snapshot(tmp_path)
                assert not lost(before, after), f"{words} changed what was there"
                if outcome.code not in (ExitCode.DONE, ExitCode.PROMISE_BROKEN):
                    assert not left_behind(before, after, entry.leaves), f"{words} left something behind"
                    break


def _ways(words: list[str]) -> list[list[str]]:
    """What is added for programs, and for people."""
    if words[0].startswith("-"):
        return [[]]
    return [["--json"], ["--headless"] if words[0] == "camera" else []]


def _first(words: list[str]) -> list[str]:
    """The name of a command below a command."""
    return words[1:2] if words[0] in ("data", "explain") else []


def _rest(words: list[str]) -> list[str]:
    return words[1 + len(_first(words)) :]


def test_the_corpus_is_large_and_every_input_has_a_name_of_its_own() -> None:
    assert sum(len(entries) for entries in KINDS.values()) >= 300
    for kind, entries in KINDS.items():
        assert len(entries) >= 8, kind
        again = [name for name, count in Counter(entry.id for entry in entries).items() if count > 1]
        assert not again, (kind, again)


def test_a_loss_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "changed.txt").write_text("before")
    (tmp_path / "removed.txt").write_text("gone")
    before = snapshot(tmp_path)
    (tmp_path / "changed.txt").write_text("after")
    (tmp_path / "removed.txt").unlink()
    (tmp_path / "new.part").write_text("new")
    after = snapshot(tmp_path)
    assert lost(before, after) == [b"changed.txt", b"removed.txt"]
    assert left_behind(before, after, ()) == [b"new.part"]
    assert left_behind(before, after, ("*.part",)) == []


JUDGED = """
import time
from pathlib import Path
import toolchain.artifact
from tests.bad_inputs.entry import Entry
from tests.bad_inputs.trial import attempt, judge
Path("model.onnx").write_bytes(b"any")
toolchain.artifact.read_artifact = lambda path: {act}
entry = Entry("defect", (), limit_s=0.2)
judge(entry, attempt(entry, ["card", "model.onnx"]))
"""
"""In a process of its own: what earlier tests have loaded may not survive the signal that ends a hang."""


@pytest.mark.parametrize(("act", "told"), [("1 / 0", "not one of"), ("time.sleep(30)", "had not ended")])
def test_a_defect_and_a_hang_would_be_noticed(act: str, told: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", JUDGED.format(act=act)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert told in done.stderr
