"""Viewers get the newest at their own pace, and nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.clips import colour_of, plain
from tests.conftest import Recorder
from tests.web_support import ABOUT, Viewer, answer, ask, place, view, wait_until
from toolchain.camera.frames import BgrImage
from toolchain.camera.sinks.web import server
from toolchain.camera.sinks.web.publisher import MAX_SIDE, encode
from toolchain.camera.sinks.web.streams import MAX_AUDIENCE, LatestValue

rng = np.random.default_rng(6)
BUSY: BgrImage = rng.integers(0, 256, (540, 960, 3), dtype=np.uint8)
"""Noise: its JPEG has several hundred kilobytes."""

MAX_OLD = 4
"""Pictures of the past that a slow viewer still gets: what its own system holds, and what was half sent."""


def feed(shown, stop: threading.Event, bgr: BgrImage = BUSY, fps: float = 30) -> list[float]:  # type: ignore[no-untyped-def]
    """Show frames until `stop`; the seconds that each took."""
    took = []
    number = 0
    while not stop.wait(1 / fps):
        answered = answer(number, bgr)
        before = time.perf_counter()
        shown.show(answered)
        took.append(time.perf_counter() - before)
        number += 1
    return took


class Feeding:
    def __init__(self, shown, bgr: BgrImage = BUSY) -> None:  # type: ignore[no-untyped-def]
        self._stop = threading.Event()
        self.took: list[float] = []
        self._thread = threading.Thread(target=lambda: self.took.extend(feed(shown, self._stop, bgr)))

    def __enter__(self) -> Feeding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def decoded(jpeg: bytes) -> BgrImage:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_the_picture_is_what_was_shown(colour: str) -> None:
    bgr = plain(colour)
    with view() as shown:
        viewer = Viewer(shown, "/picture")
        assert viewer.headers["content-type"] == "multipart/x-mixed-replace; boundary=edgetl-picture"
        shown.show(answer(42, bgr))
        number, picture = viewer.picture()
        assert number == 42
        assert np.abs(picture[16:].astype(int) - bgr[16:]).max() <= 3
        viewer.close()
    assert (bgr == plain(colour)).all(), "the frame is as it was"


def test_large_pictures_are_made_smaller_and_small_ones_stay() -> None:
    for height, width in ((1080, 1920), (1920, 1080), (2, 3000), (480, 640), (1, 1)):
        scaled = decoded(encode(plain("green", height, width)))
        wanted = min(1.0, MAX_SIDE / max(height, width))
        assert scaled.shape[:2] == (max(1, round(height * wanted)), max(1, round(width * wanted)))
        assert height < 4 or colour_of(scaled) == "green"


def test_answers_say_all_that_the_page_shows() -> None:
    with view() as shown:
        viewer = Viewer(shown, "/answers")
        assert viewer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert viewer.event()["answer"] is None
        shown.show(answer(9, rejected=True))
        event = wait_until(lambda: (found := viewer.event())["answer"] and found)
        assert event["answers"] == 1
        assert event["answer"] == {
            "frame": 9, "time_s": 0.3, "label": "red cat", "probability": 0.75, "rejected": True,
            "top": [["red cat", 0.75], ["green dog", 0.2], ["fish", 0.05]],
            "age_ms": 31.4, "infer_ms": 5.25, "fps": 29.9,
        }  # fmt: skip
        assert event["about"]["device"] == "ort:cpu"
        shown.idle("camera 0 gave no frame for 3 s")
        wait_until(lambda: viewer.event()["state"] == "camera 0 gave no frame for 3 s")
        shown.show(replace(answer(10), network="int8 on openvino:CPU"))
        event = wait_until(lambda: not (found := viewer.event())["state"] and found)
        assert event["about"] == ABOUT | {"device": "int8 on openvino:CPU"}
        assert ask(shown, "/answer")[1].endswith(b"}\n")
        viewer.close()


def test_viewers_hear_something_although_nothing_happens() -> None:
    with view() as shown:
        viewer = Viewer(shown, "/answers")
        moments = []
        for _ in range(3):
            silent_s = viewer.event()["silent_s"]
            moments.append(time.monotonic())
        assert moments[-1] - moments[0] < 3
        assert silent_s >= 0.9
        viewer.close()


def test_a_slow_viewer_gets_the_newest_and_slows_nobody() -> None:
    with view() as shown, Feeding(shown) as feeding:
        slow = Viewer(shown, "/picture", receive_buffer=16 * 1024)
        quick = Viewer(shown, "/picture")
        slow.picture()
        seen = []
        end = time.monotonic() + 2
        while time.monotonic() < end:
            seen.append(quick.picture()[0])
        assert len(quick.jpeg()) > 200_000, "more than the system keeps of it"
        assert len(seen) >= 8, "the other one went on"
        assert np.diff(seen).min() > 0
        # What lay half sent is old; what is behind it was chosen when there was room.
        first, second = (slow.picture()[0] for _ in range(2))
        newest = quick.picture()[0]
        assert first < seen[-1]
        assert newest - second <= 12, "12 frames are 0.4 s"
        assert second > first + 20, "nothing of the time in between was kept for it"
        slow.close()
        quick.close()
    took = feeding.took
    assert statistics.median(took) < 1e-4
    assert np.percentile(took, 95) < 2e-3, "no more than the system's own pauses"


def test_little_of_the_past_lies_on_the_way_to_a_slow_viewer() -> None:
    """Pictures of ordinary size, many of which would fit into what the system keeps for a connection."""
    small = BUSY[:160, :256]
    assert len(encode(small)) < 50_000
    with view() as shown, Feeding(shown, small):
        slow = Viewer(shown, "/picture", receive_buffer=16 * 1024)
        quick = Viewer(shown, "/picture")
        slow.picture()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            newest = quick.picture()[0]
        old = 0
        while slow.picture()[0] < newest - 3:
            old += 1
        assert old <= MAX_OLD
        slow.close()
        quick.close()


def test_a_slow_reader_of_answers_gets_the_newest() -> None:
    with view() as shown:
        viewer = Viewer(shown, "/answers", receive_buffer=4 * 1024)
        for number in range(4000):
            shown.show(answer(number, label="x" * 3000))
            time.sleep(0.0005)
        last = wait_until(lambda: (found := viewer.event())["answer"] and found["answer"]["frame"] == 3999)
        assert last
        viewer.close()


def test_at_most_twenty_pictures_a_second() -> None:
    with view() as shown:
        viewer = Viewer(shown, "/picture")
        stop = threading.Event()
        thread = threading.Thread(target=feed, args=(shown, stop, plain("red"), 200))
        thread.start()
        viewer.picture()
        start, count = time.monotonic(), 0
        while time.monotonic() < start + 1:
            viewer.picture()
            count += 1
        stop.set()
        thread.join()
        viewer.close()
        assert 5 <= count <= 22


def test_encoded_once_for_all_and_only_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolchain.camera.sinks.web import publisher

    encoded = []

    def count(bgr: BgrImage) -> bytes:
        encoded.append(threading.current_thread())
        return encode(bgr)

    monkeypatch.setattr(publisher, "encode", count)
    with view() as shown:
        for number in range(5):
            shown.show(answer(number))
            time.sleep(0.02)
        listener = Viewer(shown, "/answers")
        wait_until(lambda: listener.event()["answer"])
        assert not encoded, "nobody wants a picture"
        viewers = [Viewer(shown, "/picture") for _ in range(3)]
        assert [viewer.picture()[0] for viewer in viewers] == [4, 4, 4], "the last answer, though none follows"
        before = len(encoded)
        shown.show(answer(5))
        assert [viewer.picture()[0] for viewer in viewers] == [5, 5, 5]
        assert len(encoded) == before + 1
        assert {thread.name for thread in encoded} == {"web view: pictures"}
        for viewer in viewers:
            viewer.close()
        wait_until(lambda: not shown._pictures.viewers)
        shown.show(answer(6))
        wait_until(lambda: listener.event()["answer"]["frame"] == 6)
        assert len(encoded) == before + 1
        late = Viewer(shown, "/picture")
        assert late.picture()[0] == 6, "not what was the newest when somebody looked last"
        late.close()
        listener.close()


def test_several_viewers_come_and_go() -> None:
    with view() as shown:
        assert shown.viewers == 0
        many = [Viewer(shown, "/answers") for _ in range(3)] + [Viewer(shown, "/picture") for _ in range(2)]
        wait_until(lambda: shown.viewers == 3)
        for viewer in many:
            viewer.close()
        wait_until(lambda: shown.viewers == 0)


@pytest.mark.parametrize("path", ["/picture", "/answers"])
def test_no_more_viewers_than_can_be_served(path: str) -> None:
    with view() as shown:
        many = [Viewer(shown, path) for _ in range(MAX_AUDIENCE)]
        wait_until(lambda: shown.viewers == MAX_AUDIENCE)
        response, _ = ask(shown, path)
        assert response.status == 503
        assert response.headers["retry-after"]
        assert ask(shown, "/")[0].status == 200
        many.pop().close()
        wait_until(lambda: shown.viewers == MAX_AUDIENCE - 1)
        again = Viewer(shown, path)
        assert again.status == 200
        for viewer in [*many, again]:
            viewer.close()


def test_head_of_a_stream_ends() -> None:
    with view() as shown:
        for path in ("/picture", "/answers"):
            response, body = ask(shown, path, method="HEAD")
            assert (response.status, body) == (200, b"")
        assert shown.viewers == 0


def test_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STUCK_S", 0.3)
    with view() as shown, Feeding(shown):
        stuck = Viewer(shown, "/picture", receive_buffer=16 * 1024)
        idle = Viewer(shown, "/answers")  # takes nothing either, but there is room for all it was sent
        wait_until(lambda: shown._pictures.viewers == 1)
        wait_until(lambda: shown._pictures.viewers == 0)
        assert shown._answers.viewers == 1
        with contextlib.suppress(ConnectionError):
            assert len(stuck.rest()) < 1_000_000, "what lay there already"
        stuck.close()
        idle.close()


def test_a_connection_that_asks_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STUCK_S", 0.2)
    with view() as shown:
        quiet = socket.create_connection(place(shown), timeout=5)
        quiet.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert quiet.recv(1) == b""
        quiet.close()


def test_leaving_is_quick_with_viewers_there() -> None:
    with view() as shown, Feeding(shown):
        stuck = Viewer(shown, "/picture", receive_buffer=16 * 1024)
        viewers = [Viewer(shown, path) for path in ("/picture", "/answers", "/answers")]
        viewers[0].picture()
        viewers[1].event()
        time.sleep(0.5)
        start = time.monotonic()
        shown.close()
        assert time.monotonic() - start < 3
    viewers[2].rest()  # comes to its end
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("web view")]
    for viewer in [stuck, *viewers]:
        viewer.close()
    with pytest.raises(ConnectionRefusedError):
        ask(shown, "/")


def test_answers_after_the_end_and_a_second_exit_do_nothing() -> None:
    with view() as shown:
        pass
    shown.show(answer())
    shown.idle("gone")
    shown.close()


def test_the_console_stays_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with view() as shown, Feeding(shown, plain("red")):
        ask(shown, "/")
        ask(shown, "/nothing")
        ask(shown, "/answer", Upgrade="websocket", Connection="Upgrade")
        with socket.create_connection(place(shown), timeout=5) as wrong:
            wrong.sendall(b"this is not HTTP\r\n\r\n")
            assert b"400" in wrong.recv(1000)
        viewer = Viewer(shown, "/picture")
        viewer.picture()
        viewer.close()
        Viewer(shown, "/answers")
    assert capfd.readouterr() == ("", "")


def test_a_picture_that_cannot_be_shown_is_told_once_and_answers_go_on() -> None:
    reporter = Recorder()
    with view(reporter=reporter) as shown:
        viewer = Viewer(shown, "/answers")
        looker = Viewer(shown, "/picture")
        wait_until(lambda: shown._pictures.viewers)
        for number in range(3):
            shown.show(answer(number, np.empty((0, 0, 3), np.uint8)))
            wait_until(lambda number=number: (viewer.event()["answer"] or {}).get("frame") == number)
        shown.show(answer(3))
        assert looker.picture()[0] == 3
        viewer.close()
        looker.close()
    assert len(reporter.warned) == 1
    assert "cannot show frame 0" in reporter.warned[0]


def test_the_newest_alone() -> None:
    async def story() -> None:
        newest: LatestValue[str] = LatestValue()
        waiting = asyncio.ensure_future(newest.newer(0))
        await asyncio.sleep(0)
        newest.put("old")
        newest.put("new")
        assert await waiting == (2, "new")
        assert await newest.newer(1) == (2, "new")
        newest.forget()
        waiting = asyncio.ensure_future(newest.newer(0))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        newest.close()
        assert await waiting is None

    asyncio.run(story())


def test_the_page_and_its_files_are_in_the_package() -> None:
    from toolchain.camera.sinks.web.streams import FILES

    for path, _ in FILES.values():
        assert Path(path).stat().st_size > 100
