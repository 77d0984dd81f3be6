"""Archives that `data fetch` gets from a publisher and must not trust."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bad_inputs.entry import Entry, Stock
from tests.bad_inputs.serving import Answer, http, says, says_and_waits, says_without_end, serving
from toolchain.datasets import cats_vs_dogs
from toolchain.datasets import fetch as fetching
from toolchain.datasets.cats_vs_dogs import CATS_VS_DOGS
from toolchain.datasets.named import Download
from toolchain.datasets.unpack import unpack

MAX_BYTES, MAX_FILES = 1 << 20, 50
FETCH = ("data", "fetch", "cats-vs-dogs")
PARTS = "data/.edgetl-downloads"
KEPT = (PARTS, f"{PARTS}/archive*.part", f"{PARTS}/archive*.part.json")
"""An interrupted download goes on where it stopped."""

Member = tuple[str, bytes | tarfile.TarInfo]


Around = Callable[[Stock, Path], AbstractContextManager[Mapping[str, str]]]


def _around(answer: Answer, name: str, size: int = 1000) -> Around:
    """The publisher is a server on this machine, nothing waits between attempts, and little may be unpacked."""

    @contextmanager
    def around(stock: Stock, place: Path) -> Iterator[Mapping[str, str]]:
        with serving(answer) as server, pytest.MonkeyPatch.context() as patch:
            entry = replace(CATS_VS_DOGS, downloads=(Download(f"http://{server}/{name}", size, ""),))
            patch.setattr(cats_vs_dogs, "CATS_VS_DOGS", entry)
            patch.setitem(fetching.fetch.__kwdefaults__, "pause", lambda seconds: None)
            patch.setitem(unpack.__kwdefaults__, "max_bytes", MAX_BYTES)
            patch.setitem(unpack.__kwdefaults__, "max_files", MAX_FILES)
            yield {}

    return around


def _info(name: str, kind: bytes, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def tar(*members: Member, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as package:  # type: ignore[call-overload]
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as package:
        for name, content in members:
            package.writestr(name, content)
    return buffer.getvalue()


def _zip_of_kind(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def _encrypted() -> bytes:
    data = bytearray(zipped(("PetImages/Cat/1.jpg", b"1")))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def _method(number: int) -> bytes:
    data = bytearray(zipped(("PetImages/Cat/1.jpg", b"1" * 100)))
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = data.index(signature) + offset
        data[at : at + 2] = struct.pack("<H", number)
    return bytes(data)


def _claims(size: int) -> bytes:
    """A zip whose only file claims `size` bytes."""
    data = bytearray(zipped(("PetImages/Cat/1.jpg", b"1" * 100)))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def _tar_with_header(change: Callable[[bytearray], None]) -> bytes:
    """A plain tar whose first header is changed and signed again."""
    data = bytearray(tar(("PetImages/Cat/1.jpg", b"1" * 600), mode="w"))
    change(data)
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


def _size_field(text: bytes) -> bytes:
    def change(data: bytearray) -> None:
        data[124:136] = text.ljust(12, b"\0")

    return _tar_with_header(change)


def _name_field(name: bytes) -> bytes:
    def change(data: bytearray) -> None:
        data[0:100] = name.ljust(100, b"\0")

    return _tar_with_header(change)


def _header_of(kind: bytes, size: int) -> bytes:
    """A compressed tar that begins with a header of `size` bytes."""
    info = tarfile.TarInfo("././@Header")
    info.type, info.size = kind, size
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(size) + tar(GOOD, mode="w"))


def _damaged_within(compression: int) -> bytes:
    """A zip whose only file does not unpack."""
    data = bytearray(zipped(("1.jpg", bytes(range(256)) * 40), compression=compression))
    data[41:65] = b"\xff" * 24
    return bytes(data)


def _zip_of_an_empty_name() -> bytes:
    """The letter of the name becomes a byte of the extra field."""
    data = bytearray(zipped(("x", b"1")))
    for signature, offset in ((b"PK\3\4", 26), (b"PK\1\2", 28)):
        at = data.index(signature) + offset
        data[at : at + 4] = b"\0\0\1\0"
    return bytes(data)


DEEP = "a/" * 2000 + "1.jpg"
NOISE = np.random.default_rng(5).bytes(20_000)
GOOD = ("PetImages/Cat/1.jpg", b"1")
ARCHIVES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("archive.zip", lambda: b""),
    "noise": ("archive.zip", lambda: NOISE),
    "html": ("archive.zip", lambda: b"<html>Too many downloads</html>"),
    "zip-of-nothing": ("archive.zip", zipped),
    "zip-cut-at-0.5": ("archive.zip", lambda: zipped(("PetImages/Cat/1.jpg", NOISE))[:10_000]),
    "zip-without-its-end": ("archive.zip", lambda: zipped(("PetImages/Cat/1.jpg", NOISE))[:-10]),
    "zip-without-its-beginning": ("archive.zip", lambda: zipped(("PetImages/Cat/1.jpg", NOISE))[5000:]),
    "zip-changed": ("archive.zip", lambda: _patched(zipped(("a", b"hello"), compression=0), b"hello", b"hallo")),
    "zip-encrypted": ("archive.zip", _encrypted),
    "zip-of-unknown-method": ("archive.zip", lambda: _method(77)),
    "zip-of-implode": ("archive.zip", lambda: _method(6)),
    "zip-that-claims-little": ("archive.zip", lambda: _claims(1)),
    "zip-that-claims-4-gigabytes": ("archive.zip", lambda: _claims(2**32 - 2)),
    "zip-of-other-folders": ("archive.zip", lambda: zipped(("Animals/1.jpg", b"1"))),
    "zip-that-leads-up": ("archive.zip", lambda: zipped(GOOD, ("../escape.jpg", b"x"))),
    "zip-that-leads-up-later": ("archive.zip", lambda: zipped(("a/../../escape.jpg", b"x"))),
    "zip-absolute": ("archive.zip", lambda: zipped(("/tmp/escape.jpg", b"x"))),
    "zip-of-windows-paths": ("archive.zip", lambda: zipped(("..\\escape.jpg", b"x"))),
    "zip-of-a-drive": ("archive.zip", lambda: zipped(("C:/escape.jpg", b"x"))),
    "zip-of-a-link": ("archive.zip", lambda: zipped((_zip_of_kind("PetImages", 0o120777), b"/etc"))),
    "zip-of-a-device": ("archive.zip", lambda: zipped((_zip_of_kind("PetImages/null", 0o020666), b""))),
    "zip-of-a-pipe": ("archive.zip", lambda: zipped((_zip_of_kind("PetImages/pipe", 0o010666), b""))),
    "zip-of-no-name": ("archive.zip", lambda: _patched(zipped(("x", b"1")), b"x", b".")),
    "zip-name-of-300-letters": ("archive.zip", lambda: zipped(("a" * 300 + ".jpg", b"1"))),
    "zip-of-an-empty-name": ("archive.zip", _zip_of_an_empty_name),
    "zip-of-bad-bz2": ("archive.zip", lambda: _damaged_within(zipfile.ZIP_BZIP2)),
    "zip-of-bad-lzma": ("archive.zip", lambda: _damaged_within(zipfile.ZIP_LZMA)),
    "zip-of-bad-deflate": ("archive.zip", lambda: _damaged_within(zipfile.ZIP_DEFLATED)),
    "zip-of-2000-levels": ("archive.zip", lambda: zipped((DEEP, b"1"))),
    "tar-of-2000-levels": ("archive.tar.gz", lambda: tar((DEEP, b"1"))),
    "tar-folder-of-2000-levels": ("archive.tar.gz", lambda: tar(_info("a/" * 2000, tarfile.DIRTYPE))),
    "tar-of-an-empty-name": ("archive.tar.gz", lambda: tar(("", b"1"))),
    "tar-with-a-pax-header-of-80-mb": ("archive.tar.gz", lambda: _header_of(tarfile.XHDTYPE, 80 << 20)),
    "tar-with-a-name-of-80-mb": ("archive.tar.gz", lambda: _header_of(tarfile.GNUTYPE_LONGNAME, 80 << 20)),
    "tar-of-a-sparse-file": ("archive.tar", lambda: tar(_info("a.jpg", tarfile.GNUTYPE_SPARSE), mode="w")),
    "zip-path-of-5000-folders": ("archive.zip", lambda: zipped(("a/" * 5000 + "1.jpg", b"1"))),
    "zip-name-with-a-null": ("archive.zip", lambda: _patched(zipped(("aXb.jpg", b"1")), b"aXb", b"a\0b")),
    "zip-name-with-control-characters": ("archive.zip", lambda: zipped(("../\x1b[2J\x07.jpg", b"1"))),
    "zip-name-not-utf-8": ("archive.zip", lambda: _patched(zipped(("é.jpg", b"1")), "é".encode(), b"\xff\xfe")),
    "zip-file-below-a-file": ("archive.zip", lambda: zipped(("a", b"1"), ("a/b", b"2"))),
    "zip-folder-after-a-file": ("archive.zip", lambda: zipped(("a", b"1"), ("a/", b""))),
    "zip-bomb": ("archive.zip", lambda: zipped(*((f"{n}.jpg", bytes(500_000)) for n in range(9)))),
    "zip-bomb-of-one-file": ("archive.zip", lambda: zipped(("PetImages/Cat/1.jpg", bytes(5_000_000)))),
    "zip-of-too-many-files": ("archive.zip", lambda: zipped(*((f"{n}.jpg", b"1") for n in range(99)))),
    "tar-bomb": ("archive.tar.gz", lambda: tar(("PetImages/Cat/1.jpg", bytes(5_000_000)))),
    "tar-bomb-in-xz": ("archive.tar.xz", lambda: tar(("1.jpg", bytes(5_000_000)), mode="w:xz")),
    "tar-of-too-many-files": ("archive.tar.gz", lambda: tar(*((f"{n}.jpg", b"1") for n in range(99)))),
    "tar-cut-at-0.5": ("archive.tar.gz", lambda: tar(("a", NOISE))[:10_000]),
    "tar-without-its-checksum": ("archive.tar.gz", lambda: tar(("a", NOISE))[:-6]),
    "tar-with-a-wrong-checksum": ("archive.tar.gz", lambda: tar(("a", NOISE))[:-8] + bytes(8)),
    "gzip-of-no-tar": ("archive.tar.gz", lambda: gzip.compress(b"no tar")),
    "gzip-header-alone": ("archive.tar.gz", lambda: b"\x1f\x8b\x08\0"),
    "xz-of-noise": ("archive.tar.xz", lambda: b"\xfd7zXZ\0" + NOISE),
    "bz2-of-noise": ("archive.tar.bz2", lambda: b"BZh9" + NOISE),
    "rar": ("archive.zip", lambda: b"Rar!\x1a\x07\1\0" + NOISE),
    "tar-that-leads-up": ("archive.tar.gz", lambda: tar(GOOD, ("../escape.jpg", b"x"))),
    "tar-absolute": ("archive.tar.gz", lambda: tar(("/tmp/escape.jpg", b"x"))),
    "tar-of-a-link": ("archive.tar.gz", lambda: tar(_info("PetImages", tarfile.SYMTYPE, "/etc"))),
    "tar-through-a-link": (
        "archive.tar.gz",
        lambda: tar(_info("PetImages", tarfile.SYMTYPE, "../../.."), ("PetImages/x", b"x")),
    ),
    "tar-of-a-hard-link": ("archive.tar.gz", lambda: tar(_info("a.jpg", tarfile.LNKTYPE, "/etc/passwd"))),
    "tar-of-a-device": ("archive.tar.gz", lambda: tar(_info("a.jpg", tarfile.BLKTYPE))),
    "tar-of-a-pipe": ("archive.tar.gz", lambda: tar(_info("a.jpg", tarfile.FIFOTYPE))),
    "tar-of-an-unknown-kind": ("archive.tar.gz", lambda: tar(_info("a.jpg", b"Z"), ("a.jpg", b"1"))),
    "tar-twice-the-same": ("archive.tar.gz", lambda: tar(("a.jpg", b"1"), ("a.jpg", b"2"))),
    "tar-name-of-300-letters": ("archive.tar.gz", lambda: tar(("a" * 300 + ".jpg", b"1"))),
    "tar-name-not-utf-8": ("archive.tar", lambda: _name_field(b"PetImages/Cat/\xff\xfe.jpg")),
    "tar-name-with-control-characters": ("archive.tar.gz", lambda: tar(("../\x1b[2J\x07.jpg", b"1"))),
    "tar-size-negative": ("archive.tar", lambda: _size_field(b"\xff" * 12)),
    "tar-size-of-exabytes": ("archive.tar", lambda: _size_field(b"\x80\0\0\0\x7f" + b"\xff" * 7)),
    "tar-size-text": ("archive.tar", lambda: _size_field(b"many")),
}
RECEIVED = tuple(
    Entry(
        entry_id,
        (FETCH,),
        around=_around(lambda connection, ended, draw=draw: says(http(draw()))(connection, ended), name),
        says="archive",
        leaves=KEPT[:1],
    )
    for entry_id, (name, draw) in ARCHIVES.items()
)

ANSWERS: dict[str, Answer] = {
    "publisher-closes-at-once": says(),
    "publisher-says-404": says(http(b"", status="404 Not Found")),
    "publisher-says-500": says(http(b"", status="500 Internal Server Error")),
    "publisher-says-garbage": says(NOISE),
    "publisher-speaks-without-end": says_without_end(b"X: " + b"x" * 1000 + b"\r\n", head=b"HTTP/1.1 200 OK\r\n"),
    "publisher-sends-half": says(http(NOISE[:500], length=1000)),
    "publisher-sends-lengths-that-are-none": says(http(NOISE[:500], length="many")),
    "publisher-sends-negative-lengths": says(http(NOISE[:500], length=-1)),
    "publisher-sends-garbled-chunks": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nxx"),
    "publisher-leads-to-a-file": says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"),
    "publisher-leads-in-a-circle": says(
        b"HTTP/1.1 302 Found\r\nLocation: /archive.zip\r\nContent-Length: 0\r\n\r\n"
    ),
    "publisher-sends-another-range": says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 7-9/3\r\nContent-Length: 3\r\n\r\nabc"
    ),
    "publisher-sends-a-range-of-text": says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes a-b/c\r\nContent-Length: 3\r\n\r\nabc"
    ),
}
PUBLISHERS = tuple(
    Entry(name, (FETCH,), codes=(2, 3), around=_around(answer, "archive.zip"), says="archive", leaves=KEPT)
    for name, answer in ANSWERS.items()
)


def _there_already(stock: Stock, place: Path) -> None:
    mine = place.with_name("data") / CATS_VS_DOGS.folder
    mine.mkdir()
    (mine / "mine.txt").write_text("mine")


def _a_file_in_its_place(stock: Stock, place: Path) -> None:
    (place.with_name("data") / CATS_VS_DOGS.folder).write_text("mine")


def _damaged_part(stock: Stock, place: Path) -> None:
    parts = place.with_name("data") / fetching.DOWNLOADS
    parts.mkdir()
    (parts / "archive.zip.part").write_bytes(NOISE)
    (parts / "archive.zip.part.json").write_bytes(b"{")


WHOLE = says_and_waits(http(zipped(GOOD)))
OCCUPIED = (
    Entry("place-is-taken", (FETCH,), _there_already, around=_around(WHOLE, "archive.zip")),
    Entry("place-is-a-file", (FETCH,), _a_file_in_its_place, around=_around(WHOLE, "archive.zip")),
    Entry("disk-too-small", (FETCH,), codes=(3,), around=_around(WHOLE, "archive.zip", 10**18)),
    Entry("unknown-name", (("data", "fetch", "flowers"),), says="flowers"),
    Entry("name-is-a-path", (("data", "fetch", "../../etc"),), says="../../etc"),
)

ENTRIES = (*RECEIVED, *PUBLISHERS, *OCCUPIED)
