"""HTTP: what a server offers at an address, and cameras that give one picture for each request."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPSHandler,
    Request,
    build_opener,
)

import cv2

from toolchain import __version__
from toolchain.camera.frames import BgrImage, CaptureOptions, Clock, Frame, FrameSource, Pacer, SourceLostError
from toolchain.camera.sources.video import MAX_CORRUPT
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images.encoded import is_called_picture
from toolchain.images.preprocess import decode

Kind = Literal["pictures", "picture", "playlist", "file", "unknown"]
"""`pictures`: endless motion JPEG. `unknown`: something of unknown length."""

MAX_BYTES = 64 * 2**20
"""The largest picture or playlist that is accepted."""
MAX_FILE = 2**40
"""Some servers of live streams announce a length that no file has."""
VAGUE = ("", "application/octet-stream", "binary/octet-stream", "text/plain")

USUAL_FPS = 1.0
"""Pictures per second by default; cameras make each on request."""
FETCH_LIMIT_S = 10.0
MAX_FAILED = 3
"""After so many failed requests in a row, the camera counts as lost."""

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_tls_options: list[str] = []
"""What `set_tls_options` has added last."""


@dataclass(frozen=True)
class ServerReply:
    """`refused` is the status of a refusal, such as `404 Not Found`, or empty."""

    kind: Kind
    content_type: str = ""
    refused: str = ""


def ask(url: str, limit_s: float, *, insecure: bool = False) -> ServerReply:
    """Request `url`, and read the head of the answer. Errors give the kind `unknown`."""
    try:
        with _open(url, limit_s, insecure) as response:
            headers = response.headers
    except HTTPError as error:
        error.close()
        return ServerReply("unknown", refused=f"{error.code} {error.reason}".strip())
    except (OSError, HTTPException, ValueError):
        return ServerReply("unknown")
    content_type = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    length = headers.get("Content-Length") or ""
    return ServerReply(_kind(content_type, urlsplit(url).path, length), content_type)


def fetch(url: str, limit_s: float, *, insecure: bool = False) -> bytes:
    """The content of `url`. Raises OSError, with the words of the server or the system, if it cannot be read."""
    try:
        with _open(url, limit_s, insecure) as response:
            data: bytes = response.read(MAX_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise OSError(f"the server answers {error.code} {error.reason}".strip()) from None
    except URLError as error:
        raise OSError(
            f"the server is not there ({getattr(error.reason, 'strerror', None) or error.reason})"
        ) from None
    except (HTTPException, ValueError) as error:
        raise OSError(f"the server's answer is broken ({type(error).__name__})") from None
    if len(data) > MAX_BYTES:
        raise OSError(f"the answer is larger than {MAX_BYTES >> 20} MiB")
    return data


def check_certificate(url: str, name: str, limit_s: float) -> None:
    """Raise BadInputError if the server of a TLS address has no valid certificate for its host.

    If it cannot be reached, or does not speak TLS, that is found when the stream is opened.
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "rtsps": 322}[parts.scheme.lower()]
    context = ssl.create_default_context()
    try:
        with socket.create_connection((parts.hostname or "", port), limit_s) as plain:
            context.wrap_socket(plain, server_hostname=parts.hostname).close()
    except ssl.SSLCertVerificationError as error:
        raise BadInputError(
            f"{name}: the certificate of the server is not valid: {error.verify_message}",
            "Use the name that is in the certificate, or accept any certificate: --insecure.",
        ) from None
    except (OSError, ValueError):
        return


def set_tls_options(*, insecure: bool) -> None:
    """Let FFmpeg verify certificates of what is opened from now on, unless `insecure`.

    OpenCV passes options on from the environment only. FFmpeg does not compare the certificate with a host that is
    an IP address; `check_certificate` does.
    """
    authorities = ssl.get_default_verify_paths().cafile
    before = os.environ.get(FFMPEG_OPTIONS, "")
    kept = [one for one in before.split("|") if one and one not in _tls_options]
    if not insecure and authorities and not any(one.startswith("tls_verify;") for one in kept):
        _tls_options[:] = ["tls_verify;1", f"ca_file;{authorities}"]
        kept += _tls_options
    if (after := "|".join(kept)) != before:
        os.environ[FFMPEG_OPTIONS] = after


def _kind(content_type: str, path: str, length: str) -> Kind:
    if content_type.startswith("multipart/"):
        return "pictures"
    if "mpegurl" in content_type or path.lower().endswith((".m3u8", ".m3u")):
        return "playlist"
    if content_type.startswith("image/") or (content_type in VAGUE and is_called_picture(path.rpartition("/")[2])):
        return "picture"
    return "file" if length.isdecimal() and int(length) < MAX_FILE else "unknown"


def _open(url: str, limit_s: float, insecure: bool):  # type: ignore[no-untyped-def]
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    passwords = HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = build_opener(
        HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords), HTTPSHandler(context=context)
    )
    request = Request(bare, headers={"User-Agent": f"edgetl/{__version__}"})
    return opener.open(request, timeout=limit_s)


class SnapshotSource(FrameSource):
    """Fetches the picture at `url` at the rate asked for, or as often as the server can. Incomplete pictures are
    skipped. Raises OSError if the first one cannot be read.
    """

    patience_s: float = MAX_FAILED * FETCH_LIMIT_S

    def __init__(self, name: str, url: str, clock: Clock, options: CaptureOptions) -> None:
        super().__init__(name, clock)
        self._pacer: Pacer = Pacer(clock)
        self.fps: float = options.requested.fps or USUAL_FPS
        self._url = url
        self._insecure = options.insecure
        self._start_s = 0.0
        self._ahead: BgrImage | None = self._fetched()
        height, width = self._ahead.shape[:2]
        self.given: str = f"{width} x {height}, fetched every {1 / self.fps:.3g} s"

    def read(self) -> Frame | None:
        due_s = self._number / self.fps
        if self._pacer.behind(due_s) > 0:
            self._pacer.restart(due_s)  # the server is slower than requested
        if self._pacer.wait(due_s) is None:
            return None
        bgr = self._next()
        now = self._clock.now()
        if not self._number:
            self._start_s = now
        self._number += 1
        return None if self._stopped.is_set() else Frame(self._number - 1, bgr, now, now - self._start_s)

    def _next(self) -> BgrImage:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr
        failed = corrupt = 0
        while True:
            try:
                return self._fetched()
            except UnreadableImageError as error:  # it may be being written
                corrupt += 1
                reason = error.message
            except OSError as error:
                failed += 1
                reason = f"{self.name}: {error}"
            if failed == MAX_FAILED or corrupt == MAX_CORRUPT or self._stopped.is_set():
                raise SourceLostError(reason, self.remedy)
            self._clock.wait(self._stopped, 1 / self.fps)

    def _fetched(self) -> BgrImage:
        picture = decode(fetch(self._url, FETCH_LIMIT_S, insecure=self._insecure), self.name)
        return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]
