from __future__ import annotations

import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from toolchain.datasets.unpack import unpack
from toolchain.errors import BadInputError


def make_tar(path: Path, *members: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, target: str = "") -> tuple[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members:
            package.writestr(name, content)
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "below" / "into"
    folder.mkdir(parents=True)
    return folder


def test_files_and_folders(tmp_path: Path, into: Path) -> None:
    tar = make_tar(
        tmp_path / "a.tar.gz", special("images", tarfile.DIRTYPE), ("images/a.jpg", b"a"), ("images/._a.jpg", b"")
    )
    package = make_zip(
        tmp_path / "b.zip", ("PetImages/Cat/1.jpg", b"1"), ("__MACOSX/x", b""), ("readme[1].txt", b"r")
    )
    assert unpack(tar, into) == 1
    assert unpack(package, into) == 2
    assert sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()) == [
        "PetImages/Cat/1.jpg",
        "images/a.jpg",
        "readme[1].txt",
    ]
    assert (into / "images/a.jpg").read_bytes() == b"a"


@pytest.mark.parametrize(
    "member",
    [
        ("../escape.txt", b"x"),
        ("/tmp/escape.txt", b"x"),
        ("a/../../escape.txt", b"x"),
        ("..\\escape.txt", b"x"),
        ("C:escape.txt", b"x"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "../../escape.txt"),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
)
def test_harmful_tar_members(tmp_path: Path, into: Path, member: tuple[str, bytes | tarfile.TarInfo]) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", member)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BadInputError, match=r"leads out|neither a file nor a folder"):
        unpack(archive, into)
    assert set(tmp_path.rglob("*")) == before


def test_a_link_cannot_be_followed_by_a_file_through_it(tmp_path: Path, into: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", special("out", tarfile.SYMTYPE, str(tmp_path)), ("out/escape.txt", b"x"))
    with pytest.raises(BadInputError, match="neither a file nor a folder"):
        unpack(archive, into)
    assert not (tmp_path / "escape.txt").exists()


def test_harmful_zip_members(tmp_path: Path, into: Path) -> None:
    with pytest.raises(BadInputError, match="leads out"):
        unpack(make_zip(tmp_path / "a.zip", ("../escape.txt", b"x")), into)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(BadInputError, match="neither a file nor a folder"):
        unpack(make_zip(tmp_path / "b.zip", (link, b"/etc/passwd")), into)
    assert list(into.iterdir()) == []


def test_limits(tmp_path: Path, into: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", ("zeros", bytes(5_000_000)))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(BadInputError, match="unpacks to more"):
        unpack(bomb, into, max_bytes=1_000_000)
    many = make_tar(tmp_path / "many.tar.gz", *((f"{number}", b"x") for number in range(5)))
    with pytest.raises(BadInputError, match="more than 4 files"):
        unpack(many, into, max_files=4)
    folders = tmp_path / "folders.tar"
    with tarfile.open(folders, "w") as package:
        for number in range(5):
            info = tarfile.TarInfo(f"folder-{number}")
            info.type = tarfile.DIRTYPE
            package.addfile(info)
    with pytest.raises(BadInputError, match="more than 4 files and folders"):
        unpack(folders, into, max_files=4)


def test_the_list_of_a_zip_is_not_read_into_memory_whatever_its_size(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.datasets.unpack.MAX_DIRECTORY_BYTES", 100_000)
    few, many = ([(f"{number}-{'a' * 100}", b"x") for number in range(count)] for count in (600, 800))
    assert unpack(make_zip(tmp_path / "few.zip", *few), into / "few") == 600
    with pytest.raises(BadInputError, match=r"many\.zip holds a list of files of more than"):
        unpack(make_zip(tmp_path / "many.zip", *many), into / "many")
    assert not (into / "many").exists()


def test_a_file_that_is_there_twice(tmp_path: Path, into: Path) -> None:
    with pytest.raises(BadInputError, match="'a' twice"):
        unpack(make_tar(tmp_path / "a.tar.gz", ("a", b"1"), ("a", b"2")), into)
    with pytest.raises(BadInputError, match="twice"):
        unpack(make_tar(tmp_path / "b.tar.gz", ("b", b"1"), ("b/c", b"2")), into)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_and_foreign_files(tmp_path: Path, into: Path, share: float) -> None:
    noise = bytes(number * number % 251 for number in range(20_000))
    for archive in (make_tar(tmp_path / "a.tar.gz", ("a", noise)), make_zip(tmp_path / "b.zip", ("b", noise))):
        data = archive.read_bytes()
        archive.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BadInputError, match=r"damaged|neither a tar nor a zip"):
            unpack(archive, into)


def test_changed_bytes_are_noticed(tmp_path: Path, into: Path) -> None:
    archive = tmp_path / "b.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as package:
        package.writestr("b", bytes(1000))
    data = bytearray(archive.read_bytes())
    data[500] ^= 1
    archive.write_bytes(data)
    with pytest.raises(BadInputError, match="damaged"):
        unpack(archive, into)


def test_a_header_is_not_read_into_memory(tmp_path: Path, into: Path) -> None:
    """Names of up to a megabyte are; files may be of any size."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 64 << 20
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(info.size), 1))
    tracemalloc.start()
    with pytest.raises(BadInputError, match=r"a\.tar\.gz holds a header of more than 1 MB"):
        unpack(path, into)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    large = make_tar(tmp_path / "b.tar.gz", ("./1.jpg", b"1"), ("a/" * 60 + "large.bin", bytes(3 << 20)))
    assert unpack(large, into) == 2


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_with_its_root_in_it(tmp_path: Path, into: Path, mode: str) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.jpg").write_bytes(b"a" * 3000)
    with tarfile.open(tmp_path / "a.tar", mode) as tar:  # type: ignore[call-overload]
        tar.add(tmp_path / "files", arcname=".")
    assert unpack(tmp_path / "a.tar", into) == 1
    assert (into / "a.jpg").read_bytes() == b"a" * 3000


def test_damage_in_the_middle_of_bz2(tmp_path: Path, into: Path) -> None:
    path = tmp_path / "a.tar.bz2"
    with tarfile.open(path, "w:bz2") as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = 1_000_000
            tar.addfile(info, io.BytesIO(random.Random(number).randbytes(info.size)))
    data = bytearray(path.read_bytes())
    data[2_000_000:2_000_100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(BadInputError, match=r"a\.tar\.bz2 is damaged"):
        unpack(path, into)
