from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from datasets_support import Remembering, Server

from toolchain.datasets.download import ATTEMPTS, download
from toolchain.datasets.named import Download
from toolchain.errors import BadInputError, ExitCode, MissingError

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(800_000))


@pytest.fixture
def source(server: Server) -> Download:
    server.files["/images.tar.gz"] = CONTENT
    return Download(f"{server.url}/images.tar.gz", len(CONTENT), f"md5:{hashlib.md5(CONTENT).hexdigest()}")


@pytest.fixture
def waits() -> list[float]:
    return []


def get(source: Download, folder: Path, reporter: Remembering, waits: list[float]) -> bytes:
    path = download(source, folder, reporter, pause=waits.append, timeout_s=5)
    assert path == folder / "images.tar.gz"
    assert [left.name for left in folder.iterdir()] == ["images.tar.gz"]
    return path.read_bytes()


def test_a_whole_file(source: Download, tmp_path: Path, reporter: Remembering, waits: list[float]) -> None:
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert (waits, reporter.warned) == ([], [])
    assert reporter.steps == len(CONTENT) // 1_000_000


def test_dropped_connections_go_on_where_they_stopped(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.cut_after = [1_000_000, 700_000]
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert server.ranges_seen == [None, "bytes=1000000-", "bytes=1700000-"]
    assert len(reporter.warned) == 2
    assert reporter.steps == len(CONTENT) // 1_000_000


@pytest.mark.parametrize("name", ["images.tar.gz", "images.tar.gz.part"])
@pytest.mark.parametrize("has_digest", [True, False])
def test_a_file_that_somebody_else_put_there_is_not_used(
    source: Download, tmp_path: Path, reporter: Remembering, waits: list[float], name: str, has_digest: bool
) -> None:
    planted = bytes(len(CONTENT) if name.endswith(".gz") else 1_000_000)
    (tmp_path / name).write_bytes(planted)
    origin = {"url": source.url, "validator": "", "total": len(CONTENT)}
    (tmp_path / "images.tar.gz.part.json").write_text(json.dumps(origin))
    wanted = source if has_digest else replace(source, digest="")
    assert get(wanted, tmp_path, reporter, waits) == CONTENT


def test_a_link_in_the_place_of_a_part_is_not_written_through(
    source: Download, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    private = tmp_path / "private.txt"
    private.write_bytes(CONTENT[:100])
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "images.tar.gz.part").symlink_to(private)
    assert get(source, tmp_path / "downloads", reporter, waits) == CONTENT
    assert private.read_bytes() == CONTENT[:100]


def test_a_whole_file_of_an_earlier_time_is_checked_and_used(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    (tmp_path / "images.tar.gz").write_bytes(CONTENT)
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert server.ranges_seen == []


def test_an_interrupted_download_goes_on_next_time(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.cut_after = [2_000_000]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(source, tmp_path, reporter, pause=interrupt)
    assert (tmp_path / "images.tar.gz.part").stat().st_size == 2_000_000
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert server.ranges_seen == [None, "bytes=2000000-"]


def test_a_server_without_ranges(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.knows_ranges = False
    server.cut_after = [1_500_000]
    assert get(source, tmp_path, reporter, waits) == CONTENT


def test_a_file_that_has_changed_meanwhile_starts_anew(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.files["/images.tar.gz"], server.etag = b"older" * 400_000, '"zero"'
    server.cut_after = [1_000_000]
    with pytest.raises(ZeroDivisionError):
        download(source, tmp_path, reporter, pause=lambda seconds: 1 / 0)  # type: ignore[arg-type, return-value]
    server.files["/images.tar.gz"], server.etag = CONTENT, '"one"'
    assert get(source, tmp_path, reporter, waits) == CONTENT


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 9])
def test_a_part_that_is_already_whole_or_too_long(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float], length: int
) -> None:
    server.cut_after = [3_000_000]
    with pytest.raises(ZeroDivisionError):
        download(source, tmp_path, reporter, pause=lambda seconds: 1 / 0)  # type: ignore[arg-type, return-value]
    (tmp_path / "images.tar.gz.part").write_bytes((CONTENT + b"superfluous")[:length])
    assert get(source, tmp_path, reporter, waits) == CONTENT


def test_a_spoilt_part_is_thrown_away_once(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.cut_after = [1_000_000]
    with pytest.raises(ZeroDivisionError):
        download(source, tmp_path, reporter, pause=lambda seconds: 1 / 0)  # type: ignore[arg-type, return-value]
    (tmp_path / "images.tar.gz.part").write_bytes(bytes(1_000_000))
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert any("checksum is wrong" in warning for warning in reporter.warned)


def test_the_wrong_file_is_refused(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.files["/images.tar.gz"] = CONTENT[::-1]
    with pytest.raises(BadInputError, match="md5 checksum is wrong"):
        download(source, tmp_path, reporter, pause=waits.append)
    assert list(tmp_path.iterdir()) == []


def test_without_a_published_checksum_it_is_said(
    source: Download, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    unsigned = Download(source.url, source.size_bytes, "")
    assert get(unsigned, tmp_path, reporter, waits) == CONTENT
    assert "gives no checksum; its size is as expected" in reporter.said[0]


def test_a_busy_server_is_asked_again_with_longer_waits(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.status = [503, 429, 500]
    assert get(source, tmp_path, reporter, waits) == CONTENT
    assert waits == [1, 2, 4]


def test_giving_up(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.status = [503] * 50
    with pytest.raises(MissingError, match="answers 503"):
        download(source, tmp_path, reporter, pause=waits.append)
    assert len(server.ranges_seen) == ATTEMPTS


def test_not_found_is_final(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    server.files.clear()
    with pytest.raises(MissingError, match="answers 404"):
        download(source, tmp_path, reporter, pause=waits.append)
    assert waits == []


def test_no_network_keeps_what_has_arrived(
    source: Download, server: Server, tmp_path: Path, reporter: Remembering, waits: list[float]
) -> None:
    (tmp_path / "images.tar.gz.part").write_bytes(bytes(1_500_000))
    nobody = Download("http://127.0.0.1:9/images.tar.gz", 1, "md5:0")
    origin = {"url": nobody.url, "validator": "", "total": 2_000_000}
    (tmp_path / "images.tar.gz.part.json").write_text(json.dumps(origin))
    with pytest.raises(MissingError) as caught:
        download(nobody, tmp_path, reporter, pause=waits.append)
    assert caught.value.exit_code == ExitCode.MISSING
    assert "refused" in caught.value.message
    assert "continues from 1.5 MB" in caught.value.hint
    assert (tmp_path / "images.tar.gz.part").exists()
    assert waits == []
