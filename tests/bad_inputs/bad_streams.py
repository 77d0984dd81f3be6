"""Streams that send garbage, too little, too much or nothing, and clips that are no videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.bad_inputs.bad_photographs import drawn, encoded
from tests.bad_inputs.entry import Entry, Make, Stock, camera, writes
from tests.bad_inputs.serving import Answer, http, says, says_and_waits, says_without_end, serving
from tests.clips import plain, write_clip

OPENED_S = 1.5
"""How long FFmpeg waits in these tests; as a person runs it, ten seconds."""
LIVE = camera("http://{server}/live", "--no-reconnect", "--stall-limit", "1")
PARTS = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def _around(answer: Answer) -> Callable[[Stock, Path], AbstractContextManager[Mapping[str, str]]]:
    @contextmanager
    def around(stock: Stock, place: Path) -> Iterator[Mapping[str, str]]:
        with serving(answer) as server, pytest.MonkeyPatch.context() as patch:
            patch.setattr("toolchain.camera.sources.streams.STREAM_LIMIT_S", OPENED_S)
            yield {"server": server}

    return around


def _part(jpeg: bytes, *, length: int | None = None) -> bytes:
    size = len(jpeg) if length is None else length
    return f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n".encode() + jpeg + b"\r\n"


SOUND = b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\x08\0\0" + bytes(2048)
JPEG = encoded("jpg")
NOISE = np.random.default_rng(3).bytes(60_000)
HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, tuple[Answer, tuple[int, ...]]] = {
    "closes-at-once": (says(), (2, 3)),
    "one-byte": (says(b"H"), (2, 3)),
    "garbage-for-an-answer": (says(NOISE), (2, 3)),
    "ssh": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), (2, 3)),
    "headers-without-end": (says_without_end(b"X-Padding: " + b"x" * 1000 + b"\r\n", head=HEAD), (2, 3)),
    "one-header-without-end": (says_without_end(b"x" * 4096, head=HEAD + b"X-Padding: "), (2, 3)),
    "headers-cut-off": (says(HEAD + b"Content-Ty"), (2, 3)),
    "nothing-after-headers": (says_and_waits(HEAD + b"Content-Type: video/mp4\r\n\r\n"), (2, 3)),
    "silence": (says_and_waits(), (2, 3)),
    "a-byte-a-while": (says_without_end(b"x", head=PARTS, pause_s=0.2), (2, 3)),
    "status-401": (says(http(b"", status="401 Unauthorized")), (2, 3)),
    "status-403": (says(http(b"", status="403 Forbidden")), (2, 3)),
    "status-404": (says(http(b"<html>", "text/html", status="404 Not Found")), (2, 3)),
    "status-500": (says(http(b"", status="500 Internal Server Error")), (2, 3)),
    "status-999": (says(http(b"", status="999 What")), (2, 3)),
    "status-text": (says(b"HTTP/1.1 OK fine\r\n\r\n"), (2, 3)),
    "redirect-to-itself": (says(b"HTTP/1.1 302 Found\r\nLocation: /live\r\nContent-Length: 0\r\n\r\n"), (2, 3)),
    "redirect-to-a-file": (says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"), (2, 3)),
    "redirect-to-nowhere": (says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), (2, 3)),
    "redirect-without-place": (says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), (2, 3)),
    "html": (says(http(b"<html>Please log in</html>" * 99, "text/html")), (2, 3)),
    "json": (says(http(b'{"error": "no camera"}', "application/json")), (2, 3)),
    "text-called-video": (says(http(b"no video\n" * 500, "video/mp4")), (2, 3)),
    "noise-called-video": (says(http(NOISE, "video/mp4")), (2, 3)),
    "noise-called-jpeg": (says(http(NOISE, "image/jpeg")), (2, 3)),
    "noise-called-mjpeg": (says(PARTS, NOISE), (2, 3)),
    "noise-called-hls": (says(http(NOISE, "application/vnd.apple.mpegurl")), (2, 3)),
    "empty": (says(http(b"", "video/mp4")), (2, 3)),
    "length-of-exabytes": (says(http(b"x" * 100, "video/mp4", length=2**62)), (2, 3)),
    "length-negative": (says(http(NOISE, "video/mp4", length=-5)), (2, 3)),
    "length-text": (says(http(NOISE, "video/mp4", length="many")), (2, 3)),
    "chunks-of-garbage": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", NOISE), (2, 3)),
    "chunk-of-exabytes": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", NOISE), (2, 3)),
    "called-gzip": (says(HEAD + b"Content-Encoding: gzip\r\nContent-Type: video/mp4\r\n\r\n", NOISE), (2, 3)),
    "parts-without-pictures": (says(PARTS, _part(b"") * 50), (2, 3)),
    "parts-of-text": (says(PARTS, _part(b"no picture") * 50), (2, 3)),
    "parts-cut-off": (says(PARTS, _part(JPEG[: len(JPEG) // 2], length=len(JPEG))), (0, 2, 3)),
    "parts-of-cut-pictures": (says(PARTS, _part(JPEG[:100]) * 50), (0, 2, 3)),
    "parts-of-exabytes": (says(PARTS, _part(JPEG, length=2**62)), (0, 2, 3)),
    "parts-of-negative-length": (says(PARTS, _part(JPEG, length=-1) * 5), (0, 2, 3)),
    "parts-without-boundary": (
        says(HEAD + b"Content-Type: multipart/x-mixed-replace\r\n\r\n", JPEG * 20),
        (0, 2, 3),
    ),
    "boundary-of-10-kilobytes": (
        says(HEAD + b"Content-Type: multipart/x-mixed-replace; boundary=" + b"b" * 10_000 + b"\r\n\r\n", NOISE),
        (2, 3),
    ),
    "hls-that-names-files": (
        says(http(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "application/vnd.apple.mpegurl")),
        (2, 3),
    ),
    "hls-that-names-itself": (
        says(http(b"#EXTM3U\n#EXTINF:1,\n/live\n#EXT-X-ENDLIST\n", "application/vnd.apple.mpegurl")),
        (2, 3),
    ),
    "hls-of-nothing": (says(http(b"#EXTM3U\n#EXT-X-ENDLIST\n", "application/vnd.apple.mpegurl")), (2, 3)),
    "playlist-of-a-concatenation": (says(http(b"ffconcat version 1.0\nfile /etc/passwd\n", "text/plain")), (2, 3)),
}
SERVED = tuple(
    Entry(name, (LIVE,), codes=codes, around=_around(answer), told_by_error=False)
    for name, (answer, codes) in ANSWERS.items()
)

WORDS: dict[str, str] = {
    "nobody-listens": "http://127.0.0.1:1/live",
    "port-too-high": "http://127.0.0.1:99999/live",
    "port-of-text": "http://127.0.0.1:port/live",
    "no-host": "http:///live",
    "scheme-alone": "rtsp://",
    "brackets-of-no-address": "http://[::zz]/live",
    "brackets-of-no-file": "file://[::zz]/clip.mp4",
    "unknown-scheme": "gopher://127.0.0.1/1",
    "scheme-of-ffmpeg-for-files": "concat://a|b",
    "script": "javascript://alert",
    "url-of-900-letters": "http://127.0.0.1:1/" + "a" * 900,
    "pipeline-of-nothing": "fakesrc ! appsink",
    "pipeline-of-garbage": "! ! !",
}
NAMED = tuple(Entry(name, (camera(word, "--no-reconnect"),), codes=(2, 3)) for name, word in WORDS.items())


def _clip(change: Callable[[bytes], bytes], name: str = "bad.mp4") -> Make:
    def make(stock: Stock, place: Path) -> None:
        whole = write_clip(place / "whole.mp4", ["red", "green", "blue"] * 4)
        (place / name).write_bytes(change(whole.read_bytes()))
        whole.unlink()

    return make


def _flipped(seed: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for position in rng.integers(0, len(data), 40):
            changed[position] = rng.integers(0, 256)
        return bytes(changed)

    return change


def _animated(kind: str) -> bytes:
    """An animation of three pictures."""
    animation = cv2.Animation()
    animation.frames = [plain(colour) for colour in ("red", "green", "blue")]
    animation.durations = [100, 100, 100]
    return bytes(cv2.imencodeanimation(f".{kind}", animation)[1])


def _played(name: str) -> tuple[tuple[str, ...], ...]:
    return (camera(name, "--as-fast-as-possible"),)


CLIPS = (
    *(
        Entry(
            f"clip-cut-at-{share:g}",
            _played("bad.mp4"),
            _clip(lambda data, share=share: data[: int(len(data) * share)]),
            says="bad.mp4",
        )
        for share in (0.01, 0.3, 0.6, 0.9)
    ),
    *(Entry(f"clip-changed-{seed}", _played("bad.mp4"), _clip(_flipped(seed)), (0, 2, 3)) for seed in range(8)),
    Entry("clip-empty", _played("bad.mp4"), writes("bad.mp4", b""), says="bad.mp4"),
    Entry("clip-of-text", _played("bad.mp4"), writes("bad.mp4", "no video\n" * 99), says="bad.mp4"),
    Entry("clip-of-noise", _played("bad.avi"), writes("bad.avi", NOISE), says="bad.avi"),
    Entry("clip-of-zeros", _played("bad.mkv"), writes("bad.mkv", bytes(50_000)), says="bad.mkv"),
    Entry("clip-without-suffix", _played("bad"), writes("bad", "words"), says="bad"),
    Entry("sound-alone", _played("bad.wav"), writes("bad.wav", SOUND)),
    Entry("playlist-of-files", _played("bad.m3u8"), writes("bad.m3u8", "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")),
    Entry("concatenation-of-files", _played("bad.txt"), writes("bad.txt", "ffconcat version 1.0\nfile a\n")),
    Entry("sdp-of-nobody", _played("bad.sdp"), writes("bad.sdp", "v=0\nm=video 9 RTP/AVP 96\nc=IN IP4 ::1\n")),
    Entry("image-pattern", _played("frame%03d.png"), drawn("frame001.png", lambda: encoded("png"))),
    Entry("a-model", _played("tiny.onnx"), says="tiny.onnx"),
    Entry("missing", _played("gone.mp4"), says="gone.mp4"),
    Entry("missing-camera", (camera("64"),), codes=(3,), says="64"),
    Entry("missing-device", (camera("/dev/video-none"),), codes=(3,), says="/dev/video-none"),
    Entry("camera-of-a-thousand-digits", (camera("9" * 1000),), codes=(2, 3)),
    Entry("camera-negative", (camera("-1"),), codes=(2, 3)),
    Entry("dev-null", _played("/dev/null"), codes=(2, 3), says="/dev/null"),
    Entry("dev-zero", _played("/dev/zero"), codes=(2, 3), says="/dev/zero"),
    Entry("word-of-spaces", _played("  ")),
    Entry("animated-gif-cut-off", _played("bad.gif"), drawn("bad.gif", lambda: _animated("gif")[:150])),
    Entry("animated-webp-cut-off", _played("bad.webp"), drawn("bad.webp", lambda: _animated("webp")[:150])),
    Entry("animated-png-cut-off", _played("bad.png"), drawn("bad.png", lambda: _animated("png")[:150])),
)  # fmt: skip

ENTRIES = (*SERVED, *NAMED, *CLIPS)
