"""Writing files so that nothing is ever half written, and naming them by content."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec

from toolchain.system import strict, text

Value = TypeVar("Value")

_ESCAPE = rb"\\u"
"""How a backslash before a `u` stands in JSON; without one, nothing in it is escaped."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` if the block succeeds, else remove it.

    An OSError of the block that names no file (a full disk is found by writing, not by opening) names `path` then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = fresh(path)
    # Not mkstemp, whose files only the owner reads; a result is as readable as any other new file. (To ask for the
    # umask is to change it, for all threads of the program.)
    beside.touch(exist_ok=False)
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        if error.filename is not None and error.filename != str(beside):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        beside.unlink(missing_ok=True)


def fresh(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has, with its suffix."""
    # A name may have 255 bytes, four for each character at worst.
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}{path.suffix[:10]}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replaced(path) as beside:
        beside.write_bytes(data)


def move(source: Path, target: Path) -> None:
    """Move a file or link to where nothing is yet, also to another file system: there it is copied beside its
    place, compared, given its name, and only then removed where it was. Times and permissions stay.

    Raises OSError, and then `source` is still where it was.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "there is a file of that name", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        try:
            source.unlink()
        except OSError:
            target.unlink()
            raise


def _copy(source: Path, target: Path) -> None:
    beside = fresh(target)
    try:
        if source.is_symlink():
            beside.symlink_to(source.readlink())
        else:
            with source.open("rb") as original, beside.open("xb") as copy:
                shutil.copyfileobj(original, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
                if sha256_of(beside) != sha256_of(source):
                    raise OSError(errno.EIO, "the copy differs from the original", str(target))
        with suppress(OSError):  # a memory card knows no owners and few permissions
            shutil.copystat(source, beside, follow_symlinks=False)
            if hasattr(os, "chown"):
                owner = source.lstat()
                os.chown(beside, owner.st_uid, owner.st_gid, follow_symlinks=False)
        beside.replace(target)
        _sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder written down, where the system can be asked to."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def to_json(value: Any, *, indent: int = 2) -> bytes:
    """UTF-8 JSON of plain data or dataclasses; ends with a newline. With `indent` 0 it is one line.

    Names that are no UTF-8 are escaped (see `toolchain.system.text`), and `from_json` reads them back.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or _ESCAPE in encoded:
        encoded = msgspec.json.encode(text.apply(text.escaped, msgspec.to_builtins(value, str_keys=True)))
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"


def from_json(data: bytes | str, type: type[Value]) -> Value:
    """Read what `to_json` wrote. Raises msgspec.DecodeError for what is no JSON, or not of `type`."""
    encoded = data.encode() if isinstance(data, str) else data
    if _ESCAPE not in encoded:
        return strict.decode(encoded, type)
    with strict.one_error():
        return strict.convert(text.apply(text.unescaped, msgspec.json.decode(encoded)), type, str_keys=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


@contextmanager
def encodable(path: Path) -> Iterator[Path]:
    """`path` of a file, or another path of the same for libraries that take none but UTF-8 (OpenCV crashes)."""
    if text.is_encodable(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="edgetl-") as folder:
        other = Path(folder) / f"file{text.escaped(path.suffix)}"
        other.symlink_to(path.absolute())
        yield other


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
