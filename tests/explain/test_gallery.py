"""The folder of pictures and its page."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browse, in_browser

from toolchain.errors import BadInputError
from toolchain.explain.attack.report import POINT_COLUMNS
from toolchain.explain.gallery import Animation, Page, Picture, Section, Table, new_folder, stems, write
from toolchain.images.preprocess import Image, read


def _noise(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)


def _page(**section: object) -> Page:
    return Page("Title", ["What was found."], [Section("Part", **section)], {"seed": 3})  # type: ignore[arg-type]


def test_the_pictures_are_written_losslessly_and_stand_in_the_page_too(tmp_path: Path) -> None:
    image = _noise()
    names = write(tmp_path, _page(pictures=[Picture("cat", image), Animation("film", b"GIF89a-bytes")]))
    assert names == ["cat.png", "film.gif", "index.html"]
    assert np.array_equal(read(tmp_path / "cat.png"), image)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="data:image/(\w+);base64,([^"]+)"', html)
    assert [kind for kind, _ in sources] == ["png", "gif"]
    assert base64.b64decode(sources[0][1]) == (tmp_path / "cat.png").read_bytes()
    assert base64.b64decode(sources[1][1]) == b"GIF89a-bytes"


def test_the_page_asks_nothing_of_the_network_and_escapes_what_classes_are_called(tmp_path: Path) -> None:
    wicked = '<script src="http://x">'
    table = Table(("class", "share"), [(wicked, "99.0\u00a0%")])
    write(tmp_path, _page(pictures=[Picture(wicked, _noise(), wicked, {wicked: wicked})], table=table))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert wicked not in html
    assert html.count("&lt;script src=") >= 4
    assert not re.search(r"(src|href)=[\"'](?!data:)", html)
    assert "default-src 'none'" in html
    assert 'data-value="99.0"' in html, "columns of shares can be sorted"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Siamese", "siamese"], ["Siamese", "siamese-2"]),
        (["a/b", "a b", "a_b"], ["a_b", "a_b-2", "a_b-3"]),
        (["../../etc", "", "..."], ["etc", "picture", "picture-2"]),
        (["Schäferhund", "x" * 300], ["Schäferhund", "x" * 80]),
    ],
)
def test_files_have_names_that_no_class_can_break(names: list[str], expected: list[str]) -> None:
    assert stems(names) == expected


def test_the_default_folder_is_a_new_one_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        with new_folder(None, "ideal") as (folder, target):
            assert not target.exists(), "nothing is there until all is"
            (folder / "a.txt").write_text("a")
        assert Path(f"explain/ideal-{number}/a.txt").read_text() == "a"
    assert sorted(path.name for path in Path("explain").iterdir()) == ["ideal-1", "ideal-2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_what_was_interrupted(tmp_path: Path, error: type[BaseException]) -> None:
    def work() -> None:
        with new_folder(tmp_path / "new" / "deep", "ideal") as (folder, _):
            (folder / "half.png").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        work()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from toolchain.explain.gallery import new_folder

with new_folder(Path(sys.argv[1]) if sys.argv[1:] else None, "ideal") as (folder, _):
    (folder / "half.png").write_bytes(b"half")
    os._exit(9)
"""


@pytest.mark.parametrize("out", [None, "new", "empty", "."])
def test_what_a_killed_process_has_left_is_swept_by_the_next(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if out == "empty":
        Path(out).mkdir()
    words = [sys.executable, "-c", KILLED, *([out] if out else [])]
    assert subprocess.run(words, cwd=tmp_path, timeout=60).returncode == 9
    assert len(list(tmp_path.rglob("half.png"))) == 1
    with new_folder(Path(out) if out else None, "ideal") as (folder, _):
        (folder / "a").touch()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in left if not path.name.endswith("edgetl-lock")] == ["a"]


def test_what_was_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(BadInputError, match="there already"), new_folder(tmp_path, "ideal"):
        pass
    with pytest.raises(BadInputError, match="there already"), new_folder(tmp_path / "mine", "ideal"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty", "ideal") as (folder, _):
        (folder / "a").touch()
    assert (tmp_path / "empty" / "a").exists(), "an empty folder may be filled"


def test_an_empty_folder_that_is_a_link_to_another_disk_is_filled(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as disk:
        (tmp_path / "out").symlink_to(disk)

        def work() -> None:
            with new_folder(tmp_path / "out", "ideal") as (folder, _):
                (folder / "half").touch()
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011 - its own
            work()
        assert list(Path(disk).iterdir()) == []
        with new_folder(tmp_path / "out", "ideal") as (folder, _):
            (folder / "a").touch()
        assert [path.name for path in Path(disk).iterdir()] == ["a"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_default_folder_that_is_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path("explain").symlink_to(elsewhere)
    with pytest.raises(BadInputError, match="explain is a link"), new_folder(None, "why"):
        pass
    assert list(elsewhere.iterdir()) == []
    Path("explain").unlink()
    Path("explain").mkdir()
    Path("explain", "why-1").symlink_to(tmp_path / "gone")
    with new_folder(None, "why") as (folder, target):
        (folder / "page").write_text("made")
    assert target == Path("explain", "why-2")
    assert not (tmp_path / "gone").exists()


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"), new_folder(tmp_path / "file" / "x", "ideal"):
        raise AssertionError("never reached")


def test_without_the_extra_report_the_pictures_are_written_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.explain.gallery.NEEDS", ("no_such_library",))
    assert write(tmp_path, _page(pictures=[Picture("cat", _noise())])) == ["cat.png"]
    assert cv2.imread(str(tmp_path / "cat.png")) is not None


def test_pictures_beside_the_page_are_written_and_not_shown(tmp_path: Path) -> None:
    page = Page("Title", ["What was found."], [Section("Part", pictures=[Picture("one", _noise())])], {},
                [Picture("sheet", _noise(1))])  # fmt: skip
    assert write(tmp_path, page) == ["one.png", "sheet.png", "index.html"]
    assert np.array_equal(read(tmp_path / "sheet.png"), _noise(1))
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("<img") == 1


@in_browser
def test_no_column_is_hidden_on_a_screen_of_1280_pixels(tmp_path: Path) -> None:
    """The widest table that there is: networks under attack, at several budgets."""
    rows = [
        (f"a-run-with-a-name/{file} on {device}", "16", "1,000", "0.987", "1,000", "0.987", "0.987", "0.987")
        for file in ("model.onnx", "model.int8.openvino.onnx")
        for device in ("ort:cpu", "openvino:CPU")
    ]
    write(tmp_path, _page(table=Table(POINT_COLUMNS, rows)))
    script = """
    const wide = [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth);
    document.body.dataset.told = `${wide.length} of ${document.querySelectorAll(".scroll").length}`;
    """
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'data-told="0 of 1"' in browse(html, tmp_path, script, "--window-size=1280,900")


def test_names_stay_apart_with_what_stands_behind_them() -> None:
    long = "x" * 100
    names = stems(["cat", "cat-occlusion", "cat", long, long], ["-occlusion", "-grad-cam"])
    whole = [f"{stem}{end}" for stem in names for end in ("", "-occlusion", "-grad-cam")]
    assert len(set(whole)) == len(whole)
    assert max(map(len, whole)) == 80
    assert stems(whole) == whole, "they are not changed again where they are written"
