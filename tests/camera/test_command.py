"""Commands for each new label: what they find in their environment, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.camera.test_drawing import answered
from tests.datasets.datasets_support import Remembering
from toolchain.camera.answering import Answered
from toolchain.camera.sinks import AnswerLostError
from toolchain.camera.sinks.command import Command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands are written for a POSIX shell")

PICTURE = np.zeros((48, 64, 3), np.uint8)


def _answer(label: str, rejected: bool = False) -> Answered:
    return answered(PICTURE, label, rejected)


@pytest.mark.parametrize(
    ("label", "found"),
    [("a\0b", "a\ufffdb"), ("\ud800", "?"), ("rød ねこ", "rød ねこ"), ("$(id) `id`", "$(id) `id`")],
)
def test_every_label_reaches_the_command(tmp_path: Path, label: str, found: str) -> None:
    reporter = Remembering()
    command = Command(f'printf %s "$EDGETL_LABEL" > {tmp_path}/label; cat > {tmp_path}/json', None, reporter)
    command.show(_answer(label))
    command.show(_answer("cat"))
    command.show(_answer(label))
    assert not reporter.warned
    assert (tmp_path / "label").read_text(encoding="utf-8") == found
    assert json.loads((tmp_path / "json").read_bytes())["label"]
    command.close()


def _wait(until: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not until() and time.monotonic() < end:
        time.sleep(0.01)
    return until()


def _is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="processes as Linux lists them")
def test_jobs_in_the_background_end_with_the_next_command_and_with_the_camera(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = Command(f"sleep 60 & echo $! >> {pids}", None, Remembering())
    command.show(_answer("dog"))
    [first] = map(int, pids.read_text().split())
    assert not _is_gone(first), "it may play its sound to the end"
    command.show(_answer("cat"))
    _, second = map(int, pids.read_text().split())
    assert _wait(lambda: _is_gone(first))
    assert not _is_gone(second)
    command.close()
    assert _wait(lambda: _is_gone(second))


def test_a_command_that_cannot_be_started_is_tried_with_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file descriptor is left, for a moment."""
    mark = tmp_path / "mark"
    command = Command(f"touch {mark}", None, Remembering())
    start = subprocess.Popen.__init__

    def no_file(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(subprocess.Popen, "__init__", no_file)
    with pytest.raises(AnswerLostError, match="Too many open files"):
        command.show(_answer("dog"))
    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    command.show(_answer("dog"))
    assert mark.exists()
    command.close()
