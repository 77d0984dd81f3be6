"""What servers give besides motion JPEG: files with and without a length, live HLS, snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from toolchain.camera.frames import BgrImage

BITS = 12

Answer = Callable[[BaseHTTPRequestHandler], None]


def numbered(number: int) -> BgrImage:
    """A picture that says which one it is, whatever a video codec does to it."""
    bits = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
    return np.repeat(np.repeat(np.repeat(np.array([bits], np.uint8), 6, 1), 48, 0)[:, :, None], 3, 2)


def number_of(bgr: BgrImage) -> int:
    """The number of a picture that `numbered` made."""
    return sum(1 << bit for bit in range(BITS) if bgr[10:40, 6 * bit + 2 : 6 * bit + 4].mean() > 127)


class Served:
    """Answers each request on this machine by `answer`. `asked` holds the paths that were asked for."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.asked.append(self.path)
                self.close_connection = True
                with suppress(OSError):
                    answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Served:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def whole(data: bytes, kind: str) -> Answer:
    """A file whose length is told."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def in_pieces(data: bytes, kind: str, *, chunked: bool = True) -> Answer:
    """A file whose length is not told: in chunks, or until the connection ends."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(data), 8192):
            piece = data[start : start + 8192]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def slowly(data: bytes, kind: str, seconds: float) -> Answer:
    """A file that comes evenly over so many seconds, without a word of its length."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        send_evenly(handler, data, seconds)

    return answer


def send_evenly(handler: BaseHTTPRequestHandler, data: bytes, seconds: float) -> None:
    size = max(188, len(data) // 40)
    for start in range(0, len(data), size):
        handler.wfile.write(data[start : start + size])
        time.sleep(seconds * size / len(data))


def live_ts(data: bytes) -> Answer:
    """A transport stream as an encoder sends it: evenly, for as long as somebody listens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.end_headers()
        while True:
            send_evenly(handler, data, 1.0)

    return answer


def refused(status: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class LiveHls:
    """A live playlist whose window slides over segments of `segment_s`, each there when its time has come."""

    WINDOW = 5

    def __init__(self, folder: Path, segments: int, segment_s: float = 1.0) -> None:
        self._folder, self._segments, self._segment_s = folder, segments, segment_s
        self._start_s = time.monotonic() - self.WINDOW * segment_s
        self.frozen_s: float | None = None
        """Since when nothing new appears."""
        self.ended = False
        """Whether the playlist says that nothing will come any more."""

    def newest(self) -> int:
        """The number of segments that have appeared."""
        now = time.monotonic() if self.frozen_s is None else self.frozen_s
        return min(self._segments, int((now - self._start_s) / self._segment_s))

    def freeze(self) -> None:
        self.frozen_s = time.monotonic()

    def thaw(self) -> None:
        """Go on from where it stood."""
        assert self.frozen_s is not None
        self._start_s += time.monotonic() - self.frozen_s
        self.frozen_s = None

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(".ts"):
            whole((self._folder / handler.path.rpartition("/")[2]).read_bytes(), "video/mp2t")(handler)
            return
        newest = self.newest()
        first = max(0, newest - self.WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, round(self._segment_s))}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for number in range(first, newest):
            lines += [f"#EXTINF:{self._segment_s:.6f},", f"seg{number}.ts"]
        lines += ["#EXT-X-ENDLIST"] if self.ended else []
        whole("\n".join([*lines, ""]).encode(), "application/vnd.apple.mpegurl")(handler)


def write_segments(folder: Path, picture: Callable[[int], BgrImage], segments: int, segment_s: float = 1.0) -> None:
    """Write `seg0.ts`, `seg1.ts`, ... of 30 frames per second, each of which can be decoded by itself."""
    _write(
        folder / "all.m3u8",
        picture,
        round(30 * segments * segment_s),
        "hls",
        round(30 * segment_s),
        {"hls_time": f"{segment_s}", "hls_list_size": "0", "hls_segment_filename": str(folder / "seg%d.ts")},
    )


def write_ts(path: Path, picture: Callable[[int], BgrImage], frames: int) -> Path:
    """A transport stream of 30 frames per second: it says nowhere how long it is."""
    _write(path, picture, frames, "mpegts", 30, {})
    return path


def _write(
    path: Path, picture: Callable[[int], BgrImage], frames: int, kind: str, gop: int, options: dict[str, str]
) -> None:
    import av

    height, width = picture(0).shape[:2]
    with av.open(str(path), "w", format=kind, options=options) as container:
        encoding = {"bf": "0", "g": str(gop), "sc_threshold": "0", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=30, options=encoding)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
