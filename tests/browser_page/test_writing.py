"""Which file a page takes, what is written, and what `edgetl export --browser` says."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from test_runtime import CONTENT, package

from tests.artifacts import tiny_artifact
from toolchain.artifact import read_artifact, write_artifact
from toolchain.browser import PAGE_FILE, choose, write_page
from toolchain.browser.runtime import WebRuntime
from toolchain.cli import run
from toolchain.errors import ArtifactError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.runs.ready_made import ready_made_artifact

RUNTIME = WebRuntime("1.2.3", CONTENT)


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_model_file_is_the_very_same_and_all_files_work_offline(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    page = write_page(artifact, "", tmp_path / "page", RUNTIME)
    found = written(tmp_path / "page")
    assert found["model.onnx"] == artifact.model
    described = json.loads(found[PAGE_FILE])
    assert described["sha256"] == hashlib.sha256(found["model.onnx"]).hexdigest()
    assert tuple(described["labels"]) == artifact.card.labels
    assert page.size_mb == round(sum(map(len, found.values())) / 1e6, 3)
    listed = re.search(r"const FILES = (\[.*\]);", found["sw.js"].decode())
    assert listed
    assert set(json.loads(listed[1])) | {"sw.js"} == {"./" if name == "index.html" else name for name in found}
    # Whatever the page asks for is there.
    place = re.compile(r"""(?:src=|href=|from |Worker\(|fetched\(|URL\(|"src": )["'](?:\./)?([\w./-]+)["']""")
    for name in ("index.html", "app.js", "worker.js", "manifest.json"):
        asked = place.findall(found[name].decode())
        assert asked
        assert set(asked) <= set(found), name


def test_nothing_names_another_address(tmp_path: Path) -> None:
    write_page(tiny_artifact(tmp_path / "model.onnx"), "", tmp_path / "page", RUNTIME)
    for name, data in written(tmp_path / "page").items():
        if not name.endswith((".png", ".onnx")):
            text = data.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
            assert not re.search(r"https?://|@import|url\(", text), name


def test_another_page_is_another_version(tmp_path: Path) -> None:
    def version() -> str:
        found = re.search('VERSION = "([0-9a-f]{16})"', (tmp_path / "page" / "sw.js").read_text(encoding="utf-8"))
        assert found
        return found[1]

    artifact = tiny_artifact(tmp_path / "model.onnx")
    versions = []
    for one in (artifact, artifact, replace(artifact, card=replace(artifact.card, temperature=2.0))):
        write_page(one, "", tmp_path / "page", RUNTIME)
        versions.append(version())
    assert versions[0] == versions[1] != versions[2]


def test_float_is_taken_before_int8_and_a_named_file_before_both(tmp_path: Path) -> None:
    int8 = shutil.copy(ready_made_artifact(), tmp_path / "model.int8.onnx")
    assert choose(tmp_path) == (read_artifact(Path(int8)), "there is no float file beside it")
    tiny_artifact(tmp_path / "model.onnx")
    taken, why = choose(tmp_path)
    assert taken.path.name == "model.onnx"
    assert "int8" in why
    assert choose(Path(int8))[0].path.name == "model.int8.onnx"
    Path(int8).write_bytes(b"cut off")
    assert choose(tmp_path)[0].path == taken.path, "what lies beside it may be damaged"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"precision": "int8", "runtimes": ("openvino:CPU",)}, "is not proven on ort:cpu"),
        ({"precision": "float16"}, "is float16"),
        ({"input": "frame"}, "takes frames of any size"),
    ],
)
def test_what_browsers_cannot_run_is_refused_by_name(tmp_path: Path, card: dict[str, Any], said: str) -> None:
    path = tmp_path / "model.int8.onnx"
    if "input" in card:
        plain = tiny_artifact(path)
        model = with_raw_frame(onnx.load_model_from_string(plain.model), plain.card.preprocess)
        write_artifact(model, replace(plain.card, **card), path)
    else:
        tiny_artifact(path, **card)
    for named in (path, tmp_path):
        with pytest.raises(ArtifactError, match=re.escape(f"model.int8.onnx {said}")):
            choose(named)


@pytest.mark.parametrize("word", ["{model}", "{folder}", "ready-made"])
def test_a_model_file_is_taken_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str], word: str) -> None:
    (tmp_path / "models").mkdir()
    tiny_artifact(tmp_path / "models" / "model.onnx")
    runtime = str(package(tmp_path / "package"))
    out = str(tmp_path / "a page")
    named = word.format(model=tmp_path / "models" / "model.onnx", folder=tmp_path / "models")
    for _ in range(2):  # the page that is there is replaced
        assert run(["export", named, "--browser", out, "--runtime", runtime]) == 0
    said = capfd.readouterr().out
    assert "a page with" in said
    assert "http.server" in said
    assert "https" in said
    assert run(["export", named, "--browser", out, "--runtime", runtime, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["runtime"] == "onnxruntime-web 1.2.3"
    assert run(["export", named, "--browser", out, "--runtime", runtime, "--target", "ort:cpu"]) == 2
    assert "--target does nothing with --browser of a model file" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{model} --browser {full} --runtime {package}", "is there already and holds no page"),
        ("{model} --browser {full}/letter.txt/page --runtime {package}", "cannot be written"),
        ("{model} --browser {page} --runtime {full}", "does not hold the npm package"),
        ("{model} --runtime {package}", "--runtime is for the page of --browser"),
        ("{model} --browser {page} --fp16 --runtime {package}", "is a model file"),
        ("{model} --browser {page} --litert --runtime {package}", "is a model file"),
        ("{full}/nosuch.onnx --browser {page} --runtime {package}", "does not exist"),
        ("{full} --browser {page} --runtime {package}", "is not a run folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    places = {name: tmp_path / name for name in ("full", "page", "package")} | {"model": tmp_path / "model.onnx"}
    package(tmp_path / "package")
    assert run(["export", *(word.format(**places) for word in words.split())]) == 2
    assert said in capfd.readouterr().err.splitlines()[0]
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
def test_a_run_is_exported_first(tmp_path: Path, exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(exported, tmp_path / "run")
    runtime = package(tmp_path / "package")
    words = ["export", str(folder), "--browser", str(tmp_path / "page"), "--runtime", str(runtime), "--json"]
    assert run(words) == 0
    done = json.loads(capfd.readouterr().out)
    assert done["page"]["file"] == done["float_file"]
    assert "int8" in done["page"]["why"]
    model = (tmp_path / "page" / "model.onnx").read_bytes()
    assert model == (folder / "model.onnx").read_bytes()
    assert read_artifact(folder / "model.onnx").card.accuracy
