"""Downloading one file over HTTP: with resuming, retries when the connection drops, and a checksum at the end.

What has arrived is kept in `NAME.part`; `NAME.part.json` says which version of the file it is a part of.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import msgspec

from toolchain._version import __version__
from toolchain.datasets.named import Download
from toolchain.errors import BadInputError, MissingError
from toolchain.system import files, strict
from toolchain.system.progress import Reporter, Task

ATTEMPTS = 5
"""Failures in a row, none of which brought a byte, after which the download gives up."""
TIMEOUT_S = 30.0
_CHUNK = 1 << 18
_MB = 1_000_000
_RETRIED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_OFFLINE_ERRNOS = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH}


class _Origin(msgspec.Struct):
    """Which version of the remote file a part belongs to: its ETag or date, and its size in bytes."""

    url: str
    validator: str
    total: int | None


def download(
    source: Download,
    folder: Path,
    reporter: Reporter,
    *,
    pause: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
) -> Path:
    """Download `source` into `folder` and check it; return the file.

    Raises MissingError when the server cannot be reached (what has arrived is kept for the next time),
    BadInputError when the file is not the one that the catalogue describes.
    """
    target = folder / source.file_name
    folder.mkdir(parents=True, exist_ok=True)
    if source.digest and target.is_file() and _is_right(source, target):
        return target
    target.unlink(missing_ok=True)  # it cannot be shown to be the publisher's file
    part = target.with_name(f"{target.name}.part")
    transfer = _Transfer(source.url, part, reporter, pause, timeout_s)
    if not source.digest or part.is_symlink():
        transfer.forget()  # a part of an earlier download could not be checked; a link would be written through
    resumed = part.exists()
    transfer.complete(source.size_bytes)
    if not _is_right(source, part) and resumed:
        # The fault may lie in the old part: try once more without it.
        reporter.warn(f"{source.file_name}: the checksum is wrong; downloading it again")
        transfer.forget()
        transfer.complete(source.size_bytes)
    if not _is_right(source, part):
        transfer.forget()
        raise BadInputError(
            f"{source.url} is not the expected file: its {source.digest.partition(':')[0]} checksum is wrong",
            "Try again later. If the error stays, the publisher has changed the file: please report it.",
        )
    if not source.digest:
        same = "as" if part.stat().st_size == source.size_bytes else "not as"
        reporter.say(
            f"{source.file_name}: its publisher gives no checksum; its size is {same} expected, and the archive's "
            "own checksums are verified when it is unpacked"
        )
    part.replace(target)
    transfer.forget()
    return target


class _Transfer:
    """The transfer of one URL into its part file, over as many connections as it takes."""

    def __init__(
        self, url: str, part: Path, reporter: Reporter, pause: Callable[[float], None], timeout_s: float
    ) -> None:
        self._url = url
        self._part = part
        self._origin_file = part.with_name(f"{part.name}.json")
        self._reporter = reporter
        self._pause = pause
        self._timeout_s = timeout_s
        self._reported_mb = 0

    def forget(self) -> None:
        """Remove what has arrived."""
        self._part.unlink(missing_ok=True)
        self._origin_file.unlink(missing_ok=True)

    def complete(self, expected_bytes: int) -> None:
        """Receive until the file is whole. Raises MissingError when retrying cannot help."""
        failures = 0
        self._reported_mb = 0
        name = self._part.name.removesuffix(".part")
        with self._reporter.task(f"downloading {name} (MB)", max(1, expected_bytes // _MB)) as task:
            while True:
                before = self._received()
                try:
                    self._receive(task)
                    return
                except (OSError, HTTPException) as error:
                    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    failures = 1 if self._received() > before else failures + 1
                    if failures >= ATTEMPTS or _is_hopeless(error):
                        kept = self._received() if self._origin() else 0
                        rest = f"; it continues from {kept / 1e6:.1f} MB" if kept else ""
                        raise MissingError(
                            f"{self._url} cannot be downloaded: {_reason(error)}",
                            f"Check the network and run it again{rest}.",
                        ) from None
                    wait_s = float(2 ** (failures - 1))
                    self._reporter.warn(f"{name}: {_reason(error)}; trying again in {wait_s:.0f} s")
                    self._pause(wait_s)

    def _received(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self, task: Task) -> None:
        """Receive over one connection. Raises OSError or HTTPException when it ends before the file does."""
        origin, offset = self._origin(), self._received()
        headers = {"User-Agent": f"edgetl/{__version__}", "Accept-Encoding": "identity"}
        if origin and offset:
            headers["Range"] = f"bytes={offset}-"
            if origin.validator:
                headers["If-Range"] = origin.validator
        request = urllib.request.Request(self._url, headers=headers)
        try:
            response = urllib.request.urlopen(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
                if origin and offset == origin.total == _range(error.headers)[1]:
                    return
            self.forget()
            raise ConnectionError("the remote file has changed") from None
        with response:
            if self._url.startswith("https:") and not response.url.startswith("https:"):
                raise ssl.SSLError(f"it redirects to {response.url}, which is not encrypted")
            length = response.headers.get("Content-Length", "")
            start, total = 0, int(length) if length.isdigit() else None
            if response.status == HTTPStatus.PARTIAL_CONTENT:
                start, total = _range(response.headers)
                if start != offset or (origin and total != origin.total):
                    self.forget()
                    raise ConnectionError("the remote file has changed")
            files.write_json(self._origin_file, _Origin(self._url, _validator(response.headers), total))
            with self._part.open("r+b" if start else "wb") as file:
                file.seek(start)
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    self._report(task, file.tell())
        if total is not None and self._received() != total:
            raise ConnectionError(f"the connection was cut after {self._received()} of {total} bytes")

    def _origin(self) -> _Origin | None:
        try:
            origin = strict.decode(files.read_regular(self._origin_file, 1 << 16), _Origin)
        except (OSError, msgspec.DecodeError):
            return None
        return origin if origin.url == self._url else None

    def _report(self, task: Task, received: int) -> None:
        if received // _MB > self._reported_mb:
            task.advance(received // _MB - self._reported_mb)
            self._reported_mb = received // _MB


def _is_right(source: Download, path: Path) -> bool:
    kind, _, expected = source.digest.partition(":")
    if not kind:
        return True
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == expected


def _range(headers: Message) -> tuple[int, int | None]:
    """Start and total of a `Content-Range`; start -1 where there is none."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", "").strip())
    if not match:
        return -1, None
    return int(match[1] or 0), None if match[2] == "*" else int(match[2])


def _validator(headers: Message) -> str:
    """The validator for `If-Range`: a strong ETag, or else the date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _is_hopeless(error: Exception) -> bool:
    """Whether retrying within seconds cannot help: no network, unknown host, refused, not found."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _RETRIED
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, socket.gaierror | ssl.SSLError | PermissionError) or (
        isinstance(cause, OSError) and cause.errno in _OFFLINE_ERRNOS
    )


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return f"the host is not found ({cause.strerror})"
    if isinstance(cause, TimeoutError):
        return "the server does not answer in time"
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__
