"""The page's requests: who may ask, what is answered, and that a kill loses nothing that was confirmed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from review_support import Serve, ask, collect

from tests.conftest import Recorder
from toolchain.cli import run
from toolchain.datasets.journal import Journal, restore
from toolchain.review.server import FILES

ANSWERS = [
    ("cat", {"cat": 0.5, "dog": 0.4}),
    ("dog", {"cat": 0.45, "dog": 0.44}),
    ("fish", {"fish": 0.6, "cat": 0.3}),
]


def test_items_pictures_and_decisions(tmp_path: Path, serve: Serve) -> None:
    folder = collect(tmp_path / "collected", ANSWERS, size=500)
    page, _ = serve(folder, tmp_path / "photos")
    status, body, headers = ask(page.url, "/items")
    state = json.loads(body)
    assert status == 200
    assert [item["answers"][0] for item in state["items"]] == [["cat", 0.45], ["cat", 0.5], ["fish", 0.6]]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    number = state["items"][0]["number"]
    status, body, headers = ask(page.url, f"/pictures/small/{number}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert max(picture.shape) == 360
    status, body, _ = ask(page.url, "/decide", {"do": "move", "numbers": [number], "label": "dog"})
    assert status == 200
    assert json.loads(body)["done"]["moved"] == {"dog": 1}
    assert len(list((tmp_path / "photos/dog").iterdir())) == 1
    assert ask(page.url, f"/pictures/small/{number}")[0] == 200, "from where it is now"
    assert ask(page.url, "/decide", {"do": "undo"})[0] == 200
    assert not (tmp_path / "photos/dog").exists()
    assert not page.finished.is_set()
    assert ask(page.url, "/decide", {"do": "finish"})[0] == 200
    assert page.finished.is_set()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        ({"do": "delete", "numbers": [0]}, {}, 400),
        ({"do": "keep", "numbers": [0], "path": "/etc"}, {}, 400),
        ({"do": "keep", "numbers": [99]}, {}, 409),
        ({"do": "move", "numbers": [0], "label": "../x"}, {}, 409),
        ({"do": "keep", "numbers": [0]}, {"Content_Type": "text/plain"}, 415),
        ({"do": "keep", "numbers": [0]}, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
        ({"do": "keep", "numbers": [0]}, {"Sec_Fetch_Site": "same-site"}, 403),
        ({"do": "keep", "numbers": [0]}, {"Host": "evil.example"}, 403),
        (b" " * (1 << 20) + b'{"do": "undo"}', {}, 413),
    ],
)
def test_what_no_page_of_ours_sends_changes_nothing(
    tmp_path: Path, serve: Serve, body: object, headers: dict[str, str], status: int
) -> None:
    folder = collect(tmp_path / "collected", ANSWERS)
    page, review = serve(folder, tmp_path / "photos")
    assert ask(page.url, "/decide", body, **headers)[0] == status
    assert len(review.left) == 3
    assert not (tmp_path / "photos").exists()


def test_unknown_pictures_and_paths_are_not_there(tmp_path: Path, serve: Serve) -> None:
    page, _ = serve(collect(tmp_path / "collected", ANSWERS), None)
    for path in ("/pictures/small/99", "/pictures/huge/0", "/pictures/small/..%2f..", "/collected.jsonl"):
        assert ask(page.url, path)[0] == 404
    assert ask(page.url, "/decide", method="GET")[0] == 405


def test_beyond_this_machine_a_token_is_needed(tmp_path: Path, serve: Serve) -> None:
    recorder = Recorder()
    page, review = serve(collect(tmp_path / "collected", ANSWERS), None, "0.0.0.0", reporter=recorder)
    assert "other machines can review, unencrypted" in recorder.warned[0]
    token = page.url.partition("token=")[2]
    assert len(token) > 30
    assert ask(page.url, "/items")[0] == 401
    assert ask(page.url, "/decide", {"do": "keep", "numbers": [0]})[0] == 401
    assert ask(page.url, "/items", Authorization="Bearer wrong")[0] == 401
    assert len(review.left) == 3
    assert ask(page.url, "/items", Authorization=f"Bearer {token}")[0] == 200
    status, _, headers = ask(page.url, f"/?token={token}")
    cookie = headers["set-cookie"].partition(";")[0]
    assert status == 303
    assert ask(page.url, "/decide", {"do": "keep", "numbers": [0]}, Cookie=cookie)[0] == 200


def test_its_files_name_no_other_address() -> None:
    for path, _ in FILES.values():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\(", text), path


def _started(folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """`edgetl review` in a process of its own, and the address of its page."""
    command = [sys.executable, "-m", "toolchain", "review", str(folder), "--web", "127.0.0.1:0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if found := re.search(r"review at (\S+)", line):
            return process, found[1]
    raise AssertionError("it has not started")


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_nothing_that_was_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    animals = ["cat", "dog", "fish", "bird", "turtle"]
    answers = [(animals[number % 3], {"cat": 0.5, "dog": 0.4}) for number in range(24)]
    folder, into = collect(tmp_path / "collected", answers), tmp_path / "photos"
    names = {path.name for path in folder.glob("*.jpg")}
    process, url = _started(folder, "--into", str(into))
    items = json.loads(ask(url, "/items")[1])["items"]
    confirmed: dict[str, str] = {}
    for number, item in enumerate(items):
        if number == 12:
            # Killed while the next decision is on its way.
            os.kill(process.pid, signal.SIGKILL)
        label = animals[number % 2]
        try:
            status, _, _ = ask(url, "/decide", {"do": "move", "numbers": [item["number"]], "label": label})
        except OSError:
            break
        assert status == 200
        confirmed[item["name"]] = label
    process.wait()
    assert len(confirmed) >= 12
    for name, label in confirmed.items():
        assert (into / label / name).is_file()
    here, there = ({path.name for path in root.rglob("*.jpg")} for root in (folder, into))
    assert here | there == names, "no picture is lost"
    assert not here & there
    # The next review finds the rest, and ends by itself when the person has finished.
    process, url = _started(folder, "--into", str(into), "--json")
    assert len(json.loads(ask(url, "/items")[1])["items"]) == len(here)
    assert ask(url, "/decide", {"do": "set-aside", "numbers": [0]})[0] == 200
    assert ask(url, "/decide", {"do": "finish"})[0] == 200
    out, _ = process.communicate(timeout=30)
    document = json.loads(out)
    assert process.returncode == 0
    assert (document["set_aside"], document["left"]) == (1, len(here) - 1)
    records = sorted((tmp_path / "collected.set-aside").glob("*.json"))
    assert [str(record) for record in records][-1] == document["record"]
    for record in records:
        assert run(["data", "restore", str(record)]) == 0
    capsys.readouterr()
    assert {path.name for path in folder.glob("*.jpg")} == names


@pytest.mark.slow
def test_ctrl_c_ends_it_and_says_how_to_undo(tmp_path: Path) -> None:
    folder = collect(tmp_path / "collected", ANSWERS)
    process, url = _started(folder, "--into", str(tmp_path / "photos"))
    second = subprocess.run(
        [sys.executable, "-m", "toolchain", "review", str(folder)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert "is in use" in second.stderr
    ask(url, "/decide", {"do": "move", "numbers": [0], "label": "cat"})
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 moved" in out
    assert "edgetl data restore" in out
    assert f"edgetl finetune {tmp_path / 'photos'} --from RUN" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["COLLECTED", "--model", "resnet18"], "--model is for data sets"),
        (["COLLECTED", "--web", "nowhere:x"], "is no address"),
        (["EMPTY"], "holds no pictures that a camera has collected, and no folders of classes"),
        (["DATA", "--into", "x"], "--into is for pictures that a camera collected"),
        (["NOTHING"], "neither a known data set nor a folder"),
    ],
)
def test_wrong_use_is_told(
    tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    places = {
        "COLLECTED": collect(tmp_path / "collected", ANSWERS),
        "DATA": drawn_folder,
        "NOTHING": "nothing-there",
        "EMPTY": tmp_path / "empty",
    }
    (tmp_path / "empty").mkdir()
    assert run(["review", *(str(places.get(word, word)) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_with_nothing_left_needs_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = collect(tmp_path / "collected", [])
    assert run(["review", str(folder)]) == 0
    assert "0 left" in capsys.readouterr().out


def test_the_current_folder_can_be_reviewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `.`, or by a link: what was interrupted is finished in any case."""
    folder = collect(tmp_path / "collected", [("cat", {"cat": 0.9})])
    [picture] = folder.glob("*.jpg")
    (tmp_path / "link").symlink_to(folder)
    for name in (".", "../link"):
        ours = Journal(folder)
        [moved] = ours.set_aside([picture.name])
        Path(str(moved.now)).rename(picture)  # as if it had been killed before it moved it
        monkeypatch.chdir(folder)
        assert run(["review", name]) == 0
        told = capsys.readouterr()
        assert "1 picture of an interrupted review moved" in told.err
        assert "0 left" in told.out
        assert not picture.exists()
        assert ours.path
        restore(ours.path)
