from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artifacts import COLOURS
from bench_support import SIDE, colour_artifact

from toolchain.artifact import Artifact
from toolchain.bench import inputs
from toolchain.bench.inputs import Chosen, choose, compare_split, draw_photographs, prepare
from toolchain.classifier import Classifier
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess
from toolchain.system.progress import Silent


class Remembering(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_limit_spreads_over_the_classes(artifact: Artifact, photographs: Path) -> None:
    chosen = choose([artifact], str(photographs), "test", 6, Silent())
    assert chosen is not None
    assert sorted(chosen.labels) == [0, 0, 1, 1, 2, 2]
    assert [path.parent.name for path in chosen.photographs] == [chosen.classes[label] for label in chosen.labels]
    whole = choose([artifact], str(photographs), "test", 0, Silent())
    assert whole is not None
    assert len(whole.photographs) == 12
    assert whole.split_sha256 == chosen.split_sha256


def test_photographs_that_may_be_missing_are_said(tmp_path: Path, artifact: Artifact, photographs: Path) -> None:
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)
    reporter = Remembering()
    (root / "test" / "red" / "notes.txt").write_text("not said here")
    (root / "test" / "red" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    assert choose([artifact], str(root), "test", 0, reporter)
    assert reporter.warnings == [
        f"{root}: 1 left out that may be photographs: a link that leads nowhere: 1 (test/red/gone.jpg)"
    ]


def test_empty_split_names_those_that_are_not(
    artifact: Artifact, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(photographs))
    without = replace(dataset, splits={"train": dataset.splits["train"], "val": (), "calibration": (), "test": ()})
    monkeypatch.setattr(inputs, "open_as_trained", lambda data, folders, reporter: without)
    with pytest.raises(BadInputError, match="no photographs in test") as caught:
        choose([artifact], str(photographs), "test", 0, Silent())
    assert caught.value.hint == "Choose --split from: train."


def test_cards_that_name_different_data_give_latency_only(tmp_path: Path) -> None:
    reporter = Remembering()
    artifacts = [colour_artifact(tmp_path / f"{name}.onnx", data=name) for name in ("one", "two")]
    assert choose(artifacts, None, "test", 0, reporter) is None
    assert "different data (one, two)" in reporter.warnings[0]


def test_unreadable_photographs_are_skipped_and_named(tmp_path: Path, photographs: Path) -> None:
    good = sorted((photographs / "test" / "red").iterdir())
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:100])
    reporter = Remembering()
    specs = [Preprocess(SIDE, SIDE, shortest_edge=SIDE), Preprocess(16, 24, resize="squash")]
    prepared = prepare(Chosen((bad, good[0], bad, good[1])), specs, tmp_path, reporter)
    assert prepared.readable == (1, 3)
    assert len(reporter.warnings) == 2
    assert "bad.png" in reporter.warnings[0]
    with pytest.raises(BadInputError, match="none of the photographs"):
        prepare(Chosen((bad,)), specs, tmp_path, reporter)


def test_prepared_pictures_are_what_the_classifier_would_see(
    tmp_path: Path, artifact: Artifact, photographs: Path
) -> None:
    paths = sorted((photographs / "test").rglob("*.png"))
    spec = artifact.card.preprocess
    prepared = prepare(Chosen(tuple(paths)), [spec], tmp_path, Silent())
    found = np.fromfile(prepared.pictures[spec], np.uint8).reshape(-1, SIDE, SIDE, 3)
    classifier = Classifier(artifact.card, None)  # type: ignore[arg-type]  # preprocessing needs no runtime
    expected = np.stack([classifier.preprocess(path) for path in paths])
    np.testing.assert_array_equal(found, expected)


def test_drawn_photographs_can_be_read_and_differ(tmp_path: Path) -> None:
    chosen = draw_photographs(tmp_path)
    assert chosen.labels == ()
    assert len({path.read_bytes() for path in chosen.photographs}) == len(chosen.photographs) > 10
    spec = Preprocess(SIDE, SIDE, shortest_edge=SIDE)
    assert len(prepare(chosen, [spec], tmp_path, Silent()).readable) == len(chosen.photographs)


@pytest.mark.parametrize(
    ("named", "remark"),
    [("test", ""), ("train", "has seen these photographs: they are its train split"), (None, "none of the splits")],
)
def test_split_is_compared_with_the_card(
    artifact: Artifact, photographs: Path, named: str | None, remark: str
) -> None:
    sha256 = open_dataset(str(photographs)).split_sha256("test")
    splits = {named: sha256} if named else {"test": "f" * 64}
    known = replace(artifact, card=replace(artifact.card, splits=splits))
    chosen = Chosen((), classes=COLOURS, data="colours", split="test", split_sha256=sha256)
    found = compare_split(chosen, known)
    assert remark in found
    assert bool(found) == bool(remark)
