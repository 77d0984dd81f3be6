"""Unpacking archives from the network, whose author may mean harm.

Only plain files and folders are written, only below the given folder, and only up to a limit. A link, a device, a
path that leads elsewhere or a file that is there twice makes the whole archive unacceptable.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from toolchain.errors import BadInputError

MAX_BYTES = 8 << 30
MAX_FILES = 200_000
MAX_NAME = 200
"""Characters of a member's name that an error line shows."""

MAX_LEVELS = 64
"""Folders above a file."""

MAX_HEADER_BYTES = 1 << 20
"""What may stand in a tar before a member's content: tarfile reads it into memory, whatever size it claims."""

MAX_DIRECTORY_BYTES = 48 << 20
"""What the list of a zip's files may take: zipfile reads it into memory, and makes seven times as much of it."""

_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""By the first bytes of what they read."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Member:
    name: str
    content: IO[bytes] | None
    """None for a folder."""


def unpack(archive: Path, into: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> int:
    """Unpack a tar (plain, gz, bz2, xz) or zip file below the folder `into`; return the number of files.

    Hidden files of macOS are skipped. Raises BadInputError when the archive is damaged or unacceptable; what was
    written until then is the caller's to remove.
    """
    count, written, left = 0, 0, max_bytes
    try:
        members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
        for member in members(archive):
            target = into.joinpath(*_parts(archive, member.name))
            count += 1
            if count > max_files:
                raise BadInputError(f"{archive.name} holds more than {max_files} files and folders")
            if member.content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            if target == into:
                raise BadInputError(f"{archive.name} holds a file without a name")
            if target.name.startswith("._") or "__MACOSX" in target.parts:
                continue
            written += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                while chunk := member.content.read(_CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise BadInputError(f"{archive.name} unpacks to more than {max_bytes / 1e9:.1f} GB")
                    file.write(chunk)
    except _HeaderError as error:
        raise BadInputError(f"{archive.name} {error}") from None
    except (FileExistsError, NotADirectoryError):
        raise BadInputError(f"{archive.name} holds {_short(member.name)} twice") from None
    except NotImplementedError:
        raise BadInputError(f"{archive.name} is compressed in a way that Python does not know") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{archive.name} is damaged: a name in it is not UTF-8", "Download it again.") from None
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise BadInputError(f"{archive.name} is damaged: {error}", "Download it again.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadInputError(f"{archive.name} holds {_short(member.name)}, which is too long a name") from None
        # The first is a place before the beginning of the file; the bz2 module gives no number.
        if error.errno in (errno.EINVAL, None):
            raise BadInputError(f"{archive.name} is damaged", "Download it again.") from None
        raise
    return written


def _short(name: str) -> str:
    """A member's name for an error line."""
    return repr(name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…")


class _HeaderError(Exception):
    """More than `MAX_HEADER_BYTES` before a member's content, or a list of more than `MAX_DIRECTORY_BYTES`."""


class BoundedReads:
    """The file that zipfile reads. It gives no more at once than a list of files may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= MAX_DIRECTORY_BYTES else MAX_DIRECTORY_BYTES + 1)
        if len(data) > MAX_DIRECTORY_BYTES:
            raise _HeaderError(f"holds a list of files of more than {MAX_DIRECTORY_BYTES / 1e6:.0f} MB")
        return data


class _Metered:
    """The stream that tarfile reads. It gives no more than what was announced: a header, or a member's content."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_HEADER_BYTES
        self.seek, self.tell = stream.seek, stream.tell

    def at_header(self) -> None:
        self._left = MAX_HEADER_BYTES

    def at_content(self, size: int) -> None:
        self._left = size + tarfile.BLOCKSIZE

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._left:
            raise _HeaderError(f"holds a header of more than {MAX_HEADER_BYTES / 1e6:.0f} MB")
        data = self._stream.read(size)
        self._left -= len(data)
        return data


def _tar_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        decompress = next((opened for start, opened in _DECOMPRESSORS.items() if head.startswith(start)), None)
        with closing(decompress(file) if decompress else file) as stream:
            metered = _Metered(stream)
            try:
                tar = tarfile.open(fileobj=metered, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115 - what is open is the stream
            except tarfile.ReadError:
                message = f"{archive.name} is neither a tar nor a zip file"
                raise BadInputError(message, "Download it again.") from None
            for info in tar:
                if info.isdir():
                    yield _Member(info.name, None)
                elif info.isreg() and not info.issparse():
                    metered.at_content(info.size)
                    yield _Member(info.name, tar.extractfile(info))
                else:
                    raise BadInputError(
                        f"{archive.name} holds {_short(info.name)}, which is neither a file nor a folder"
                    )
                metered.at_header()
            # The checksum of a compressed tar stands at its very end, after padding that tarfile does not read.
            if len(stream.read(_CHUNK)) == _CHUNK:
                raise tarfile.ReadError("something follows its end")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as file, zipfile.ZipFile(BoundedReads(file)) as package:
        for info in package.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadInputError(
                    f"{archive.name} holds {_short(info.filename)}, which is neither a file nor a folder"
                )
            if info.flag_bits & 1:
                raise BadInputError(f"{archive.name} is encrypted")
            if info.filename.endswith("/"):  # `is_dir` of older versions of Python fails without a name
                yield _Member(info.filename, None)
            else:
                with package.open(info) as content:
                    yield _Member(info.filename, content)


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if len(path.parts) > MAX_LEVELS:
        raise BadInputError(f"{archive.name} holds {_short(name)}, which lies below more than {MAX_LEVELS} folders")
    if path.is_absolute() or ".." in path.parts or any(sign in name for sign in "\\:\0"):
        raise BadInputError(f"{archive.name} holds {_short(name)}, which leads out of its folder")
    return path.parts
