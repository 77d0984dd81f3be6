"""Workers on another machine, over a real OpenSSH server on the loopback address."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ssh_server import Server

from toolchain.errors import BadInputError, ExitCode, MissingError
from toolchain.runtimes.devices import Device
from toolchain.system.progress import Silent
from toolchain.timing import ssh
from toolchain.timing.machines import Remote, checked, connected
from toolchain.timing.process import WorkerError
from toolchain.timing.protocol import Piece
from toolchain.timing.ssh import Destination

LIMIT_S = 60.0


def nothing(text: str) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pi@board", Destination("pi@board")),
        ("board:edge tl", None),
        ("board:~/env", Destination("board", "env")),
        ("board:/srv/edgetl", Destination("board", "/srv/edgetl")),
        ("ssh://pi@board:2222", Destination("ssh://pi@board:2222")),
        ("ssh://pi@[::1]:22/srv/e", Destination("ssh://pi@[::1]:22", "/srv/e")),
        ("-oProxyCommand=reboot", None),
        ("ssh://-oProxyCommand=reboot", None),
        ("", None),
        (":/opt", None),
        ("a\nb", None),
        ("local", Destination("local")),
    ],
)
def test_names_of_machines(name: str, expected: Destination | None) -> None:
    if expected is None:
        with pytest.raises(BadInputError, match="no machine to connect to"):
            checked([name])
    else:
        assert Destination.of(name) == expected
        assert checked([name, name]) == (name,)


def test_host_follows_two_dashes_and_the_command_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ssh is called with, told by a program of its name."""
    told = tmp_path / "told"
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nfor one in "$@"; do echo "$one"; done > {told}\nexit 255\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingError, match="cannot be reached"):
        Remote("pi@board:it's;reboot")
    words = told.read_text().splitlines()
    assert words[-3:-1] == ["--", "pi@board"]
    assert "BatchMode=yes" in words
    shown = subprocess.run(
        ["sh", "-c", words[-1].replace("sh -c ", "printf '%s|' ", 1)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.endswith("|sh|it's;reboot/bin/edgetl|it's;reboot|")


def test_workers_and_files_there(board: Server, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(os.urandom(700_000))
    notes: list[str] = []
    with connected(["board"], Silent()) as (machine,):
        assert machine.describe().versions["python"].split(".")[:2] == list(map(str, sys.version_info[:2]))
        there = Path(machine.place(file, notes.append))
        assert there.read_bytes() == file.read_bytes()
        assert notes == ["copying a file, 0%", "copying a file, 37%", "copying a file, 75%"]
        assert machine.place(file, notes.append) == str(there)
        assert len(notes) == 3  # it was not sent again
        workers = [machine.launch() for _ in range(2)]
        for worker in workers:
            assert worker.ask("probe", "ort:cpu", Device, LIMIT_S).available
            assert not worker.ask("probe", "torch:cpu", Device, LIMIT_S).available  # the device half only
        with pytest.raises(WorkerError, match="does not exist"):
            workers[0].ask("load", {"artifact": "gone", "sha256": "0" * 64, "device": "ort:cpu", "threads": 1,
                                    "batch": 1, "pictures": "", "photographs": []}, Device, LIMIT_S)  # fmt: skip
        workers[0].close()
        assert workers[1].ask("probe", "ort:cpu", Device, LIMIT_S).available
        machine.watch()
        assert machine.look() is not None
    assert not there.parent.parent.exists()


def test_a_damaged_file_is_noticed(board: Server) -> None:
    with connected(["board"], Silent()) as (machine,):
        assert isinstance(machine, Remote)
        with pytest.raises(WorkerError, match="damaged"):
            machine.ask("put", Piece("key", "name", b"abc", "0" * 64), str, LIMIT_S)
        good = Piece("key", "../../name", b"abc", hashlib.sha256(b"abc").hexdigest())
        assert machine.ask("put", good, str, LIMIT_S).endswith("/key/name")


def test_a_shell_that_greets_is_listened_past(board: Server) -> None:
    with connected(["noisy"], Silent()) as (machine,):
        assert machine.describe().cores > 0


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("bare", "edgetl was not found on bare", "edgetl/bin/pip install"),
        ("board:/nowhere", "there is no edgetl in /nowhere on board", "--on HOST:FOLDER"),
        ("no-python", "no-python has no python3", "Python 3.10"),
        ("nowhere", "there is no such host", "~/.ssh/config"),
        ("closed", "closed cannot be reached: .*Connection refused", "ssh closed"),
        ("stranger", "host key is not known", "compare the fingerprint: ssh stranger"),
        ("impostor", "host key is another than before", "ssh-keygen -R"),
        ("refusing", "accepts none of your keys", "ssh-copy-id refusing"),
    ],
)
def test_what_is_said_of_a_machine_that_cannot_be_used(board: Server, name: str, message: str, hint: str) -> None:
    with pytest.raises(MissingError, match=message) as caught:
        Remote(name)
    assert hint in caught.value.hint
    assert caught.value.exit_code == ExitCode.MISSING
    assert "\n" not in caught.value.message + caught.value.hint


def test_another_version(board: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "__version__", "9.9.9")
    with pytest.raises(MissingError, match=r"board has edgetl \d.*, and this is 9\.9\.9") as caught:
        Remote("board")
    assert "same version" in caught.value.hint


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match="ssh is not installed here"):
        Remote("board")


def test_an_answer_of_another_kind_is_the_workers_failure(board: Server) -> None:
    """As of a plug-in's runtime, or of a checkout with the same version."""
    with connected(["board"], Silent()) as (machine,):
        worker = machine.launch()
        with pytest.raises(WorkerError, match="board answered nonsense during probe"):
            worker.ask("probe", "ort:cpu", int, LIMIT_S)
        assert worker.ask("probe", "ort:cpu", Device, LIMIT_S).available
        worker.close()


def test_a_cut_connection_is_told_at_once_and_leaves_nothing_there(board: Server, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    machine = Remote("board")
    there = Path(machine.place(file, nothing))
    worker = machine.launch()
    worker.ask("probe", "ort:cpu", Device, LIMIT_S)
    for session in board.sessions():
        session.kill()
    for _ in range(2):
        with pytest.raises(WorkerError, match="board: the connection was lost") as caught:
            worker.ask("probe", "ort:cpu", Device, LIMIT_S)
        assert not caught.value.unavailable
    assert machine.look() is None
    machine.close()
    for _ in range(200):
        if not there.parent.parent.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{there} was left")
