"""Files: written whole or not at all, moved safely, hashed, and read and written as JSON."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, BinaryIO, TypeVar

import msgspec

from toolchain.errors import BadInputError
from toolchain.system import strict, text

Value = TypeVar("Value")

MAX_JSON_BYTES = 64 << 20
"""Decoded, a document takes up to twenty times its size in memory."""

_ESCAPE = rb"\\u"
"""A backslash before a `u`, as JSON writes it. JSON without one contains nothing that `text.escaped` wrote."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. If the block succeeds, it is renamed to `path`; else it is removed.

    If the block raises an OSError that names no file (a full disk is noticed when writing, not when opening), the
    error gets the name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = fresh(path)
    # Not mkstemp, whose files only the owner can read: a result should be as readable as any new file. (The umask
    # cannot be read without changing it for all threads of the program.)
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
    """A hidden, unused path beside `path`, with the same suffix."""
    # A name may have 255 bytes, and a character up to four.
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}{path.suffix[:10]}")


def leftovers(path: Path) -> list[Path]:
    """What processes that were killed have left at paths of `fresh(path)`.

    Call it only while `path` is claimed (`toolchain.system.claims`), so that no other process is writing there.
    """
    name = re.compile(rf"\.{re.escape(path.name[:50])}\.[0-9a-f]{{12}}{re.escape(path.suffix[:10])}")
    return [one for one in path.parent.iterdir() if name.fullmatch(one.name)] if path.parent.is_dir() else []


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replaced(path) as beside:
        beside.write_bytes(data)


def settle(paths: Iterable[Path]) -> None:
    """Have files and their folders on the disk, also if the power fails from now on, as far as the system can."""
    folders: dict[Path, None] = {}
    for path in paths:
        with suppress(OSError), path.open("r+b") as file:
            os.fsync(file.fileno())
        folders |= dict.fromkeys((path.parent, path.parent.parent))
    for folder in folders:
        with suppress(OSError):
            _sync_folder(folder)


def move(source: Path, target: Path) -> None:
    """Move a file or link to a path that does not exist yet, if need be to another file system.

    In that case it is copied to a temporary name, compared and renamed, and only then removed from its old place.
    Times and permissions are kept. Raises OSError, and then `source` is still where it was.
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
        with suppress(OSError):  # a memory card has no owners and few permissions
            shutil.copystat(source, beside, follow_symlinks=False)
            if hasattr(os, "chown"):
                owner = source.lstat()
                os.chown(beside, owner.st_uid, owner.st_gid, follow_symlinks=False)
        beside.replace(target)
        _sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, if the system offers that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a file that may come from anywhere, of at most `limit` bytes.

    Raises OSError, with the reason as `strerror`: also for what is no file (reading a pipe may never end, nor a
    device), and for a larger one, before anything of it is read.
    """
    with _regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def check_regular(path: Path, limit: int) -> None:
    """Raise OSError where `read_regular` would, before a library is given the path to read."""
    _regular(path, limit).close()


def _regular(path: Path, limit: int | None) -> BinaryIO:
    # Opening a pipe waits for its other end, unless told not to. Then the same file is looked at that is read.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    found = os.fstat(handle)
    wrong = None
    if stat.S_ISDIR(found.st_mode):
        wrong = errno.EISDIR, "it is a folder, not a file"
    elif not stat.S_ISREG(found.st_mode):
        wrong = errno.EINVAL, "it is a pipe or a device, not a file"
    elif limit is not None and found.st_size > limit:
        wrong = errno.EFBIG, f"it has {_size(found.st_size)}, and at most {_size(limit)} are read"
    if wrong:
        os.close(handle)
        raise OSError(*wrong, str(path))
    return os.fdopen(handle, "rb")


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"


def check_writable(folder: Path, hint: str) -> None:
    """Raise BadInputError, with `hint`, where no file can be written into `folder`, which need not exist yet."""
    try:
        place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BadInputError(f"{folder} cannot be written: {error.strerror or error}", hint) from None


def to_json(value: Any, *, indent: int = 2) -> bytes:
    """UTF-8 JSON of plain data or dataclasses; ends with a newline. With `indent` 0 it is one line.

    Names that are not UTF-8 are escaped (see `toolchain.system.text`); `from_json` restores them. What would steer
    a terminal is written as JSON's `\\u` sequences.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or _ESCAPE in encoded:
        encoded = msgspec.json.encode(text.apply(text.escaped, msgspec.to_builtins(value, str_keys=True)))
    if not encoded.isascii() or b"\x7f" in encoded:
        encoded = text.harmless_json(encoded.decode()).encode()
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"


def from_json(data: bytes | str, type: type[Value]) -> Value:
    """Read what `to_json` wrote. Raises msgspec.DecodeError if it is not JSON, or not of `type`."""
    encoded = data.encode() if isinstance(data, str) else data
    if _ESCAPE not in encoded:
        return strict.decode(encoded, type)
    with strict.one_error():
        return strict.convert(text.apply(text.unescaped, msgspec.json.decode(encoded)), type, str_keys=True)


def read_json(path: Path, type: type[Value], limit: int = MAX_JSON_BYTES) -> Value:
    """Read a file that `write_json` wrote, or another program. Raises OSError as `read_regular` does, and
    msgspec.DecodeError as `from_json` does."""
    return from_json(read_regular(path, limit), type)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


@contextmanager
def encodable(path: Path) -> Iterator[Path]:
    """Yield `path`, or a link to it for libraries that need UTF-8 paths (OpenCV crashes without)."""
    if text.is_encodable(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="edgetl-") as folder:
        other = Path(folder) / f"file{text.escaped(path.suffix)}"
        other.symlink_to(path.absolute())
        yield other


def sha256_of(path: Path, limit: int | None = None) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits. Raises OSError as `read_regular` does."""
    digest = hashlib.sha256()
    with _regular(path, limit) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
