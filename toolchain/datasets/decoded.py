"""Decoded photographs, kept between runs: a photograph of 12 megapixels takes 100 ms to decode, its input 0.1 ms to
read back.

One SQLite file holds pixels under the SHA-256 of the photograph and the way they were made. SQLite makes it safe to
interrupt, to share between processes and to read without loading; every picture carries a checksum. Whatever goes
wrong with the file costs time, never a run: it is said once, and photographs are decoded again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from toolchain import folders
from toolchain.datasets.photographs import Photograph
from toolchain.errors import UnreadableImageError
from toolchain.preprocess import DECODING, Image, Preprocess, read
from toolchain.progress import Reporter

FILE = "decoded-v1.sqlite"
LARGEST_BYTES = 20 << 30
"""A larger file is emptied when it is opened: old photographs are not worth a full disk."""

SPARE_BYTES = 2 << 30
"""What must stay free on the disk."""

LARGER = 8 / 7
"""Shortest edge of the pictures that training crops are cut from, over that of the network's input (256 to 224)."""

_DECODER = f"decoding {DECODING} OpenCV {cv2.__version__}"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    sha256 BLOB NOT NULL, variant TEXT NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,
    crc32 INTEGER NOT NULL, pixels BLOB NOT NULL, UNIQUE (sha256, variant)
)
"""


class Decoded:
    """Photographs as the network's input, and as larger pictures for training crops to be cut from.

    Usable from many threads and processes at once. With `folder` None, or when the folder cannot be used,
    photographs are decoded each time.
    """

    def __init__(self, folder: Path | None, spec: Preprocess, reporter: Reporter) -> None:
        self.spec = spec
        self._larger_edge = round(LARGER * min(spec.height, spec.width))
        self._input_variant = f"input {spec.width}x{spec.height} {spec.resize} {spec.shortest_edge} "
        self._input_variant += f"{spec.interpolation} {_DECODER}"
        self._larger_variant = f"shortest edge {self._larger_edge} {_DECODER}"
        self._reporter = reporter
        self._path = folder / FILE if folder else None
        self._writable = True
        self._local = threading.local()
        self._lock = threading.Lock()
        if self._path:
            self._open(self._path)

    def prepare(self, photo: Photograph, *, larger: bool) -> None:
        """Make sure that `photo` can be decoded, and keep its input and (if asked) its larger picture.

        Raises UnreadableImageError.
        """
        wanted = [self._input_variant] + [self._larger_variant] * larger
        if all(self._has(photo, variant) for variant in wanted):
            return
        image = read(photo.path)
        self._store(photo, self._input_variant, self.spec(image))
        if larger:
            self._store(photo, self._larger_variant, self._shrunk(image))

    def input(self, photo: Photograph) -> Image:
        """The network's input, uint8 [height, width, 3]. Raises UnreadableImageError."""
        return self._get(photo, self._input_variant, self.spec)

    def larger(self, photo: Photograph) -> Image:
        """The whole photograph, uint8 RGB, no larger than training needs. Raises UnreadableImageError."""
        return self._get(photo, self._larger_variant, self._shrunk)

    def _shrunk(self, image: Image) -> Image:
        height, width = image.shape[:2]
        scale = self._larger_edge / min(height, width)
        if scale >= 1:
            return image
        size = (round(width * scale), round(height * scale))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

    def _get(self, photo: Photograph, variant: str, make: Callable[[Image], Image]) -> Image:
        found = self._query(
            "SELECT height, width, crc32, pixels FROM pictures WHERE sha256 = ? AND variant = ?", photo, variant
        )
        if found:
            height, width, crc32, pixels = found
            if len(pixels) == height * width * 3 and zlib.crc32(pixels) == crc32:
                return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
            self._give_up("holds a damaged picture", remove=True)
        return make(read(photo.path))

    def _has(self, photo: Photograph, variant: str) -> bool:
        return bool(self._query("SELECT 1 FROM pictures WHERE sha256 = ? AND variant = ?", photo, variant))

    def _query(self, query: str, photo: Photograph, variant: str) -> tuple[int, int, int, bytes] | None:
        if self._path is None:
            return None
        try:
            row: tuple[int, int, int, bytes] | None = (
                self._connection(self._path).execute(query, (bytes.fromhex(photo.sha256), variant)).fetchone()
            )
        except sqlite3.Error as error:
            self._failed(error)
            return None
        return row

    def _store(self, photo: Photograph, variant: str, image: Image) -> None:
        if self._path is None or not self._writable:
            return
        pixels = np.ascontiguousarray(image).data
        row = (bytes.fromhex(photo.sha256), variant, *image.shape[:2], zlib.crc32(pixels), pixels)
        try:
            self._connection(self._path).execute("INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            if "full" in str(error):
                self._stop_writing(f"{self._path}: the disk is full")
            else:
                self._failed(error)

    def _stop_writing(self, reason: str) -> None:
        with self._lock:
            told, self._writable = not self._writable, False
        if not told:
            self._reporter.warn(f"{reason}, so decoded photographs are not kept")

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > LARGEST_BYTES:
                _remove(path)
            if shutil.disk_usage(path.parent).free < SPARE_BYTES:
                self._stop_writing(f"{path.parent}: under 2 GB free")
            self._connection(path).execute("SELECT count(*) FROM pictures WHERE sha256 = x'00'")
        except sqlite3.Error as error:
            self._failed(error)
        except OSError as error:
            self._give_up(f"cannot be used ({error.strerror or error})")

    def _connection(self, path: Path) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with self._lock:
                connection = sqlite3.connect(path, timeout=30, isolation_level=None)
                # A crash of the machine may cost the cache; it can be made again.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(_SCHEMA)
            self._local.connection = connection
        return connection

    def _failed(self, error: sqlite3.Error) -> None:
        reason = str(error)
        self._give_up(f"cannot be used ({reason})", remove="malformed" in reason or "not a database" in reason)

    def _give_up(self, reason: str, *, remove: bool = False) -> None:
        with self._lock:
            path, self._path = self._path, None
        if path is None:
            return
        if remove:
            _remove(path)
        ending = " and was removed" if remove else ""
        self._reporter.warn(f"the cache of decoded photographs {path} {reason}{ending}; decoding each time")


def problem_of(photo: Photograph, decoded: Decoded, *, larger: bool = False) -> str:
    """Why `photo` cannot be used; empty when it can, and then it is kept as `Decoded.prepare` says."""
    try:
        decoded.prepare(photo, larger=larger)
    except UnreadableImageError as error:
        return error.message
    return ""


def cache_folder() -> Path:
    """Where decoded photographs are kept: `$EDGETL_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("EDGETL_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else folders.cache_folder()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
