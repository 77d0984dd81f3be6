"""End, pause and outage are three things: live HLS, files and snapshots over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import pytest

from tests.clips import plain
from tests.datasets.datasets_support import Remembering
from tests.served import (
    LiveHls,
    Served,
    in_pieces,
    live_ts,
    number_of,
    numbered,
    refused,
    send_evenly,
    slowly,
    whole,
    write_segments,
    write_ts,
)
from toolchain.camera.frames import Frame
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import CaptureOptions, Opener, RequestedFormat, open_source
from toolchain.camera.sources.playlists import PlaylistSource, read_playlist
from toolchain.errors import BadInputError, MissingError

SEGMENT_S = 0.5


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 segments of half a second, whose 600 frames say their numbers. Not to be written to."""
    folder = tmp_path_factory.mktemp("hls")
    write_segments(folder, numbered, 40, SEGMENT_S)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of 30 frames that does not say how long it is."""
    return write_ts(tmp_path_factory.mktemp("ts") / "clip.ts", numbered, 30).read_bytes()


def _frames(capture: Capture, seconds: float, until: Callable[[], object] = lambda: False) -> list[Frame]:
    """What a capture gives until it ends or `until` is true, `seconds` at most."""
    frames = []
    end = time.monotonic() + seconds
    while not (capture.ended or until()) and time.monotonic() < end:
        frame = capture.take(0.05)
        if frame is not None:
            frames.append(frame)
    return frames


def _captured(url: str, reporter: Remembering | None = None, options: CaptureOptions | None = None) -> Capture:
    opener = Opener(url, options or CaptureOptions(), reporter=reporter)
    source = opener.open()
    reopen = (lambda: opener.again(2.5)) if source.live else None
    return Capture(source, every=True, reopen=reopen, reporter=reporter)


@pytest.mark.slow
def test_live_hls_is_played_at_its_edge_at_its_own_rate_and_ends_when_it_says_so(segments: Path) -> None:
    live = LiveHls(segments, 40, SEGMENT_S)
    with Served(live) as served:
        with _captured(f"{served.url}/live.m3u8") as capture:
            assert capture.source.live
            edge = 15 * live.newest()
            frames = _frames(capture, 1.5)
            live.ended = True
            live.freeze()
            frames += _frames(capture, 5)
            assert capture.ended
            assert capture.error is None
        numbers = [number_of(frame.bgr) for frame in frames]
        assert numbers == sorted(set(numbers)), "each once, in order"
        assert len(numbers) > 0.8 * (numbers[-1] - numbers[0]), "and hardly one left out"
        assert numbers[-1] == 15 * live.newest() - 1, "to the last one"
        assert edge - 30 <= numbers[0] <= edge, "not from far behind"
        took_s = frames[-1].captured_s - frames[0].captured_s
        length_s = (numbers[-1] - numbers[0]) / 30
        assert took_s == pytest.approx(length_s, abs=1.5), "neither faster nor much slower than it is live"


@pytest.mark.slow
def test_live_hls_that_stands_still_is_an_outage_and_nothing_is_seen_twice(segments: Path) -> None:
    live = LiveHls(segments, 40, SEGMENT_S)
    reporter = Remembering()
    with Served(live) as served, _captured(f"{served.url}/live.m3u8", reporter) as capture:
        capture._stall_s = 0.8
        frames = _frames(capture, 1.0)
        live.freeze()
        frames += _frames(capture, 8, lambda: capture.outage)
        frames += _frames(capture, 0.7)
        assert capture.outage is not None, "it did not come back with what had been there before"
        live.thaw()
        frames += _frames(capture, 8, lambda: capture.reconnects)
        frames += _frames(capture, 0.2)
        assert capture.reconnects == 1
    numbers = [number_of(frame.bgr) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert len(reporter.warned) == 1
    assert "--stall-limit" in reporter.warned[0]


def test_a_finished_playlist_is_a_file(segments: Path) -> None:
    live = LiveHls(segments, 3, SEGMENT_S)
    live.ended = True
    live.WINDOW = 3
    with Served(live) as served:
        source = open_source(f"{served.url}/clip.m3u8", CaptureOptions(every_frame=True))
        assert not source.live
        numbers = []
        while (frame := source.read()) is not None:
            numbers.append(number_of(frame.bgr))
        source.close()
    assert numbers == list(range(45))


MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/v.m3u8?t=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n"
MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n"


def test_a_playlist_of_playlists_is_followed() -> None:
    texts = {"http://host/x/live.m3u8": MASTER, "http://host/x/low/v.m3u8?t=1": MEDIA}
    playlist = read_playlist("http://host/x/live.m3u8", texts.__getitem__)
    assert playlist is not None
    assert (playlist.finished, playlist.newest, playlist.segment_s) == (False, (8, "b.ts"), 4)
    finished = read_playlist("a", lambda _: MEDIA + "#EXT-X-ENDLIST\n")
    assert finished is not None
    assert finished.finished
    assert read_playlist("a", lambda _: "#EXTM3U\nsong.mp3\n") is None, "a list of songs"


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "-1", "two"])
def test_numbers_of_a_playlist_that_are_none(number: str) -> None:
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:{number}\n#EXT-X-MEDIA-SEQUENCE:{number}\n#EXTINF:2,\na.ts\n"
    playlist = read_playlist("a", lambda _: text)
    assert playlist is not None
    assert playlist.segment_s == 0
    assert playlist.newest == (0, "a.ts")


@pytest.mark.parametrize(
    "answer",
    [whole, in_pieces, lambda data, kind: in_pieces(data, kind, chunked=False)],
    ids=["length", "chunked", "until it closes"],
)
def test_a_file_over_http_is_played_once(clip: bytes, answer: Callable[..., object]) -> None:
    with Served(answer(clip, "video/mp2t")) as served, _captured(f"{served.url}/clip.ts") as capture:
        assert not capture.source.live
        frames = _frames(capture, 10)
        assert capture.ended
        assert capture.error is None
    assert [number_of(frame.bgr) for frame in frames] == list(range(30)), "from its first frame on, once"
    assert frames[-1].captured_s - frames[0].captured_s == pytest.approx(29 / 30, abs=0.2), "paced"


@pytest.mark.slow
def test_a_stream_that_takes_longer_to_open_than_one_attempt_may_comes_back(clip: bytes, tmp_path: Path) -> None:
    lost = threading.Event()
    later = write_ts(tmp_path / "later.ts", lambda number: numbered(100 + number), 30).read_bytes()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        """Sends until it is lost, and after that with its first bytes late."""
        was_lost = lost.is_set()
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.end_headers()
        time.sleep(4.0 * was_lost)
        while lost.is_set() == was_lost:
            send_evenly(handler, later if was_lost else clip, 1.0)

    with Served(answer) as served, _captured(f"{served.url}/live") as capture:
        _frames(capture, 8, lambda: capture.frames_in > 3)
        lost.set()
        _frames(capture, 25, lambda: capture.reconnects)
        assert capture.reconnects == 1


@pytest.mark.slow
def test_a_file_that_comes_no_faster_than_it_plays_is_known_by_beginning_again(tmp_path: Path) -> None:
    """Nothing tells it from a live stream before: neither a length nor its rate."""
    clip = write_ts(tmp_path / "clip.ts", numbered, 75).read_bytes()
    reporter = Remembering()
    with Served(slowly(clip, "video/mp2t", 2.2)) as served, _captured(f"{served.url}/x", reporter) as capture:
        frames = _frames(capture, 15)
        assert capture.ended
        assert capture.error is None
    numbers = [number_of(frame.bgr) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert "begins from its first picture again" in reporter.said[-1]


def test_a_server_for_one_client_is_not_asked_before_the_stream_is_there(clip: bytes) -> None:
    """Some end when their client goes; whoever asked first what they have would be the last to see it."""
    clients = iter([live_ts(clip)])
    with Served(lambda handler: next(clients, refused(503))(handler)) as served:
        source = open_source(f"{served.url}/live", CaptureOptions())
        assert source.live
        assert source.read() is not None
        source.close()


def test_a_live_playlist_is_known_whatever_its_address(segments: Path) -> None:
    with Served(LiveHls(segments, 40, SEGMENT_S)) as served:
        source = open_source(f"{served.url}/live?id=7", CaptureOptions())
        assert isinstance(source, PlaylistSource)
        source.close()


def _changing(sent: list[int]) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        sent.append(len(sent))
        whole(cv2.imencode(".png", numbered(sent[-1]))[1].tobytes(), "image/png")(handler)

    return answer


def test_a_snapshot_is_fetched_again_and_again_at_the_rate_asked_for() -> None:
    with Served(_changing([])) as served:
        options = CaptureOptions(requested=RequestedFormat(fps=10))
        with _captured(f"{served.url}/shot", options=options) as capture:
            assert capture.source.live
            frames = _frames(capture, 1.05)
        assert 7 <= len(frames) <= 12
        numbers = [number_of(frame.bgr) for frame in frames]
        assert numbers == list(range(numbers[0], numbers[0] + len(frames))), "each once"
        with pytest.raises(BadInputError, match="as fast as possible"):
            open_source(f"{served.url}/shot", CaptureOptions(every_frame=True))


def test_a_snapshot_that_cannot_be_had_for_a_while_is_an_outage() -> None:
    shot = _changing([])
    broken = threading.Event()
    with Served(lambda handler: (refused(503) if broken.is_set() else shot)(handler)) as served:
        reporter = Remembering()
        with _captured(
            f"{served.url}/shot", reporter, CaptureOptions(requested=RequestedFormat(fps=20))
        ) as capture:
            assert _frames(capture, 0.3)
            broken.set()
            _frames(capture, 5, lambda: capture.outage)
            assert capture.outage is not None
            assert "503" in capture.outage.reason
            broken.clear()
            _frames(capture, 5, lambda: capture.reconnects)
            assert capture.reconnects == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refused(404), "404 Not Found"),
        (refused(401), "401 Unauthorized"),
        (whole(b"<html>log in</html>", "text/html"), "is a page"),
        (whole(b"no picture", "image/jpeg"), "not a readable picture"),
        (whole(b"no video at all" * 100, "video/mp4"), "gives no video"),
    ],
)
def test_what_is_no_stream_is_said(answer: Callable[[BaseHTTPRequestHandler], None], said: str) -> None:
    with Served(answer) as served, pytest.raises(MissingError, match=said) as raised:
        open_source(f"{served.url}/x", CaptureOptions())
    assert raised.value.hint


def test_a_snapshot_behind_a_password() -> None:
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("Authorization"))
        if asked[-1] is None:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            whole(cv2.imencode(".jpg", plain("red"))[1].tobytes(), "image/jpeg")(handler)

    with Served(answer) as served:
        url = served.url.replace("//", "//me:p%40ss@")
        source = open_source(f"{url}/shot", CaptureOptions())
        assert source.read() is not None
        assert "p%40ss" not in source.name + source.given
    assert "Basic bWU6cEBzcw==" in asked, "me:p@ss"
