"""Room for large photographs, and photographs that take long: several threads at once, and files made to harm."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from toolchain.errors import UnreadableImageError
from toolchain.images import preprocess
from toolchain.images.encoded import scans_of
from toolchain.images.preprocess import decode
from toolchain.images.room import Room


def _progressive(height: int, width: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


def _with_more_scans(data: bytes, count: int) -> bytes:
    """The last scan, of some bytes, once more and more."""
    last = data[[found.start() for found in re.finditer(b"\xff\xda", data)][-1] : -2]
    return data[:-2] + last * count + b"\xff\xd9"


def test_threads_never_hold_more_than_there_is() -> None:
    room, lock = Room(100), threading.Lock()
    held, most, waited = 0, 0, threading.Barrier(4)

    def work(amount: int) -> None:
        nonlocal held, most
        waited.wait()
        for _ in range(200):
            with room.taken(amount):
                with lock:
                    held += amount
                    most = max(most, held)
                with room.taken(amount), lock:  # whoever holds some waits for nobody
                    held -= amount

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (30, 40, 60, 90)))
    assert held == 0
    assert 90 <= most <= 100


def test_more_than_all_of_it_is_given_to_one_alone() -> None:
    room, begun = Room(10), threading.Event()

    def other() -> bool:
        begun.set()
        with room.taken(1):
            return True

    with ThreadPoolExecutor(1) as pool:
        with room.taken(50):
            waiting = pool.submit(other)
            begun.wait(5)
            assert not waiting.done()
        assert waiting.result(5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_fork_finds_all_of_it() -> None:
    room = Room(10)
    with room.taken(10):
        child = os.fork()
        if not child:
            with room.taken(10):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_large_picture_has_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cv2.imencode(".png", np.random.default_rng(1).integers(0, 256, (97, 61, 3), dtype=np.uint8))[1].tobytes()
    usual = decode(data)
    monkeypatch.setattr(preprocess, "LARGE_BYTES", 3000)
    np.testing.assert_array_equal(decode(data), usual)


def test_a_jpeg_of_thousands_of_scans_is_not_decoded() -> None:
    """Of 20 megapixels and 0.4 MB, and half a minute of work."""
    data = _progressive(4000, 5000)
    assert scans_of(data) <= preprocess.USUAL_SCANS
    assert decode(data).shape == (4000, 5000, 3)
    many = _with_more_scans(data, 3000)
    assert len(many) < 1_000_000
    with pytest.raises(UnreadableImageError, match=r"the picture is stored in 30\d\d scans"):
        decode(many)
    small = _with_more_scans(_progressive(48, 64), 100)
    assert decode(small).shape == (48, 64, 3)


def test_scans_are_those_of_the_picture_alone(tmp_path: Path) -> None:
    data = _progressive(48, 64)
    count = scans_of(data)
    thumbnail = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    assert scans_of(data[:2] + thumbnail + data[2:] + data) == count > 1
    assert scans_of(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()) == 0
