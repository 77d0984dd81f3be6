"""Without a home, and with a user id that has no name, everything goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from toolchain.system import claims
from toolchain.system.folders import scratch_folder

HOMELESS = """
import os, sys
for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME", "EDGETL_DATA", "EDGETL_CACHE"):
    os.environ.pop(name, None)
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""

FEW = "from toolchain.drawn import pets; pets.COUNTS = {'train': 5, 'val': 1, 'test': 1}"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="homes and user ids of POSIX")


def homeless(words: list[str], temporary: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{HOMELESS}\n{more}\nfrom toolchain.cli import run\nsys.exit(run({words!r}))"
    environment = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("words", [["data", "list"], ["data", "info", "~"]])
def test_a_user_without_a_home_has_a_folder_in_the_temporary_one(tmp_path: Path, words: list[str]) -> None:
    done = homeless(words, tmp_path)
    assert done.returncode == (2 if words[-1] == "~" else 0), done.stderr
    if words[-1] != "~":
        assert done.stderr.count("this user has no home") == 1
        assert f"{tmp_path}/edgetl-{os.getuid()}" in done.stderr


def test_pictures_are_drawn_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        done = homeless(["data", "info", "drawn-pets"], tmp_path, FEW)
        assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"edgetl-{os.getuid()}"]


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    trap = tmp_path / f"edgetl-{os.getuid()}"
    trap.mkdir()
    trap.chmod(0o777)
    done = homeless(["data", "info", "drawn-pets"], tmp_path, FEW)
    assert done.returncode == 0, done.stderr
    assert not list(trap.iterdir())


def test_the_decoded_photographs_have_a_place_too(tmp_path: Path) -> None:
    code = "from toolchain.images.cache import cache_folder\nprint(cache_folder())\n"
    done = homeless(["--version"], tmp_path, code)
    assert done.stdout.splitlines()[0] == str(tmp_path / f"edgetl-{os.getuid()}")


HOLDS = """
import sys
from toolchain.system.folders import scratch_folder
with scratch_folder("edgetl-held-") as folder:
    (folder / "large.bin").write_bytes(b"left")
    print(folder, flush=True)
    sys.stdin.read()
"""


def _holding(temporary: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_folder_stays_while_its_own_process_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("edgetl-first-") as first:
        (first / "model.onnx").write_bytes(b"1")
        with scratch_folder("edgetl-second-"):
            assert (first / "model.onnx").is_file()
        assert (first / "model.onnx").is_file()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    (tmp_path / "edgetl-mine").mkdir()  # not one of these: nobody has ever claimed it
    with _holding(tmp_path) as killed, _holding(tmp_path) as alive:
        assert killed.stdout
        assert alive.stdout
        left, used = (Path(one.stdout.readline().strip()) for one in (killed, alive))
        killed.kill()
        killed.wait()
        assert (left / "large.bin").is_file()
        with _holding(tmp_path) as third:
            assert third.stdout
            now = Path(third.stdout.readline().strip())
            assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "edgetl-mine", used, now])
            third.communicate()
        assert (used / "large.bin").is_file()
        alive.communicate()
    assert list(tmp_path.iterdir()) == [tmp_path / "edgetl-mine"]


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "being removed"])
def test_a_folder_that_another_process_takes_for_a_leftover_is_made_anew(
    is_removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    claimed, swept = claims.claimed, []

    @contextmanager
    def claimed_too_late(lock: Path, what: Path, doing: str, hint: str) -> Iterator[None]:
        if not swept:  # between making a folder and claiming it, another process sweeps
            swept.append(what)
            if not is_removed:
                raise claims.InUseError(f"{what} is in use", "")
            shutil.rmtree(what)
        with claimed(lock, what, doing, hint):
            yield

    monkeypatch.setattr(claims, "claimed", claimed_too_late)
    with scratch_folder("edgetl-mine-") as mine:
        assert list(tmp_path.iterdir()) == [mine]
        assert mine not in swept
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_at_the_end_is_swept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where another program has a file open."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with monkeypatch.context() as patched, scratch_folder("edgetl-mine-") as mine:
        (mine / "open.bin").touch()
        patched.setattr(shutil, "rmtree", lambda folder, ignore_errors: None)
    assert (mine / "open.bin").exists()
    with scratch_folder("edgetl-next-"):
        assert not mine.exists()


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / claims.LOCK_FILE).touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (temporary / "edgetl-link").symlink_to(kept)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with scratch_folder("edgetl-new-"):
        assert (kept / claims.LOCK_FILE).is_file()
