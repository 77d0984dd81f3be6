"""The cache of decoded photographs: what is read back, and that trouble with it costs time only."""

from __future__ import annotations

import hashlib
import multiprocessing
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import Recorder
from toolchain.errors import BadInputError, MissingError, UnreadableImageError
from toolchain.images import cache as cache_module
from toolchain.images import encoded
from toolchain.images.cache import FILE
from toolchain.images.preprocess import Preprocess, read
from toolchain.images.reader import Photograph, Reader
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
    cache = Reader(SPEC, tmp_path / "cache", Silent())
    cache.prepare(photo, larger=True)
    expected = SPEC(read(photo.path))
    larger = cache.larger(photo)
    photo.path.unlink()
    again = Reader(SPEC, tmp_path / "cache", Silent())
    np.testing.assert_array_equal(again.input(photo), expected)
    np.testing.assert_array_equal(again.larger(photo), larger)
    assert min(larger.shape[:2]) == round(64 * 8 / 7)


def test_pictures_are_not_enlarged(tmp_path: Path) -> None:
    small = _photo(tmp_path, 1, 30, 40)
    assert Reader(SPEC, None, Silent()).larger(small).shape == (30, 40, 3)


def test_a_thumbnail_is_kept_too(tmp_path: Path, photo: Photograph) -> None:
    Reader(SPEC, tmp_path / "cache", Silent()).prepare(photo, thumbnail=True)
    expected = Reader(SPEC, None, Silent()).thumbnail(photo)
    photo.path.unlink()
    assert expected.shape == (120, 160, 3)
    np.testing.assert_array_equal(Reader(SPEC, tmp_path / "cache", Silent()).thumbnail(photo), expected)


def test_several_inputs_of_one_photograph(tmp_path: Path, photo: Photograph) -> None:
    specs = [SPEC, Preprocess(16, 24, resize="squash")]
    for spec, picture in zip(specs, Reader(SPEC, None, Silent()).inputs(photo, specs), strict=True):
        np.testing.assert_array_equal(picture, spec(read(photo.path)))


def test_a_file_that_has_changed_is_not_taken_for_the_photograph(tmp_path: Path, photo: Photograph) -> None:
    other = _photo(tmp_path, 7)
    cached = Reader(SPEC, tmp_path / "cache", Silent())
    expected = cached.verified(photo)
    photo.path.write_bytes(other.path.read_bytes())
    np.testing.assert_array_equal(cached.input(photo), expected)  # the pixels are those of the hash
    with pytest.raises(MissingError, match="has changed"):
        cached.verified(photo)
    with pytest.raises(UnreadableImageError, match="has changed"):
        Reader(SPEC, None, Silent()).input(photo)
    photo.path.unlink()
    with pytest.raises(MissingError, match="No such file"):
        cached.verified(photo)


def test_a_reader_that_keeps_nothing_writes_nothing(tmp_path: Path, photo: Photograph) -> None:
    folder = tmp_path / "cache"
    Reader(SPEC, folder, Silent(), keep=False).prepare(photo)
    assert not folder.exists()
    Reader(SPEC, folder, Silent()).prepare(photo)
    expected = SPEC(read(photo.path))
    photo.path.unlink()
    other = _photo(tmp_path, 1)
    listener = Recorder()
    reading = Reader(SPEC, folder, listener, keep=False)
    np.testing.assert_array_equal(reading.input(photo), expected)
    reading.prepare(other)
    reading.tidy()
    assert _kept(folder) == {photo.sha256}
    assert not listener.warned


def test_a_file_too_large_to_be_a_photograph_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(40 << 30)
    with pytest.raises(UnreadableImageError, match=r"large\.jpg: it has 40 GiB, and at most 1 GiB are read"):
        encoded.read_bytes(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device without end is needed")
def test_what_has_no_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImageError, match="it is a pipe or a device, not a file"):
        encoded.read_bytes(Path("/dev/zero"))
    monkeypatch.setattr(encoded, "MAX_PIPE_BYTES", 1 << 16)
    reason = r"more than the 0\.0 GB that are read"
    with Path("/dev/zero").open("rb") as file, pytest.raises(UnreadableImageError, match=reason):
        encoded.read_bytes(Path(f"/dev/fd/{file.fileno()}"))  # as a shell hands it over


def test_a_picture_of_the_wrong_shape_is_decoded_again(tmp_path: Path, photo: Photograph) -> None:
    Reader(SPEC, tmp_path, Silent()).prepare(photo)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE pictures SET height = 32, width = 128")
    connection.close()
    listener = Recorder()
    np.testing.assert_array_equal(Reader(SPEC, tmp_path, listener).input(photo), SPEC(read(photo.path)))
    assert "damaged" in listener.warned[0]


@pytest.mark.parametrize("column", ["height", "width", "crc32", "pixels"])
@pytest.mark.parametrize("value", [0, -1, 2**40, 2**62, None, "x", b"", 1.5])
def test_a_row_of_any_content_is_decoded_again(
    tmp_path: Path, photo: Photograph, column: str, value: object
) -> None:
    Reader(SPEC, tmp_path, Silent()).prepare(photo, larger=True)
    with sqlite3.connect(tmp_path / FILE) as connection, suppress(sqlite3.IntegrityError):
        connection.execute(f"UPDATE pictures SET {column} = ?", (value,))
    connection.close()
    usual = Reader(SPEC, None, Silent()).larger(photo)
    np.testing.assert_array_equal(Reader(SPEC, tmp_path, Recorder()).larger(photo), usual)


def test_another_preprocessing_is_another_picture(tmp_path: Path, photo: Photograph) -> None:
    Reader(SPEC, tmp_path, Silent()).prepare(photo, larger=False)
    other = Preprocess(height=64, width=64, shortest_edge=96)
    np.testing.assert_array_equal(Reader(other, tmp_path, Silent()).input(photo), other(read(photo.path)))


def test_a_damaged_picture_is_noticed_and_decoded_again(tmp_path: Path, photo: Photograph) -> None:
    Reader(SPEC, tmp_path, Silent()).prepare(photo, larger=False)
    with sqlite3.connect(tmp_path / FILE) as connection:
        (pixels,) = connection.execute("SELECT pixels FROM pictures").fetchone()
        connection.execute("UPDATE pictures SET pixels = ?", (b"\0" * len(pixels),))
    connection.close()
    listener = Recorder()
    cache = Reader(SPEC, tmp_path, listener)
    np.testing.assert_array_equal(cache.input(photo), SPEC(read(photo.path)))
    assert len(listener.warned) == 1
    assert "damaged" in listener.warned[0]
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["garbage", "cut", "middle"])
def test_a_damaged_file_costs_time_only(tmp_path: Path, damage: str) -> None:
    photos = [_photo(tmp_path, seed) for seed in range(30)]
    first = Reader(SPEC, tmp_path / "cache", Silent())
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
    cache = Reader(SPEC, tmp_path / "cache", listener)
    for one in photos:
        assert cache.problem_of(one, larger=True) == ""
        np.testing.assert_array_equal(cache.input(one), SPEC(read(one.path)))
    assert len(listener.warned) == 1
    # The next run starts a new one.
    fresh = Reader(SPEC, tmp_path / "cache", Silent())
    fresh.prepare(photos[0], larger=False)
    photos[0].path.unlink()
    assert fresh.input(photos[0]).shape == (64, 64, 3)


def test_a_damaged_file_that_cannot_be_removed_costs_time_only(
    tmp_path: Path, photo: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where it is open, or in a folder that may only be read."""

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / FILE).write_bytes(b"this is no database" * 1000)
    monkeypatch.setattr(Path, "unlink", refused)
    listener = Recorder()
    cache = Reader(SPEC, tmp_path, listener)
    np.testing.assert_array_equal(cache.input(photo), SPEC(read(photo.path)))
    assert len(listener.warned) == 1
    assert "removed" not in listener.warned[0]


def test_a_folder_that_cannot_be_used_costs_time_only(tmp_path: Path, photo: Photograph) -> None:
    (tmp_path / "file").write_text("no folder")
    listener = Recorder()
    cache = Reader(SPEC, tmp_path / "file" / "below", listener)
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
    cache = Reader(SPEC, tmp_path, listener)
    # SQLite's own limit on pages makes it fail as a full disk does.
    cache._cache._connection(tmp_path / FILE).execute("PRAGMA max_page_count = 4")
    if "readonly" in reason:
        cache._cache._connection(tmp_path / FILE).execute("PRAGMA query_only = ON")
    for seed in range(3):
        one = _photo(tmp_path, seed)
        cache.prepare(one, larger=True)
        assert cache.input(one).shape == (64, 64, 3)
    assert len(listener.warned) == 1
    assert says in listener.warned[0]


def test_little_space_is_left_alone(tmp_path: Path, photo: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SPARE_BYTES", 1 << 62)
    listener = Recorder()
    cache = Reader(SPEC, tmp_path, listener)
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
    cache = Reader(BIG, folder, listener)
    cache._cache._began = began
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
    assert cache_module.cache_state(tmp_path).size_mb <= 1.3


def test_a_run_that_is_larger_than_the_limit_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    monkeypatch.setattr(cache_module, "CHECK_EVERY", 1)
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
        Reader(BIG, tmp_path, Recorder())


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
    assert cache_module.cache_state(tmp_path).size_mb <= 1.3
    cache_module.clear_cache(tmp_path)
    assert cache_module.cache_state(tmp_path) == cache_module.CacheState(str(tmp_path / FILE), 0, 0.0, 1.0)


def _fill(folder: Path, photos: list[Photograph]) -> None:
    cache = Reader(SPEC, folder, Silent())
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
    cache = Reader(SPEC, tmp_path / "cache", listener)
    for one in photos:
        expected = SPEC(read(one.path))
        one.path.unlink()
        np.testing.assert_array_equal(cache.input(one), expected)
    assert not listener.warned


def test_what_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    photo = Photograph("broken.jpg", path, 0, "0" * 64)
    assert "broken.jpg" in Reader(SPEC, tmp_path, Silent()).problem_of(photo)


def test_a_cache_that_shrinks_under_a_running_reader_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process lowers the limit and removes the oldest: what is gone is decoded again, without a word."""
    photos = [_photo(tmp_path, seed) for seed in range(20)]
    listener = Recorder()
    running = Reader(BIG, tmp_path, listener)
    running._cache._began = 100
    for one in photos:
        running.prepare(one)
    running.tidy()
    expected = [BIG(read(one.path)) for one in photos]
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    _run(tmp_path, photos[:2], began=200)
    assert len(_kept(tmp_path)) < 8
    for one, pixels in zip(photos, expected, strict=True):
        np.testing.assert_array_equal(running.input(one), pixels)
    assert not listener.warned
    assert (tmp_path / FILE).exists()


@pytest.mark.parametrize(("lives", "began"), [(True, 100), (False, 100), (True, -1000)])
def test_what_a_running_process_uses_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool, began: int
) -> None:
    """A process that began earlier still lives, or has ended; or its number is another process's by now."""
    monkeypatch.setenv("EDGETL_CACHE_MB", "1")
    photos = [_photo(tmp_path, seed) for seed in range(10)]
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = int(time.time())
    try:
        _run(tmp_path, photos[:2], began=now + 50)
        _run(tmp_path, photos[2:6], began=now + 150)
        with sqlite3.connect(tmp_path / FILE) as connection:
            connection.execute("INSERT INTO running VALUES (?, ?)", (other.pid, now + began))
        connection.close()
        if not lives:
            other.communicate(b"\n")
        _run(tmp_path, photos[6:], began=now + 200)
    finally:
        other.communicate(b"\n") if lives else None
    kept = _kept(tmp_path)
    assert not kept & {one.sha256 for one in photos[:2]}
    assert ({one.sha256 for one in photos[2:6]} <= kept) == (lives and began > 0)
