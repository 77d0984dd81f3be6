"""onnxruntime-web: from a folder, from an archive, by npm, and what is said where it is not to be had."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from toolchain.browser import runtime
from toolchain.browser.runtime import MEMBERS, PACKAGE, VERSION, find_runtime, outlook
from toolchain.errors import BadInputError, EdgetlError, MissingError
from toolchain.system.progress import Silent

CONTENT = {"ort.js": b"export {}", "ort.wasm": b"\0asm"}


def described(name: str = PACKAGE, version: str = "1.2.3") -> bytes:
    return json.dumps({"name": name, "version": version}).encode()


def package(folder: Path, about: bytes | None = None) -> Path:
    for name, member in MEMBERS.items():
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(CONTENT[name])
    (folder / "package.json").write_bytes(described() if about is None else about)
    return folder


def archive(path: Path, *, whole: bool = True) -> Path:
    entries = {MEMBERS[name]: CONTENT[name] for name in MEMBERS} if whole else {}
    with tarfile.open(path, "w:gz") as made:
        for name, data in {"README.md": b"x", "package.json": described(), **entries}.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("below", ["", "package", f"node_modules/{PACKAGE}", PACKAGE])
def test_a_folder_as_npm_leaves_it(tmp_path: Path, below: str) -> None:
    package(tmp_path / below)
    assert find_runtime(tmp_path, Silent()) == runtime.WebRuntime("1.2.3", CONTENT)


def test_the_page_that_tells_how_names_the_version() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "browser.md"
    assert f"npm pack {PACKAGE}@{VERSION}" in page.read_text(encoding="utf-8")


def test_an_archive(tmp_path: Path) -> None:
    assert find_runtime(archive(tmp_path / "a.tgz"), Silent()) == runtime.WebRuntime("1.2.3", CONTENT)


@pytest.mark.parametrize(
    "kind", ["empty folder", "other package", "no JSON", "text", "cut off", "without wasm", "gone"]
)
def test_what_is_no_package_is_told_with_what_to_do(tmp_path: Path, kind: str) -> None:
    given = tmp_path / "given"
    match kind:
        case "empty folder":
            given.mkdir()
        case "other package":
            package(given, described("left-pad"))
        case "no JSON":
            package(given, b"{")
        case "text":
            given.write_text("hello", encoding="utf-8")
        case "cut off":
            data = archive(tmp_path / "a.tgz").read_bytes()
            given.write_bytes(data[: len(data) // 2])
        case "without wasm":
            archive(given, whole=False)
    with pytest.raises(BadInputError) as caught:
        find_runtime(given, Silent())
    assert str(given) in caught.value.message
    assert f"{PACKAGE}@{VERSION}" in caught.value.hint
    assert "--runtime" in caught.value.hint


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called npm that logs how it was called and packs what lies in `archive.tgz`; and an empty cache."""
    if sys.platform == "win32":
        pytest.skip("programs are scripts here")
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path / "cache")
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "npm"
    program.write_text(
        f"#!{sys.executable}\nimport shutil, sys\nfrom pathlib import Path\n"
        f"here = Path({str(folder)!r})\nwith (here / 'log').open('a') as log: print(*sys.argv[1:3], file=log)\n"
        "made = here / 'archive.tgz'\n"
        "if not made.exists():\n"
        "    print('npm error code ENOTFOUND\\nnpm error network request failed', file=sys.stderr)\n"
        "    sys.exit(1)\n"
        "shutil.copy(made, Path(sys.argv[sys.argv.index('--pack-destination') + 1]))\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_npm_is_asked_once_and_what_it_brings_is_checked(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(npm / "archive.tgz").read_bytes()
    with pytest.raises(BadInputError, match="its hash is wrong"):
        find_runtime(None, Silent())
    assert not runtime.cached().exists()
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    assert "npm will fetch" in outlook()
    for _ in range(2):
        assert find_runtime(None, Silent()).files == CONTENT
    assert "is here" in outlook()
    assert (npm / "log").read_text(encoding="utf-8").splitlines() == [f"pack {PACKAGE}@{VERSION}"] * 2
    runtime.cached().write_bytes(b"damaged since")
    assert find_runtime(None, Silent()).files == CONTENT


def test_what_npm_says_is_told(npm: Path) -> None:
    with pytest.raises(MissingError, match=r"npm cannot fetch .*: network request failed") as caught:
        find_runtime(None, Silent())
    assert "--runtime" in caught.value.hint


def test_without_npm_another_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no npm" in outlook()
    with pytest.raises(EdgetlError) as caught:
        find_runtime(None, Silent())
    assert caught.value.exit_code == 3
    assert "there is no npm" in caught.value.message
    assert "--runtime" in caught.value.hint
