"""Connections that ask nothing cost a bounded number of files, and keep no viewer out."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain
from tests.web_support import Viewer, answer, place, view, wait_until
from toolchain.camera.sinks.web.server import MAX_CONNECTIONS, connection_limit

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files as Linux lists them")


def _knocking(host: str, port: int) -> socket.socket:
    """A connection that asks nothing."""
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((host, port))
    return one


def _sockets() -> int:
    """How many sockets this process has open."""
    return sum(_leads_to(link).startswith("socket:") for link in Path("/proc/self/fd").iterdir())


def _leads_to(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:  # it was closed meanwhile
        return ""


def test_idle_connections_are_closed_for_new_ones_and_a_viewer_stays(capfd: pytest.CaptureFixture[str]) -> None:
    limit = connection_limit()
    assert 4 <= limit <= MAX_CONNECTIONS
    with view() as shown, ExitStack() as stack:
        viewer = Viewer(shown, "/answers")
        before = _sockets()
        idle = [stack.enter_context(_knocking(*place(shown))) for _ in range(2 * limit)]
        shown.show(answer(7))
        wait_until(lambda: (viewer.event()["answer"] or {}).get("frame") == 7)
        # All sockets of the crowd are in this process: its own ends, and those that the server has kept.
        wait_until(lambda: _sockets() - before - len(idle) <= limit // 2 + 1)
        late = Viewer(shown, "/answers")
        assert late.status == 200
        for one in (viewer, late):
            one.close()
    assert capfd.readouterr() == ("", "")


def test_a_camera_with_few_files_outlives_a_crowd_of_idle_connections(tmp_path: Path) -> None:
    """150 connections would have used up the 64 files that this process may open."""
    tiny_artifact(tmp_path / "tiny.onnx")
    (tmp_path / "images").mkdir()
    for number in range(20):
        cv2.imwrite(str(tmp_path / "images" / f"{number:02}.png"), plain(("red", "green")[number % 2]))
    told = tmp_path / "told"
    words = [
        "camera",
        "tiny.onnx",
        "--source",
        "images",
        "--seconds-per-image",
        "0.1",
        "--json",
        "--web",
        "127.0.0.1:0",
    ]
    with (
        subprocess.Popen(
            [sys.executable, "-m", "toolchain", *words, "--on-change", f"echo $EDGETL_LABEL >> {told}"],
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as process,
        ExitStack() as stack,
    ):
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(line.split("127.0.0.1:")[1].split("/")[0])
        for _ in range(150):
            stack.enter_context(_knocking("127.0.0.1", port))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["frames_in"] == 20
    assert summary["frames_answered"] >= 12, "a busy machine answers the newest frame, not each"
    assert len(told.read_text().split()) >= 8
    assert len(err.splitlines()) < 10
