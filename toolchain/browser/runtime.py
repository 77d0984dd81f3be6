"""The files of onnxruntime-web, which runs the network in a browser: found where they are, or fetched once by npm.

npm asks the registry that it is set up for, with its proxy, certificates and login. What it brings is checked
against the hash of the pinned version, whatever registry that was.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from toolchain.errors import BadInputError, MissingError
from toolchain.system import files
from toolchain.system.folders import cache_folder
from toolchain.system.progress import Reporter

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""The registry's hash of the archive of that version, as lock files of npm have it."""

MEMBERS = {"ort.js": "dist/ort.wasm.bundle.min.mjs", "ort.wasm": "dist/ort-wasm-simd-threaded.wasm"}
"""What a page needs of the package, by its name there: many servers do not know what a `.mjs` is."""

MAX_BYTES = 128 << 20
"""Of the archive, and of a file in a folder."""
MAX_UNPACKED_BYTES = 1 << 30
MAX_MEMBERS = 10_000
FETCH_LIMIT_S = 900.0

OTHERWISE = (
    f"Or get the npm package {PACKAGE}@{VERSION} elsewhere (`npm pack`, `npm install`), and name its archive or "
    "folder: --runtime FILE|DIR"
)


@dataclass(frozen=True)
class WebRuntime:
    """onnxruntime-web: its version, and the content of the files that a page needs, by their names there."""

    version: str
    files: dict[str, bytes]


def find_runtime(given: Path | None, reporter: Reporter) -> WebRuntime:
    """Read onnxruntime-web from `given`, its folder or its archive; without that from the cache, where npm puts it.

    Raises BadInputError where `given` holds something else, MissingError where npm is not there or brings nothing.
    """
    if given is None:
        return _from_archive(fetched(reporter))
    if given.is_dir():
        return _from_folder(given)
    try:
        data = files.read_regular(given, MAX_BYTES)
    except OSError as error:
        raise BadInputError(f"--runtime {given}: {error.strerror or error}", OTHERWISE) from None
    return _from_archive(data, given)


def cached() -> Path:
    """Where the archive of the pinned version is kept, once it was fetched."""
    return cache_folder() / PACKAGE / f"{PACKAGE}-{VERSION}.tgz"


def outlook() -> str:
    """Whether pages can be written on this machine without --runtime, in a line for `edgetl doctor`."""
    if cached().is_file():
        return f"{PACKAGE} {VERSION} is here, for export --browser"
    if shutil.which("npm"):
        return f"npm will fetch {PACKAGE} {VERSION} for the first export --browser"
    return f"no npm to fetch {PACKAGE} with: export --browser needs --runtime"


def fetched(reporter: Reporter) -> bytes:
    """The archive of the pinned version, from the cache or by npm. Raises MissingError where it cannot be had."""
    try:
        data = files.read_regular(cached(), MAX_BYTES)
        if _is_right(data):
            return data
    except OSError:
        pass  # it was never fetched
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(
            f"{PACKAGE} is not there yet, and there is no npm to fetch it",
            f"Install npm, which comes with Node.js. {OTHERWISE}",
        )
    with TemporaryDirectory(prefix="edgetl-") as name, reporter.task(f"fetching {PACKAGE} {VERSION}", 1) as task:
        _pack(npm, Path(name))
        data = files.read_regular(next(Path(name).glob("*.tgz")), MAX_BYTES)
        task.advance()
    if not _is_right(data):
        raise BadInputError(
            f"what npm brought is not {PACKAGE} {VERSION}: its hash is wrong",
            f"Look which registry npm asks: npm config get registry. {OTHERWISE}",
        )
    files.write_bytes(cached(), data)
    return data


def _pack(npm: str, folder: Path) -> None:
    words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(folder), "--ignore-scripts"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=FETCH_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise MissingError(f"npm has not brought {PACKAGE} in {FETCH_LIMIT_S:.0f} s", OTHERWISE) from None
    if done.returncode or not list(folder.glob("*.tgz")):
        raise MissingError(f"npm cannot fetch {PACKAGE}@{VERSION}{_reason(done.stderr)}", OTHERWISE)


def _reason(said: str) -> str:
    """The first line in which npm tells a person what is wrong: behind its codes."""
    lines = [line.partition(" ")[2].partition(" ")[2] for line in said.splitlines() if line.startswith("npm e")]
    told = [line for line in lines if line and not line.startswith(("code ", "errno ", "syscall "))]
    return f": {told[0]}" if told else ""


def _is_right(data: bytes) -> bool:
    kind, _, expected = INTEGRITY.partition("-")
    return hashlib.new(kind, data).digest() == base64.b64decode(expected)


def _from_folder(folder: Path) -> WebRuntime:
    """The package as npm unpacks it: the folder itself, `package` in it, or a project's `node_modules`."""
    for root in (folder, folder / "package", folder / "node_modules" / PACKAGE, folder / PACKAGE):
        if (root / MEMBERS["ort.wasm"]).is_file():
            break
    else:
        raise _no_package(folder)
    try:
        found = {name: files.read_regular(root / member, MAX_BYTES) for name, member in MEMBERS.items()}
        return WebRuntime(_version(files.read_regular(root / "package.json", MAX_BYTES), folder), found)
    except OSError as error:
        raise BadInputError(f"--runtime {folder}: {error}", OTHERWISE) from None


def _from_archive(data: bytes, path: Path | None = None) -> WebRuntime:
    path = path or cached()
    wanted = {f"package/{member}": name for name, member in MEMBERS.items()} | {"package/package.json": ""}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|gz") as archive:
            size = 0
            for number, member in enumerate(archive):
                size += member.size
                if number > MAX_MEMBERS or size > MAX_UNPACKED_BYTES or len(found) == len(wanted):
                    break
                if member.name in wanted and (file := archive.extractfile(member)):
                    found[wanted[member.name]] = file.read()
    except (tarfile.TarError, EOFError, OSError, ValueError):
        raise _no_package(path) from None
    if len(found) < len(wanted):
        raise _no_package(path)
    return WebRuntime(_version(found.pop(""), path), found)


def _version(package: bytes, path: Path) -> str:
    try:
        described = json.loads(package)
        if described["name"] == PACKAGE:
            return str(described["version"])
    except (ValueError, KeyError, TypeError):
        pass
    raise _no_package(path)


def _no_package(path: Path) -> BadInputError:
    return BadInputError(f"{path} does not hold the npm package {PACKAGE}", OTHERWISE)
