"""An OpenSSH server on the loopback address, with keys of its own, and a device-only edgetl behind it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

import toolchain

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SSH = shutil.which("ssh")
KEYGEN = shutil.which("ssh-keygen")
CONFIGURED = """
Host board second
  Port {board}
Host bare
  Port {bare}
Host no-python
  Port {no_python}
Host noisy
  Port {noisy}
Host stranger
  Port {board}
  UserKnownHostsFile /dev/null
Host impostor
  Port {board}
  UserKnownHostsFile {folder}/wrong_hosts
Host refusing
  Port {board}
  IdentityFile {folder}/other_key
Host closed
  Port {closed}
Host nowhere
  HostName nowhere.invalid
Host * !refusing
  IdentityFile {folder}/user_key
Host *
  HostName 127.0.0.1
  User {user}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""
SERVER = """
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Port {board}
Port {bare}
Port {no_python}
Port {noisy}
Match LocalPort {board}
  SetEnv PATH={folder}/device:/usr/bin:/bin HOME={folder}/home
Match LocalPort {bare}
  SetEnv PATH=/usr/bin:/bin HOME={folder}/home
Match LocalPort {no_python}
  SetEnv PATH={folder}/only-sh HOME={folder}/home
Match LocalPort {noisy}
  SetEnv PATH={folder}/device:/usr/bin:/bin HOME={folder}/noisy-home
"""


@dataclass(frozen=True)
class Server:
    """A server that runs. Its hosts are those of CONFIGURED; `ssh` with them is the first on the PATH."""

    folder: Path
    process: subprocess.Popen[bytes]

    def sessions(self) -> list[psutil.Process]:
        """The server's processes of connections that are open."""
        return psutil.Process(self.process.pid).children()


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Skips where there is no OpenSSH server."""
    if SSHD is None or SSH is None or KEYGEN is None:
        pytest.skip("needs an OpenSSH server (apt-get install openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host_key", "wrong_host_key", "user_key", "other_key"):
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    names = ("board", "bare", "no_python", "noisy", "closed")
    values = {"folder": folder, "user": getpass.getuser(), **dict(zip(names, _free_ports(len(names)), strict=True))}
    _write_known_hosts(folder, values)
    (folder / "ssh_config").write_text(CONFIGURED.format(**values))
    (folder / "sshd_config").write_text(SERVER.format(**values))
    _write_program(folder / "client" / "ssh", f'exec {SSH} -F {folder}/ssh_config "$@"')
    device_only(folder / "device")
    (folder / "only-sh").mkdir()
    (folder / "only-sh" / "sh").symlink_to("/bin/sh")
    (folder / "home").mkdir()
    (folder / "noisy-home").mkdir()
    (folder / "noisy-home" / ".bashrc").write_text("echo Welcome to the board.\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log)
    try:
        _wait_for(values["board"], folder / "sshd.log")
        yield Server(folder, process)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def board(ssh_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, for a test that says `--on board`."""
    monkeypatch.setenv("PATH", f"{ssh_server.folder / 'client'}:{os.environ['PATH']}")
    return ssh_server


def device_only(folder: Path) -> None:
    """Make a program `edgetl` in `folder` that finds what `pip install edgetl` brings, and no PyTorch."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    (packages / "toolchain").symlink_to(Path(toolchain.__file__).parent)
    for name in _needed("edgetl", set()):
        found = distribution(name)
        for top in {Path(file).parts[0] for file in found.files or () if not str(file).startswith("..")}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and top != "__pycache__" and not (packages / top).exists():
                if top == "cv2":  # it refuses to be loaded through a link
                    shutil.copytree(source, packages / top, copy_function=_link)
                else:
                    (packages / top).symlink_to(source)
    code = f"import sys; sys.path[:0] = [{str(packages)!r}]; from toolchain.__main__ import main; main()"
    (folder / "edgetl.py").write_text(code)
    _write_program(folder / "edgetl", f'exec {sys.executable} -I -S {folder}/edgetl.py "$@"')


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


def _needed(name: str, known: set[str]) -> set[str]:
    """The distributions that `name` without extras needs, itself left out."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name not in known:
            try:
                distribution(requirement.name)
            except PackageNotFoundError:
                continue
            known.add(requirement.name)
            _needed(requirement.name, known)
    return known


def _write_known_hosts(folder: Path, values: dict[str, object]) -> None:
    for name, key in (("known_hosts", "host_key"), ("wrong_hosts", "wrong_host_key")):
        public = (folder / f"{key}.pub").read_text()
        ports = [port for port in values.values() if isinstance(port, int)]
        (folder / name).write_text("".join(f"[127.0.0.1]:{port} {public}" for port in ports))


def _write_program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(port: object, log: Path) -> None:
    for _ in range(100):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", int(str(port)))) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
