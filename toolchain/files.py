"""Writing files so that nothing is ever half written, and naming them by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any, TypeVar

import msgspec

from toolchain import names

Value = TypeVar("Value")

_ESCAPE = rb"\\u"
"""How a backslash before a `u` stands in JSON; without one, nothing in it is escaped."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` if the block succeeds, else remove it."""
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
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replaced(path) as beside:
        beside.write_bytes(data)


def to_json(value: Any, *, indent: int = 2) -> bytes:
    """UTF-8 JSON of plain data or dataclasses; ends with a newline. With `indent` 0 it is one line.

    Names that are no UTF-8 are escaped (see `toolchain.names`), and `from_json` reads them back.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or _ESCAPE in encoded:
        encoded = msgspec.json.encode(names.apply(names.escaped, msgspec.to_builtins(value, str_keys=True)))
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"


def from_json(data: bytes | str, type: type[Value]) -> Value:
    """Read what `to_json` wrote. Raises msgspec.DecodeError for what is no JSON, or not of `type`."""
    encoded = data.encode() if isinstance(data, str) else data
    if _ESCAPE not in encoded:
        return msgspec.json.decode(encoded, type=type)
    return msgspec.convert(names.apply(names.unescaped, msgspec.json.decode(encoded)), type, str_keys=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


@contextmanager
def encodable(path: Path) -> Iterator[Path]:
    """`path` of a file, or another path of the same for libraries that take none but UTF-8 (OpenCV crashes)."""
    if names.is_encodable(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="edgetl-") as folder:
        other = Path(folder) / f"file{names.escaped(path.suffix)}"
        other.symlink_to(path.absolute())
        yield other


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
