"""No photograph vanishes: files on disk are those used and those left out by name, in every odd kind of folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from odd_folders import BASE, ODD, Odd, base, passed_over, put

from tests.conftest import Recorder
from toolchain.datasets.catalogue import list_data, open_dataset
from toolchain.datasets.check import check
from toolchain.datasets.naming import photographs_named
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess, can_decode
from toolchain.images.reader import Reader

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """The superuser may read everything; somebody else may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(autouse=True)
def without_heic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_decode.cache_clear()
    yield
    can_decode.cache_clear()


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest) -> Iterator[tuple[Odd, Path]]:
    """A drawn folder; looked at by somebody whom permissions bind."""
    kind = ODD[request.param]
    if sys.platform != "linux" and (kind.needs or "_links" in kind.build.__qualname__):
        pytest.skip("other systems know no such files, or forbid to make them")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        root, elsewhere = Path(place, "photos"), Path(place, "elsewhere")
        elsewhere.mkdir()
        base(root)
        kind.build(root, elsewhere)
        if kind.needs == "permissions":
            with as_nobody():
                yield kind, root
            for path in (root / "cat").iterdir():
                path.chmod(0o755)
        else:
            yield kind, root


def test_files_are_used_or_left_out_by_name(odd: tuple[Odd, Path]) -> None:
    from toolchain.training.photographs import readable
    from toolchain.training.settings import TrainSettings
    from toolchain.training.team import Team

    kind, root = odd
    said: set[str] = set()

    # data check
    listing = list_data(str(root), strict=False)
    findings = check(listing)
    names = [photo.name for photo in listing.photographs]
    assert findings.photographs == len(names) == BASE + kind.more
    assert not passed_over(root, names, [one.name for one in findings.left_out])
    assert all((root / photo.name) == photo.path for photo in listing.photographs)
    said |= {one.reason for one in findings.left_out} | {one.reason for one in findings.unreadable}

    # predict, on the folder
    named = photographs_named([str(root)])
    used = [path.relative_to(root).as_posix() for path in named.paths]
    left = [one.name.removeprefix(f"{root}/") for one in named.left_out]
    assert not passed_over(root, used, left)

    # data info
    if kind.problem:
        assert any(kind.problem in problem.message for problem in findings.problems)
        assert not findings.is_sound
        with pytest.raises(BadInputError, match=kind.problem):
            open_dataset(str(root))
        return
    assert not findings.problems
    dataset = open_dataset(str(root))
    used = [photo.name for photos in dataset.splits.values() for photo in photos]
    assert not passed_over(root, used, [one.name for one in dataset.left_out])
    said |= {one.reason for one in dataset.left_out}

    # finetune
    reporter = Recorder()
    settings = TrainSettings(data=str(root), weights="none", probe_only=True)
    decoded = Reader(Preprocess(height=32, width=32, shortest_edge=32), None, reporter)
    trained, _ = readable(dataset, settings, decoded, Team(), reporter)
    used = [photo.name for photos in trained.splits.values() for photo in photos]
    left = [one.name for one in trained.left_out]
    assert not passed_over(root, used, left)
    assert {bad.name for bad in findings.unreadable} <= set(left)

    for reason in kind.reasons:
        assert reason in said


def test_there_are_thirty_kinds() -> None:
    assert len(ODD) >= 30


def test_a_file_that_nobody_speaks_of_would_be_found(tmp_path: Path) -> None:
    """The tests above would fail."""
    put(tmp_path, {"cat/a.jpg": b"a", "cat/b.jpg": b"b", "cat/c.txt": b"c"})
    assert passed_over(tmp_path, ["cat/a.jpg", "cat/b.jpg"], ["cat/c.txt"]) == set()
    assert passed_over(tmp_path, ["cat/a.jpg"], ["cat/c.txt"]) == {"cat/b.jpg"}
    assert passed_over(tmp_path, ["cat/a.jpg", "cat/b.jpg"], ["cat/b.jpg", "cat/c.txt"]) == {"cat/b.jpg"}
    assert passed_over(tmp_path, ["cat/a.jpg", "cat/b.jpg", "dog/d.jpg"], ["cat/c.txt"]) == {"dog/d.jpg"}
