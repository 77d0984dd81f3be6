"""The programs of docs/how-to/serve.md run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from artifacts import COLOURS, tiny_artifact

import toolchain

HERE = Path(toolchain.__file__).parent.parent
PROGRAMS = HERE / "docs" / "how-to" / "serve"
LIMIT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, and a photograph of each of its colours."""
    tiny_artifact(tmp_path / "model.onnx")
    for position, colour in enumerate(COLOURS):
        rgb = np.zeros((60, 80, 3), np.uint8)
        rgb[..., position] = 255
        cv2.imwrite(str(tmp_path / f"{colour}.png"), rgb[..., ::-1])
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(PROGRAMS), str(HERE), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"MODEL": str(folder / "model.onnx"), "PYTHONPATH": path} | more


def program(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def needs(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@contextmanager
def server(folder: Path, *words: str, **more: str) -> Iterator[str]:
    """Start a server on a free port, in place of `PORT` in its words, and end it; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(word.replace("PORT", str(port)) for word in words)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder, **more), stdout=log, stderr=log)
        try:
            until = time.monotonic() + LIMIT_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "server.log").read_text()
                    assert time.monotonic() < until, (folder / "server.log").read_text()
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def ask(address: str, data: bytes) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(address, data, method="POST"), timeout=LIMIT_S) as answer:
        document: dict[str, object] = json.load(answer)
        return document


def all_right(folder: Path, address: str) -> list[dict[str, object]]:
    """Eight at a time, each colour sixteen times; nonsense is refused."""
    photographs = {colour: (folder / f"{colour}.png").read_bytes() for colour in COLOURS}
    asked = list(COLOURS) * 16
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda colour: ask(address, photographs[colour]), asked))
    assert [answer["label"] for answer in answers] == asked
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, b"no picture")
    assert refused.value.code == 415
    return answers


def test_fastapi_with_a_pool_of_threads(folder: Path) -> None:
    needs("fastapi", "uvicorn")
    with server(folder, "-m", "uvicorn", "service:app", "--port", "PORT") as address:
        all_right(folder, f"{address}/name")


@pytest.mark.skipif(os.name != "posix", reason="gunicorn forks")
@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU"])
def test_gunicorn_with_preloaded_workers(folder: Path, device: str) -> None:
    needs("gunicorn")
    words = (
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "2",
        "--threads",
        "4",
        "--bind",
        "127.0.0.1:PORT",
        "wsgi:app",
    )
    with server(folder, *words, DEVICE=device) as address:
        answers = all_right(folder, address)
    assert len({answer["process"] for answer in answers}) >= 1


def test_the_wsgi_program_by_itself(folder: Path) -> None:
    code = """
import io, threading, urllib.request, wsgiref.simple_server, wsgi
serving = wsgiref.simple_server.make_server("127.0.0.1", 0, wsgi.app)
threading.Thread(target=serving.serve_forever, daemon=True).start()
for colour in ("red", "green", "blue"):
    data = open(f"{colour}.png", "rb").read()
    address = f"http://127.0.0.1:{serving.server_port}"
    print(urllib.request.urlopen(urllib.request.Request(address, data)).read().decode())
serving.shutdown()
"""
    done = program(folder, "-c", code)
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == list(COLOURS), done.stderr


def test_requests_that_wait_together_are_answered_together(folder: Path) -> None:
    paths = [f"{colour}.png" for colour in COLOURS] * 5
    done = program(folder, str(PROGRAMS / "batching.py"), "model.onnx", *paths)
    assert done.stdout.splitlines() == [f"{path} {path.removesuffix('.png')}" for path in paths], done.stderr


def test_a_worker_for_each_camera(folder: Path) -> None:
    for colour in ("red", "blue"):
        shutil.copy(folder / f"{colour}.png", folder / f"{colour}-00.png")
    done = program(folder, str(PROGRAMS / "cameras.py"), "model.onnx", "red-%02d.png", "blue-%02d.png")
    assert sorted(done.stdout.splitlines()) == ["blue-%02d.png: blue", "red-%02d.png: red"], done.stderr


@pytest.mark.skipif(os.name != "posix", reason="Celery's pool forks")
def test_celery(folder: Path) -> None:
    needs("celery")
    for name in ("queue", "results"):
        (folder / name).mkdir()
    settings = {"BROKER": "filesystem://", "RESULTS": f"file://{folder}/results"}
    # A broker for tests: a folder.
    begin = "import tasks; tasks.app.conf.broker_transport_options = {"
    begin += "'data_folder_in': 'queue', 'data_folder_out': 'queue', 'control_folder': 'queue'}\n"
    worker = f"{begin}tasks.app.worker_main(['worker', '--concurrency', '2', '--loglevel', 'ERROR'])"
    client = f"{begin}asked = [tasks.name.delay(f'{{colour}}.png') for colour in ('red', 'green', 'blue')]\n"
    client += "print([one.get(timeout=50)['label'] for one in asked])"
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", worker], cwd=folder, env=environment(folder, **settings), stdout=log, stderr=log
        )
        try:
            done = program(folder, "-c", client, **settings)
            assert done.stdout == "['red', 'green', 'blue']\n", done.stderr + (folder / "worker.log").read_text()
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def test_a_notebook(folder: Path) -> None:
    needs("nbclient", "nbformat", "ipykernel")
    import nbclient
    import nbformat

    text = (PROGRAMS / "notebook.py").read_text(encoding="utf-8")
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in text.split("# %%\n") if cell.strip()]
    cells.insert(0, nbformat.v4.new_code_cell("import os\nos.environ.update({'PHOTOGRAPH': 'red.png'})"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        nbclient.NotebookClient(
            notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    said = json.dumps(notebook.cells[2:], ensure_ascii=False)
    assert "('red', 1.0)" in said
    assert '\\"label\\": \\"red\\"' in said.replace("\\\\", "\\")


@pytest.mark.slow
def test_a_frozen_app(folder: Path) -> None:
    needs("PyInstaller")
    shutil.copy(PROGRAMS / "frozen.py", folder)
    done = program(folder, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "frozen.py")
    assert done.returncode == 0, done.stderr
    app = folder / "dist" / "frozen" / "frozen"
    said = subprocess.run(
        [app, "model.onnx", "red.png"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert said.stdout.splitlines() == ["ort:cpu red", "openvino:CPU red"], said.stderr
    said = subprocess.run([app, "doctor"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert said.returncode == 0, said.stderr


def test_every_program_is_on_the_page() -> None:
    page = (PROGRAMS.parent / "serve.md").read_text(encoding="utf-8")
    for path in PROGRAMS.iterdir():
        assert f"(serve/{path.name})" in page or path.name == "__pycache__"
