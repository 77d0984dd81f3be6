"""Two processes never work in one folder, or write one file, at once: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain, write_clip
from toolchain.camera.sinks import AnswerLostError
from toolchain.camera.sinks.log import Log
from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.system import claims
from toolchain.system.claims import LOCK_FILE, InUseError, working_in, writing

HOLD = (
    "import sys; from pathlib import Path; from toolchain.system import claims\n"
    "with getattr(claims, sys.argv[1])(Path(sys.argv[2]), 'working', ''):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@contextmanager
def another_process(how: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `place`, until its input ends."""
    words = [sys.executable, "-c", HOLD, how, str(place)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_folder_is_held_by_one_process_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with another_process("working_in", folder) as other:
        with pytest.raises(InUseError) as raised, working_in(folder, "training", "Wait."):
            pass
        assert f"process {other.pid} on " in raised.value.message
        assert "is working" in raised.value.message
        assert raised.value.hint == "Wait."
        other.communicate("")
        assert other.returncode == 0
    assert list(tmp_path.iterdir()) == []
    with working_in(folder, "training", "Wait."):
        (folder / "result").touch()
    assert sorted(folder.iterdir()) == [folder / "result"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with another_process("working_in", tmp_path) as other:
        other.kill()
        other.wait()
        assert (tmp_path / LOCK_FILE).exists(), "it could not remove its file"
        assert claims.is_empty(tmp_path)
        with working_in(tmp_path, "training", ""):
            pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_holder_calls_may_work_there_and_another_thread_may_not(tmp_path: Path) -> None:
    refused = []

    def elsewhere() -> None:
        try:
            with working_in(tmp_path, "exporting", ""):
                pass
        except InUseError as error:
            refused.append(error)

    with working_in(tmp_path, "training", ""):
        with working_in(tmp_path, "exporting", ""):
            pass
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_many_processes_get_a_folder_each(tmp_path: Path) -> None:
    program = (
        "import sys; from itertools import count; from pathlib import Path; from toolchain.system import claims\n"
        "sys.stdin.readline(); place = Path(sys.argv[1])\n"
        "for _ in range(20): print(claims.new_folder(place / str(number) for number in count(1)).name)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "runs")]
    started = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    names = [name for process in started for name in process.communicate()[0].split()]
    assert sorted(map(int, names)) == list(range(1, 81))


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_a_lock_file_that_others_have_put_there_leads_nowhere(tmp_path: Path) -> None:
    private = tmp_path / "private.txt"
    private.write_text("precious")
    for number, lay in enumerate((lambda lock: lock.symlink_to(private), os.mkfifo)):
        folder = tmp_path / str(number)
        folder.mkdir()
        lay(folder / LOCK_FILE)
        with pytest.raises(BadInputError, match="should be a file of edgetl's"), working_in(folder, "a test", ""):
            pass
    assert private.read_text() == "precious"


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with writing(tmp_path / "a", "writing it", ""):
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    tiny_artifact(folder / "tiny.onnx")
    write_clip(folder / "clip.mp4", ["red"] * 3)
    cv2.imwrite(str(folder / "red.png"), plain("red"))
    return folder


CAMERA = ["camera", "{place}/tiny.onnx", "--source", "{place}/clip.mp4", "--headless"]


@pytest.mark.parametrize(
    ("how", "held", "words"),
    [
        ("working_in", "out", ["finetune", "{data}", "--weights", "none", "--device", "cpu", "--out", "{held}"]),
        ("working_in", "run", ["finetune", "--resume", "{held}"]),
        ("working_in", "run", ["export", "{held}"]),
        ("working_in", "out", ["export", "{run}", "--out", "{held}/model.onnx"]),
        ("working_in", "out", ["bench", "{place}/tiny.onnx", "--out", "{held}"]),
        ("writing", "out", ["explain", "why", "{place}/tiny.onnx", "{place}/red.png", "--out", "{held}"]),
        ("writing", "out.mp4", [*CAMERA, "--record", "{held}"]),
        ("working_in", "out", ["demo", "--out", "{held}"]),
    ],
)
def test_each_command_says_who_works_there_already(
    place: Path,
    drawn_folder: Path,
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
    held: str,
    words: list[str],
) -> None:
    import shutil

    shutil.copytree(run_folder, tmp_path / "run")
    if "--resume" in words:
        (tmp_path / "run" / "run.json").unlink()
    with another_process(how, tmp_path / held) as other:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        names = {"place": place, "data": drawn_folder, "run": tmp_path / "run", "held": tmp_path / held}
        filled = [word.format(**names) for word in words]
        assert run(filled) == 2
        error, hint = capsys.readouterr().err.splitlines()[-2:]
        assert f"is in use: process {other.pid} on " in error
        assert hint.startswith("hint: ")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_that_is_recorded_twice_is_recorded_once(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    words = [word.format(place=place) for word in CAMERA]
    write_clip(tmp_path / "long.mp4", ["red"] * 60)
    words[3] = str(tmp_path / "long.mp4")
    command = [sys.executable, "-m", "toolchain", *words, "--record", str(path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert "is in use" in "".join(told)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["long.mp4", "out.mp4"]


def test_a_log_is_written_by_one_camera(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.jsonl"
    words = [word.format(place=place) for word in CAMERA]
    other = Log(path)
    assert run([*words, "--log", str(path)]) == 2
    assert "log.jsonl is in use: another camera writes it" in capsys.readouterr().err
    assert path.read_bytes() == b""
    path.rename(tmp_path / "log.1")  # as logrotate does it
    another = Log(path)
    with pytest.raises(AnswerLostError, match="is in use"):
        other.write("{}")
    another.close()
    other.write('{"frame":1}')
    other.close()
    assert run([*words, "--log", str(path)]) == 0
    assert path.read_text().startswith('{"frame":1}\n{"frame":')


def test_the_default_folder_of_an_explanation_is_not_another_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolchain.explain.gallery import new_folder as new_gallery

    monkeypatch.chdir(tmp_path)
    Path("explain").mkdir()
    with another_process("writing", Path("explain/ideal-1")), new_gallery(None, "ideal") as (folder, target):
        (folder / "mine").touch()
        assert target == Path("explain/ideal-2")
    assert Path("explain/ideal-2/mine").exists()
    assert not Path("explain/ideal-1").exists()


SERVE = (
    "import json, sys; from toolchain.cli import run; import toolchain.training.finetune\n"
    "print('ready', flush=True)\n"
    "for line in sys.stdin: print(json.dumps(run(json.loads(line))), flush=True)\n"
)


@pytest.mark.slow
def test_two_runs_at_once_each_have_a_folder_and_one_with_the_same_out_is_refused(
    drawn_folder: Path, tmp_path: Path
) -> None:
    import json

    words = ["finetune", str(drawn_folder), "--weights", "none", "--model", "mobilenet_v3_small", "--size", "64"]
    words += ["--device", "cpu", "--probe-only", "--quiet"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SERVE],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def at_once(more: Callable[[int], list[str]]) -> list[int]:
        for number, process in enumerate(both):
            assert process.stdin is not None
            process.stdin.write(json.dumps([*words, *more(number)]) + "\n")
            process.stdin.flush()
        codes = []
        for process in both:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).strip().isdecimal():
                assert line, "it has ended"
            codes.append(int(line))
        return codes

    assert at_once(lambda number: ["--seed", str(number)]) == [0, 0]
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json")]
    assert sorted(found["settings"]["seed"] for found in runs) == [0, 1]
    codes = at_once(lambda number: ["--seed", str(number), "--out", "same"])
    assert sorted(codes) == [0, 2]
    [found] = [json.loads(path.read_text()) for path in tmp_path.glob("same/run.json")]
    assert found["settings"]["seed"] == codes.index(0)
    assert at_once(lambda number: ["--outliers", "nosuch"]) == [2, 2]
    assert len(list(tmp_path.glob("runs/*"))) == 2, "of what failed nothing is left"
    for process in both:
        process.communicate("", timeout=60)


def test_a_disk_in_whose_parent_nothing_can_be_written_is_claimed_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    with writing(tmp_path / "disk", "reviewing it", ""):
        assert [path.name for path in (tmp_path / "disk").iterdir()] == [LOCK_FILE]
        assert [path.name for path in tmp_path.iterdir()] == ["disk"]
        assert claims.is_empty(tmp_path / "disk")
    assert not list((tmp_path / "disk").iterdir())
