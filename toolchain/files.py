"""Writing files so that nothing is ever half written, and naming them by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import msgspec


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` if the block succeeds, else remove it.

    An OSError of the block that names no file (a full disk is found by writing, not by opening) names `path` then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        # mkstemp makes files that only the owner reads; a result is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    except OSError as error:
        if error.filename is not None and error.filename != str(beside):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        beside.unlink(missing_ok=True)


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
