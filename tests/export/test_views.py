"""The photographs of an export: views of them and training photographs are made while they are used."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from toolchain.errors import MissingError
from toolchain.export.int8.qat import BATCH, Step, plan_of
from toolchain.export.photographs import SHIFT, RunPhotographs, Views
from toolchain.runs import read_run
from toolchain.system.progress import Silent


def test_views_are_mirrored_and_moved() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), np.uint8)
    padded = np.pad(pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "edge")
    moved = [padded[:, at : at + 40, at : at + 30] for at in (SHIFT, 0, 2 * SHIFT)]
    expected = np.concatenate([view for one in moved for view in (one, one[:, :, ::-1])])
    views = Views(pixels)
    assert len(views) == len(expected) == 30
    for part in (slice(None), slice(0, 8), slice(8, 16), slice(24, 40), slice(30, 32)):
        np.testing.assert_array_equal(views[part], expected[part])


def test_views_of_a_large_split_take_no_memory() -> None:
    pixels = np.zeros((400, 64, 64, 3), np.uint8)
    views = Views(pixels)
    tracemalloc.start()
    try:
        seen = sum(len(views[at : at + 8]) for at in range(0, len(views), 8))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 2400
    assert peak < pixels.nbytes / 10


def test_training_photographs_are_read_while_they_are_used(
    tmp_path: Path, run_folder: Path, drawn_folder: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_folder, data)
    photographs = RunPhotographs(run_folder, read_run(run_folder), data, Silent())
    all_of_them = photographs.read("train").pixels
    assert photographs.count("train") == len(all_of_them) == 15
    groups = [[3, 1], [14], [0, 1, 2]]
    for group, batch in zip(groups, photographs.batches("train", groups), strict=True):
        np.testing.assert_array_equal(batch, all_of_them[group])
    photographs.paths("train")[14].write_bytes(b"another photograph")
    with pytest.raises(MissingError, match="a train photograph of the run, has changed"):
        list(photographs.batches("train", groups))


def test_networks_are_compared_on_other_photographs_than_are_trained_on(
    run_folder: Path, drawn_folder: Path
) -> None:
    photographs = RunPhotographs(run_folder, read_run(run_folder), drawn_folder, Silent())
    train = photographs.read("train")
    few = photographs.unlabelled(6)
    views = [Views(train.pixels[place : place + 1])[:] for place in range(15)]
    seen = [
        place
        for picture in few
        for place in range(15)
        if any(np.array_equal(picture, view) for view in views[place])
    ]
    assert len(set(seen)) == len(few) == 6, "one view of each"
    assert set(train.labels[seen]) == {0, 1, 2}
    assert set(photographs.for_training(6)) == set(range(15)) - set(seen)
    assert photographs.for_training(8) == list(range(15)), "fewer than half are left"
    every = photographs.unlabelled(1000)
    assert len(every) == len(np.unique(every.reshape(len(every), -1), axis=0)) == 6 * 15


@pytest.mark.parametrize("photographs", [5, BATCH, 100])
def test_training_goes_over_all_photographs_in_turn(photographs: int) -> None:
    epochs = 4
    plan = plan_of(photographs, epochs, 0)
    assert len(plan) == max(1, photographs // BATCH) * epochs
    per_epoch = len(plan) // epochs
    for first in range(0, len(plan), per_epoch):
        numbers = [number for step in plan[first : first + per_epoch] for number in step.photographs]
        assert len(set(numbers)) == len(numbers) == min(photographs, per_epoch * BATCH)
    assert {bool(one) for step in plan_of(photographs, 100, 0) for one in step.mirrored} == {True, False}
    orders = [[step.photographs for step in plan_of(photographs, epochs, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_photograph_is_mirrored_and_the_next_one_shows_through() -> None:
    images = np.zeros((3, 1, 2, 3), np.uint8)
    images[0, 0, 0], images[1], images[2, 0, 1] = 200, 100, 40
    step = Step([5, 6, 7], np.array([True, False, False]), np.array([1, 0.5, 0.75], np.float32))
    seen = step.seen(images)
    assert seen.dtype == np.uint8
    # The one before in the batch shows through, mirrored as it is itself.
    np.testing.assert_array_equal(seen[:, 0, :, 0], [[0, 200], [50, 150], [25, 55]])
