"""The cache of decoded photographs: one of 12 megapixels takes 100 ms to decode, and its input 0.1 ms to read back.

One SQLite file holds pixels under the SHA-256 of the photograph and the way they were made. SQLite makes it safe to
interrupt, to share between processes and to read without loading; every picture carries a checksum. Trouble with
the file costs time and never a run: it is reported once, and photographs are decoded again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import psutil

from toolchain.errors import BadInputError
from toolchain.images.preprocess import Image
from toolchain.system import folders
from toolchain.system.progress import Reporter

FILE = "decoded-v1.sqlite"
MAX_MB = 4096
"""Default limit, of 10^6 bytes: about 25,000 photographs. `$EDGETL_CACHE_MB` sets another. The pictures that were
used longest ago are removed first, and none that a running process has used since it began."""

CHECK_EVERY = 64
"""Pictures that are stored between two checks of the limit."""

SPARE_BYTES = 2 << 30
"""Free space that the cache leaves on the disk."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    sha256 BLOB NOT NULL, variant TEXT NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,
    crc32 INTEGER NOT NULL, pixels BLOB NOT NULL, UNIQUE (sha256, variant)
)
"""
_USES = "CREATE TABLE IF NOT EXISTS used (sha256 BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID"
"""When photographs were used, in seconds since 1970. Files of earlier versions lack this table."""
_RUNNING = "CREATE TABLE IF NOT EXISTS running (pid INTEGER PRIMARY KEY, began INTEGER NOT NULL)"
"""Processes that fill the cache: what one of them has used since it began stays while it lives."""

_PICTURE = "SELECT height, width, crc32, pixels FROM pictures WHERE sha256 = ? AND variant = ?"
_USED = "INSERT INTO used VALUES (?, ?) ON CONFLICT (sha256) DO UPDATE SET at = max(at, excluded.at)"
_OLDEST = """
SELECT pictures.rowid, 3 * height * width FROM pictures LEFT JOIN used USING (sha256)
WHERE coalesce(at, 0) < ? ORDER BY coalesce(at, 0), pictures.rowid
"""


class PictureCache:
    """Pictures under the SHA-256 of their photograph and the name of a variant.

    Usable from many threads and processes at once. With `folder` None, or when the folder cannot be used, it holds
    nothing. Unless `keep`, it is only read, and nothing is written to the disk.
    """

    def __init__(self, folder: Path | None, reporter: Reporter, *, keep: bool = True) -> None:
        self._reporter = reporter
        self._limit = limit_bytes()
        self._path = folder / FILE if folder and self._limit else None
        self._began = int(time.time())
        self._touched: list[str] = []
        self._stored = 0
        self._keep = self._writable = keep
        self._local = threading.local()
        self._lock = threading.Lock()
        if self._path:
            self._open(self._path)

    def get(self, sha256: str, variant: str, shape: tuple[int, int] | None = None) -> Image | None:
        """The picture, uint8 [height, width, 3], or None where it is not here. `shape` is what it must have."""
        found = self._query(_PICTURE, sha256, variant)
        if found is None:
            return None
        height, width, crc32, pixels = found
        if _is_sound(height, width, crc32, pixels) and shape in (None, (height, width)):
            return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
        self._give_up("holds a damaged picture", remove=True)
        return None

    def has(self, sha256: str, variant: str) -> bool:
        """Whether the picture is here; cheaper than `get`."""
        return bool(self._query("SELECT 1 FROM pictures WHERE sha256 = ? AND variant = ?", sha256, variant))

    def put(self, sha256: str, variant: str, image: Image) -> None:
        """Keep a picture, where that is possible."""
        if self._path is None or not self._writable:
            return
        pixels = np.ascontiguousarray(image).data
        row = (bytes.fromhex(sha256), variant, *image.shape[:2], zlib.crc32(pixels), pixels)
        try:
            connection = self._connection(self._path)
            connection.execute("INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?, ?, ?)", row)
            self._stored += 1
            if self._stored % CHECK_EVERY == 0 and _size(connection) > self._limit:
                self.tidy()
                if self._path is not None and _size(connection) > self._limit:
                    full = f"{self._path} holds the {self._limit / 1e6:,.0f} MB that it may (EDGETL_CACHE_MB)"
                    self._stop_writing(f"{full}, all of this run")
        except sqlite3.Error as error:
            if "full" in str(error):
                self._stop_writing(f"{self._path}: the disk is full")
            else:
                self._failed(error)

    def touch(self, sha256: str) -> None:
        """Remember that a photograph was used; `tidy` writes it down."""
        with self._lock:
            self._touched.append(sha256)

    def tidy(self) -> None:
        """Note what was used, and remove what was used longest ago where the limit is passed."""
        if self._path is None or not self._writable:
            return
        with self._lock:
            touched, self._touched = self._touched, []
        connection = self._connection(self._path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_USED, [(bytes.fromhex(sha256), self._began) for sha256 in touched])
            excess = _size(connection) - self._limit
            if excess > 0:
                oldest = connection.execute(_OLDEST, (self._first_began(connection),)).fetchall()
                freed = accumulate((size for _, size in oldest), initial=0)
                rows = [(row,) for (row, _), before in zip(oldest, freed, strict=False) if before < excess]
                connection.executemany("DELETE FROM pictures WHERE rowid = ?", rows)
            connection.execute("DELETE FROM used WHERE sha256 NOT IN (SELECT sha256 FROM pictures)")
            connection.execute("COMMIT")
            if self._path.stat().st_size > 1.25 * self._limit:
                connection.execute("VACUUM")  # pages that were freed stay in the file
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            if "full" in str(error) or "readonly" in str(error):
                self._stop_writing(f"{self._path}: {error}")
            else:
                self._failed(error)
        except OSError as error:
            self._give_up(f"cannot be used ({error.strerror or error})")

    def _first_began(self, connection: sqlite3.Connection) -> int:
        """When the first of the processes began that fill the cache now. Those that have ended are forgotten."""
        began: dict[int, int] = dict(connection.execute("SELECT pid, began FROM running").fetchall())
        began[os.getpid()] = self._began
        ended = [(pid,) for pid, at in began.items() if pid != os.getpid() and not _is_running(pid, at)]
        connection.executemany("DELETE FROM running WHERE pid = ?", ended)
        return min(at for pid, at in began.items() if (pid,) not in ended)

    def _query(self, query: str, sha256: str, variant: str) -> tuple[int, int, int, bytes] | None:
        if self._path is None or not sha256:
            return None
        try:
            row: tuple[int, int, int, bytes] | None = (
                self._connection(self._path).execute(query, (bytes.fromhex(sha256), variant)).fetchone()
            )
        except sqlite3.Error as error:
            self._failed(error)
            return None
        return row

    def _stop_writing(self, reason: str) -> None:
        with self._lock:
            was_writable, self._writable = self._writable, False
        if was_writable:
            self._reporter.warn(f"{reason}, so further decoded photographs are not kept")

    def _open(self, path: Path) -> None:
        try:
            if self._keep:
                path.parent.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(path.parent).free < SPARE_BYTES:
                    self._stop_writing(f"{path.parent}: under 2 GB free")
            elif not path.is_file():
                self._path = None
                return
            connection = self._connection(path)
            connection.execute("SELECT count(*) FROM pictures WHERE sha256 = x'00'")
            if self._writable:
                connection.execute("INSERT OR REPLACE INTO running VALUES (?, ?)", (os.getpid(), self._began))
        except sqlite3.Error as error:
            self._failed(error)
        except OSError as error:
            self._give_up(f"cannot be used ({error.strerror or error})")

    def _connection(self, path: Path) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with self._lock:
                connection = _writer(path) if self._keep else _connect(f"{path.absolute().as_uri()}?mode=ro")
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
        ending = ""
        if remove:
            with suppress(OSError):  # the folder may only be read, or Windows has it open
                _remove(path)
                ending = " and was removed"
        self._reporter.warn(f"the cache of decoded photographs {path} {reason}{ending}; decoding each time")


def cache_folder() -> Path:
    """Where decoded photographs are kept: `$EDGETL_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("EDGETL_CACHE")
    return folders.expanded(chosen).absolute() if chosen else folders.cache_folder()


def limit_bytes() -> int:
    """How large the cache may become: `$EDGETL_CACHE_MB` (of 10^6 bytes), or MAX_MB. 0 keeps nothing.

    Raises BadInputError where the variable holds no number.
    """
    chosen = os.environ.get("EDGETL_CACHE_MB", "").strip()
    if chosen and not chosen.isdecimal():
        raise BadInputError(
            f"EDGETL_CACHE_MB is {chosen!r}, no number of megabytes", "Set it to 4096, or unset it."
        )
    return (int(chosen) if chosen else MAX_MB) * 1_000_000


@dataclass(frozen=True)
class CacheState:
    """What is kept at `path`: `photographs`, in `size_mb` on the disk, of `limit_mb` (both 10^6 bytes)."""

    path: str
    photographs: int
    size_mb: float
    limit_mb: float


def cache_state(folder: Path) -> CacheState:
    """Look at the cache in `folder`; one that is not there or damaged holds nothing."""
    path = folder / FILE
    photographs = 0
    if path.is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT count(DISTINCT sha256) FROM pictures").fetchone()
            photographs = int(row[0])
    size = sum(part.stat().st_size for part in _parts(path) if part.is_file())
    return CacheState(str(path), photographs, round(size / 1e6, 1), limit_bytes() / 1e6)


def clear_cache(folder: Path) -> None:
    """Remove the decoded photographs. Runs that are using them decode anew."""
    _remove(folder / FILE)


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, timeout=30, isolation_level=None, uri=True)


def _writer(path: Path) -> sqlite3.Connection:
    connection = _connect(path.absolute().as_uri())
    # A crash of the machine may cost the cache; it can be made again.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(_SCHEMA)
    with suppress(sqlite3.OperationalError):  # a file that may only be read serves without
        connection.execute(_USES)
        connection.execute(_RUNNING)
    return connection


def _is_running(pid: int, began: int) -> bool:
    """Whether the process that opened a cache at `began` still runs: its number may be another one's by now."""
    try:
        return bool(psutil.Process(pid).create_time() < began + 1)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _is_sound(height: object, width: object, crc32: object, pixels: object) -> bool:
    """Whether a row holds a picture. The file may be anybody's, and SQLite keeps whatever type it is given."""
    if not isinstance(height, int) or not isinstance(width, int) or not isinstance(pixels, bytes):
        return False
    return min(height, width) > 0 and len(pixels) == height * width * 3 and zlib.crc32(pixels) == crc32


def _size(connection: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something."""
    pages, free, each = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * each


def _parts(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _remove(path: Path) -> None:
    for part in _parts(path):
        part.unlink(missing_ok=True)
