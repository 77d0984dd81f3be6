"""Writing files so that nothing is ever half written, and naming them by content."""

from __future__ import annotations

import errno
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec


@contextmanager
def told_where(path: Path) -> Iterator[None]:
    """Let an error of a full disk say where: one that comes from writing, not from opening, names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            error.filename = str(path)
        raise


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder for as long as the block runs."""
    with TemporaryDirectory(prefix=prefix) as name, told_where(Path(name)):
        yield Path(name)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` if the block succeeds, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = fresh(path)
    # Not mkstemp, whose files only the owner reads; a result is as readable as any other new file. (To ask for the
    # umask is to change it, for all threads of the program.)
    beside.touch(exist_ok=False)
    try:
        with told_where(path):
            yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def fresh(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has, with its suffix."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{path.suffix}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replaced(path) as beside:
        beside.write_bytes(data)


def to_json(value: Any) -> bytes:
    """Indented UTF-8 JSON of plain data or dataclasses; ends with a newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
