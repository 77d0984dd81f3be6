"""A model file as a page: it classifies what the camera of a phone or computer sees, in the browser."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import toolchain
from toolchain._version import __version__
from toolchain.artifact import Artifact, find_artifacts, read_artifact
from toolchain.artifact.card import Card
from toolchain.browser.runtime import PACKAGE, WebRuntime
from toolchain.errors import ArtifactError, BadInputError
from toolchain.system import claims, files

STATIC = Path(__file__).with_name("static")
PAGE_FILE = "page.json"
PAGE_SCHEMA = "edgetl.page/1"
WORKER_FILE = "sw.js"

_PACKAGE = Path(toolchain.__file__).parent
_CAMERA = _PACKAGE / "camera" / "sinks" / "web" / "static"
SOURCES = {
    **{
        name: STATIC / name
        for name in (
            "index.html", "app.js", "worker.js", "classify.js", "style.css", "icon-192.png", "icon-512.png",
            "runtime/LICENSE.txt",
        )
    },
    # The page of `edgetl camera --web` shows the same; found without importing it, which needs a web server.
    "answer.js": _CAMERA / "answer.js",
    "camera.css": _CAMERA / "style.css",
    "icon.svg": _CAMERA / "icon.svg",
    "page.css": _PACKAGE / "pages" / "page.css",
}  # fmt: skip
"""Files of a page that are the same for each, by their paths in its folder."""

WASM_DEVICE = "ort:cpu"
"""WebAssembly holds the kernels of ONNX Runtime for CPUs: what was proven there is taken."""
WHY_FLOAT = "the float file, since int8 computes more slowly in WebAssembly"


@dataclass(frozen=True)
class Page:
    """A page that was written: its folder, the model file that it holds, why that one, and what a visit loads."""

    folder: str
    file: str
    precision: str
    why: str
    runtime: str
    size_mb: float


def choose(path: Path) -> tuple[Artifact, str]:
    """The model file for a page, and why that one: `path` itself, or float before int8 of a folder.

    Raises ArtifactError where none can run in a browser.
    """
    refused = []
    for file in find_artifacts(path):
        taken = read_artifact(file)
        reason = _unfit(taken)
        if reason is None:
            break  # what lies beside it may be damaged
        refused.append(f"{file.name} {reason}")
    else:
        hint = "Name another file, such as model.onnx, which `edgetl export RUN` writes."
        raise ArtifactError(f"{path} has no file for a browser: {'; '.join(refused)}", hint)
    if not path.is_dir():
        return taken, "it was named"
    if taken.card.precision == "float32":
        return taken, WHY_FLOAT
    return taken, "there is no float file beside it"


def _unfit(artifact: Artifact) -> str | None:
    """Why a file cannot be that of a page, as the end of a sentence; None where it can."""
    if artifact.format != "onnx":
        return {"openvino": "is OpenVINO's", "tflite": "is LiteRT's"}[artifact.format]
    if artifact.card.input != "image":
        return "takes frames of any size, and pages resize them"
    if artifact.card.precision == "float16":
        return "is float16, which WebAssembly does not compute"
    if not artifact.card.proven_on(WASM_DEVICE):
        return f"is not proven on {WASM_DEVICE}, whose kernels browsers have"
    return None


def check_folder(folder: Path) -> None:
    """Raise BadInputError unless a page can be written into `folder`: a new or empty one, or that of a page."""
    hint = "Name a new folder: --browser DIR"
    is_new = not folder.exists() or (folder / PAGE_FILE).is_file()
    if not is_new and not (folder.is_dir() and all(one.name == claims.LOCK_FILE for one in folder.iterdir())):
        raise BadInputError(f"{folder} is there already and holds no page", hint)
    files.check_writable(folder, hint)


def write_page(artifact: Artifact, why: str, folder: Path, runtime: WebRuntime) -> Page:
    """Write a page that runs `artifact` with `runtime` into `folder`; an older page there is replaced.

    Raises BadInputError as `check_folder` does.
    """
    check_folder(folder)
    content = {name: source.read_bytes() for name, source in SOURCES.items()}
    content |= {f"runtime/{name}": data for name, data in runtime.files.items()}
    content |= {
        "model.onnx": artifact.model,
        "manifest.json": files.to_json(_manifest(artifact.card)),
        PAGE_FILE: files.to_json(_description(artifact, runtime)),
    }
    content[WORKER_FILE] = _service_worker(content)
    with claims.working_in(folder, "writing a page", "Wait until it has ended, or name another folder."):
        # The service worker comes last: those who look already are offered the others by it.
        for name, data in content.items():
            files.write_bytes(folder / name, data)
    return Page(
        folder=str(folder),
        file=str(artifact.path),
        precision=artifact.card.precision,
        why=why,
        runtime=f"{PACKAGE} {runtime.version}",
        size_mb=round(sum(map(len, content.values())) / 1e6, 3),
    )


def _description(artifact: Artifact, runtime: WebRuntime) -> dict[str, Any]:
    """What the page needs of the card, and a few words on what is running."""
    card = artifact.card
    return {
        "schema": PAGE_SCHEMA,
        "title": _title(card),
        "sha256": artifact.sha256,
        "labels": card.labels,
        "preprocess": msgspec.to_builtins(card.preprocess),
        "temperature": card.temperature,
        "reject": None if card.reject is None else msgspec.to_builtins(card.reject),
        "about": {
            "artifact": f"{artifact.path.name} ({card.precision})",
            "classes": str(len(card.labels)),
            "runtime": f"{PACKAGE} {runtime.version}",
            "edgetl": __version__,
        },
    }


def _manifest(card: Card) -> dict[str, Any]:
    """The web app manifest, by which phones and browsers install a page."""
    return {
        "name": _title(card),
        "short_name": _title(card),
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#14181e",
        "theme_color": "#1f6fb2",
        "icons": [
            {"src": f"icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": "any maskable"}
            for size in (192, 512)
        ],
    }


def _title(card: Card) -> str:
    return card.source.run or "edgetl"


def _service_worker(content: dict[str, bytes]) -> bytes:
    """`sw.js` with the names of all files, and a version that is another one whenever a file is."""
    digest = hashlib.sha256()
    for name, data in sorted(content.items()):
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(data).digest())
    names = ["./" if name == "index.html" else name for name in sorted(content)]
    text = (STATIC / WORKER_FILE).read_text(encoding="utf-8")
    return text.replace("{{version}}", digest.hexdigest()[:16]).replace("{{files}}", json.dumps(names)).encode()
