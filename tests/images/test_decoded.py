"""The cache of decoded photographs: what is read back, and that trouble with it costs time only."""

from __future__ import annotations

import hashlib
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import Recorder
from toolchain.datasets import Photograph
from toolchain.errors import BadInputError
from toolchain.images import decoded
from toolchain.images.decoded import FILE, Decoded, problem_of
from toolchain.images.preprocess import Preprocess, read
from toolchain.system.progress import Silent

SPEC = Preprocess(height=64, width=64, shortest_edge=64)


def _photo(folder: Path, seed: int, height: int = 300, width: int = 400) -> Photograph:
    path = folder / f"{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 5))
    return Photograph(path.name, path, 0, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def photo(tmp_path: Path) -> Photograph:
    return _photo(tmp_path, 0)


def test_what_is_read_back_is_what_was_decoded(tmp_path: Path, photo: Photograph) -> None:
    cache = Decoded(tmp_path / "cache", SPEC, Silent())
    cache.prepare(photo, larger=True)
    expected = SPEC(read(photo.path))
    larger = cache.larger(photo)
    photo.path.unlink()
    again = Decoded(tmp_path / "cache", SPEC, Silent())
    np.testing.assert_array_equal(again.input(photo), expected)
    np.testing.assert_array_equal(again.larger(photo), larger)
    assert min(larger.shape[:2]) == round(64 * 8 / 7)


def test_pictures_are_not_enlarged(tmp_path: Path) -> None:
    small = _photo(tmp_path, 1, 30, 40)
    assert Decoded(None, SPEC, Silent()).larger(small).shape == (30, 40, 3)


def test_another_preprocessing_is_another_picture(tmp_path: Path, photo: Photograph) -> None:
    Decoded(tmp_path, SPEC, Silent()).prepare(photo, larger=False)
    other = Preprocess(height=64, width=64, shortest_edge=96)
    np.testing.assert_array_equal(Decoded(tmp_path, other, Silent()).input(photo), other(read(photo.path)))


def test_a_damaged_picture_is_noticed_and_decoded_again(tmp_path: Path, photo: Photograph) -> None:
    Decoded(tmp_path, SPEC, Silent()).prepare(photo, larger=False)
    with sqlite3.connect(tmp_path / FILE) as connection:
        (pixels,) = connection.execute("SELECT pixels FROM pictures").fetchone()
        connection.execute("UPDATE pictures SET pixels = ?", (b"\0" * len(pixels),))
    connection.close()
    listener = Recorder()
    cache = Decoded(tmp_path, SPEC, listener)
    np.testing.assert_array_equal(cache.input(photo), SPEC(read(photo.path)))
    assert len(listener.warned) == 1
    assert "damaged" in listener.warned[0]
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["garbage", "cut", "middle"])
def test_a_damaged_file_costs_time_only(tmp_path: Path, damage: str) -> None:
    photos = [_photo(tmp_path, seed) for seed in range(30)]
    first = Decoded(tmp_path / "cache", SPEC, Silent())
    for one in photos:
        first.prepare(one, larger=True)
    del first
    file = tmp_path / "cache" / FILE
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = file.read_bytes()
    third = len(content) // 3
    broken = {
        "garbage": b"this is no database" * 1000,
        "cut": content[:third],
        "middle": content[:third] + bytes(third) + content[2 * third :],
    }
    file.write_bytes(broken[damage])
    listener = Recorder()
    cache = Decoded(tmp_path / "cache", SPEC, listener)
    for one in photos:
        assert problem_of(one, cache, larger=True) == ""
        np.testing.assert_array_equal(cache.input(one), SPEC(read(one.path)))
    assert len(listener.warned) == 1
    # The next run starts a new one.
    fresh = Decoded(tmp_path / "cache", SPEC, Silent())
    fresh.prepare(photos[0], larger=False)
    photos[0].path.unlink()
    assert fresh.input(photos[0]).shape == (64, 64, 3)


def test_a_folder_that_cannot_be_used_costs_time_only(tmp_path: Path, photo: Photograph) -> None:
    (tmp_path / "file").write_text("no folder")
    listener = Recorder()
    cache = Decoded(tmp_path / "file" / "below", SPEC, listener)
    cache.prepare(photo, larger=True)
    assert cache.input(photo).shape == (64, 64, 3)
    assert len(listener.warned) == 1
    assert "cannot be used" in listener.warned[0]


@pytest.mark.parametrize(
    ("reason", "says"),
    [("database or disk is full", "disk is full"), ("attempt to write a readonly database", "readonly")],
)
def test_a_full_or_readonly_disk_is_said_once(
    tmp_path: Path, photo: Photograph, reason: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Recorder()
    cache = Decoded(tmp_path, SPEC, listener)
    # SQLite's own limit on pages makes it fail as a full disk does.
    cache._connection(tmp_path / FILE).execute("PRAGMA max_page_count = 4")
    if "readonly" in reason:
        cache._connection(tmp_path / FILE).execute("PRAGMA query_only = ON")
    for seed in range(3):
        one = _photo(tmp_path, seed)
        cache.prepare(one, larger=True)
        assert cache.input(one).shape == (64, 64, 3)
    assert len(listener.warned) == 1
    assert says in listener.warned[0]


def test_little_space_is_left_alone(tmp_path: Path, photo: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "SPARE_BYTES", 1 << 62)
    listener = Recorder()
    cache = Decoded(tmp_path, SPEC, listener)
    cache.prepare(photo, larger=True)
    assert "not kept" in listener.warned[0]
    assert (tmp_path / FILE).stat().st_size < 50_000


def _kept(folder: Path) -> set[str]:
    with sqlite3.connect(folder / FILE) as connection:
        found = {row[0].hex() for row in connection.execute("SELECT sha256 FROM pictures")}
    connection.close()
    return found


def _run(folder: Path, photos: list[Photograph], began: int, listener: Recorder | None = None) -> Recorder:
    """What a run does with the cache."""
    listener = listener or Recorder()
    cache = Decoded(folder, BIG, listener)
    cache._began = began
    for one in photos:
        cache.prepare(one, larger=False)
    cache.tidy()
    return listener


BIG = Preprocess()
"""Inputs of 150 KB: six of them are nearly a megabyte."""


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    photos = [_photo(tmp_path, seed) for seed in range(8)]
    _run(tmp_path, photos[:4], began=100)
    _run(tmp_path, photos[4:6], began=200)
    _run(tmp_path, photos[:2], began=300)  # the oldest, and just used again
    listener = _run(tmp_path, photos[6:], began=400)
    kept = _kept(tmp_path)
    assert {one.sha256 for one in (*photos[:2], *photos[6:])} <= kept
    assert not kept & {one.sha256 for one in photos[2:4]}
    assert not listener.warned
    assert decoded.cache_state(tmp_path).size_mb <= 1.3


def test_a_run_that_is_larger_than_the_limit_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    monkeypatch.setattr(decoded, "LOOKED_AT", 1)
    photos = [_photo(tmp_path, seed) for seed in range(10)]
    listener = _run(tmp_path, photos, began=100)
    assert len(listener.warned) == 1
    assert "holds the 1 MB that it may (EDGETL_CACHE_MB)" in listener.warned[0]
    assert 5 <= len(_kept(tmp_path)) <= 8
    monkeypatch.setenv("EDGETL_CACHE_MB", "0")
    other = tmp_path / "none"
    assert not _run(other, photos[:1], began=1).warned
    assert not other.exists()
    monkeypatch.setenv("EDGETL_CACHE_MB", "much")
    with pytest.raises(BadInputError, match="EDGETL_CACHE_MB is 'much'"):
        Decoded(tmp_path, BIG, Recorder())


def test_a_file_of_an_earlier_version_is_taken_over_and_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [_photo(tmp_path, seed) for seed in range(20)]
    _run(tmp_path, photos, began=100)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("DROP TABLE used")
    connection.close()
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    _run(tmp_path, photos[:3], began=200)
    assert {one.sha256 for one in photos[:3]} <= _kept(tmp_path)
    assert decoded.cache_state(tmp_path).size_mb <= 1.3
    decoded.clear_cache(tmp_path)
    assert decoded.cache_state(tmp_path) == decoded.CacheState(str(tmp_path / FILE), 0, 0.0, 1.0)


def _fill(folder: Path, photos: list[Photograph]) -> None:
    cache = Decoded(folder, SPEC, Silent())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: cache.prepare(one, larger=True), photos))


def test_processes_and_threads_share_it(tmp_path: Path) -> None:
    photos = [_photo(tmp_path, seed) for seed in range(20)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path / "cache", photos)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    listener = Recorder()
    cache = Decoded(tmp_path / "cache", SPEC, listener)
    for one in photos:
        expected = SPEC(read(one.path))
        one.path.unlink()
        np.testing.assert_array_equal(cache.input(one), expected)
    assert not listener.warned


def test_what_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    photo = Photograph("broken.jpg", path, 0, "0" * 64)
    assert "broken.jpg" in problem_of(photo, Decoded(tmp_path, SPEC, Silent()))
