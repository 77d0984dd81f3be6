"""Folders as people have them: whatever a photograph is stored as, a run trains on it or says why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import QUICK, Recorder
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError
from toolchain.images.reader import Reader
from toolchain.runs import read_splits
from toolchain.runs.grouping import open_as_trained
from toolchain.system.progress import Silent
from toolchain.training.finetune import finetune
from toolchain.training.photographs import find_outliers
from toolchain.training.settings import TrainSettings

EXIF_UPSIDE_DOWN = (
    b"\xff\xe1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x03\x00\x00\x00"
    b"\x00\x00\x00\x00"
)


def _probe(data: Path, out: Path, listener: Silent | None = None) -> object:
    settings = TrainSettings(str(data), weights="none", probe_only=True, **QUICK)  # type: ignore[arg-type]
    return finetune(settings, out, reporter=listener or Silent())


def test_every_way_to_store_a_photograph_is_trained_on(tmp_path: Path, drawn_folder: Path) -> None:
    data = tmp_path / "data with spaces"
    shutil.copytree(drawn_folder, data)
    (data / "cat").rename(data / "Кошка 猫")
    (data / "dog").rename(data / "chien très gentil")
    folder = data / "Кошка 猫"
    bgr = cv2.imread(str(min((drawn_folder / "cat").iterdir())))
    assert bgr is not None
    deep = bgr.astype(np.uint16) * 257
    ok, jpeg = cv2.imencode(".jpg", cv2.flip(bgr, 1))
    assert ok
    stored = {
        "sixteen bits.png": cv2.imencode(".png", deep)[1].tobytes(),
        "grey.png": cv2.imencode(".png", bgr[..., 0])[1].tobytes(),
        "alpha.png": cv2.imencode(".png", np.dstack([bgr, bgr[..., :1]]))[1].tobytes(),
        "web.webp": cv2.imencode(".webp", bgr)[1].tobytes(),
        "tiff.tiff": cv2.imencode(".tiff", bgr)[1].tobytes(),
        "turned.JPG": jpeg.tobytes()[:2] + EXIF_UPSIDE_DOWN + jpeg.tobytes()[2:],
    }
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    listener = Recorder()
    run = _probe(data, tmp_path / "run", listener)
    assert run.data.skipped == 0  # type: ignore[attr-defined]
    assert run.data.classes == ("chien très gentil", "fish", "Кошка 猫")  # type: ignore[attr-defined]
    used = {Path(file.name).name for files in read_splits(tmp_path / "run").values() for file in files}
    assert set(stored) <= used
    assert not [line for line in listener.warned if "skipped" in line]


def _copy(drawn_folder: Path, to: Path, *classes: str) -> None:
    for name in classes:
        shutil.copytree(drawn_folder / name, to / name)


def test_one_class_is_not_enough(tmp_path: Path, drawn_folder: Path) -> None:
    _copy(drawn_folder, tmp_path / "data", "cat")
    with pytest.raises(BadInputError, match="only the class 'cat'"):
        _probe(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_empty_class_is_named(tmp_path: Path, drawn_folder: Path) -> None:
    _copy(drawn_folder, tmp_path / "data", "cat", "dog")
    (tmp_path / "data" / "unicorn").mkdir()
    with pytest.raises(BadInputError, match="unicorn"):
        _probe(tmp_path / "data", tmp_path / "run")


def test_a_class_that_only_test_has_is_named(tmp_path: Path, drawn_folder: Path) -> None:
    _copy(drawn_folder, tmp_path / "data" / "train", "cat", "dog")
    _copy(drawn_folder, tmp_path / "data" / "test", "fish")
    with pytest.raises(BadInputError, match="fish"):
        _probe(tmp_path / "data", tmp_path / "run")


def test_a_cache_that_cannot_be_used_does_not_stop_a_run(
    tmp_path: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "file"))
    listener = Recorder()
    _probe(drawn_folder, tmp_path / "run", listener)
    assert len([line for line in listener.warned if "cannot be used" in line]) == 1


@pytest.mark.slow
def test_a_cache_gives_the_same_run_as_none(tmp_path: Path, drawn_folder: Path) -> None:
    settings = TrainSettings(str(drawn_folder), weights="none", **QUICK)  # type: ignore[arg-type]
    without = TrainSettings(str(drawn_folder), weights="none", cache=False, **QUICK)  # type: ignore[arg-type]
    runs = [finetune(one, tmp_path / str(number)) for number, one in enumerate((settings, settings, without))]
    assert len({run.model.sha256 for run in runs}) == 1


def test_few_validation_photographs_are_warned_of(tmp_path: Path, drawn_folder: Path) -> None:
    listener = Recorder()
    _probe(drawn_folder, tmp_path / "run", listener)
    assert any("only 3 validation photographs" in line for line in listener.warned)


def test_pictures_of_other_things_are_found_like_photographs(tmp_path: Path, drawn_folder: Path) -> None:
    """By their content, in linked folders too, without thumbnails; and what is left out is said."""
    data, others = tmp_path / "data", tmp_path / "others"
    shutil.copytree(drawn_folder, data, ignore=shutil.ignore_patterns("fish"))
    shutil.copytree(drawn_folder / "fish", tmp_path / "elsewhere")
    (others / "@eaDir").mkdir(parents=True)
    first, second, *_ = sorted((tmp_path / "elsewhere").iterdir())
    first.rename(others / "no suffix")
    shutil.copy(second, others / "@eaDir" / "SYNOPHOTO_THUMB_XL.jpg")
    (others / "notes.txt").write_text("about them")
    (others / "more").symlink_to(tmp_path / "elsewhere")
    settings = TrainSettings(str(data), weights="none", probe_only=True, outliers=str(others))
    reporter = Recorder()
    decoded = Reader(settings.preprocess, None, reporter)
    found = find_outliers(settings, open_dataset(str(data)), decoded, reporter)
    assert len(found) == 8
    assert reporter.warned == [
        f"{others}: 2 left out: in a helper folder of the system: 1 (@eaDir/SYNOPHOTO_THUMB_XL.jpg); "
        "text: 1 (notes.txt)"
    ]


def test_photographs_are_split_as_the_run_split_them(tmp_path: Path) -> None:
    """One that cannot be decoded, and one that came later, change which of a small class are in test."""
    data = tmp_path / "data é"
    for label, colour in (("red", (0, 0, 255)), ("blue", (255, 0, 0))):
        (data / label).mkdir(parents=True)
        for number in range(20):
            picture = np.full((40, 40, 3), colour, np.uint8)
            picture[number, :] = 255
            cv2.imwrite(str(data / label / f"{number:02}.png"), picture)
    for number in range(3):
        broken = data / "red" / f"{number:02}.png"
        broken.write_bytes(broken.read_bytes()[:90])
    settings = TrainSettings(str(data), weights="none", probe_only=True, **QUICK)  # type: ignore[arg-type]
    run = finetune(settings, tmp_path / "run", deployable=False)
    dataset = open_as_trained(str(data), [tmp_path / "run"], Silent())
    given = read_splits(tmp_path / "run")
    for split, listed in given.items():
        assert {one.sha256 for one in dataset.splits[split]} == {one.sha256 for one in listed}
    assert dataset.split_sha256("test") == run.data.split_sha256["test"]
    for number in range(20, 26):
        cv2.imwrite(str(data / "red" / f"{number}.png"), np.full((40, 40, 3), (number, 0, 255), np.uint8))
    later = open_as_trained(str(data), [tmp_path / "run"], Silent())
    taught = {one.sha256 for split in ("train", "calibration", "val") for one in given[split]}
    assert not taught & {one.sha256 for one in later.splits["test"]}


def test_whoever_measures_is_given_a_whole_test_folder(
    tmp_path: Path, drawn_folder: Path, run_folder: Path
) -> None:
    """Also what has taught the run: `bench` says how many these are."""
    data = tmp_path / "sorted"
    listed = [one for split in ("train", "test") for one in read_splits(run_folder)[split]]
    seen = {"train": listed[1::2], "test": listed[::2]}
    for side, some in seen.items():
        for one in some:
            (data / side / one.label).mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn_folder / one.name, data / side / one.label)
    found = open_as_trained(str(data), [run_folder], Silent()).splits["test"]
    assert {photo.sha256 for photo in found} == {one.sha256 for one in seen["test"]}
