"""A connection to edgetl on another machine, by the system's own `ssh`: keys, names and ports are the user's."""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass

from toolchain._version import __version__
from toolchain.errors import BadInputError, MissingError
from toolchain.timing.process import CLOSE_LIMIT_S, WorkerProcess

GREETING_LIMIT_S = 60.0
LOST = 255
"""The exit code of ssh where the connection, and not the program there, has failed."""
KILLED = 128 + 9
"""That of a program which was killed; on Windows `signal` does not know the number."""
OPTIONS = (
    "-T",
    # There is nobody who could type a password.
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=15"),
    # A machine that has gone is noticed after 15 seconds, where TCP may take hours.
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=3"),
    # What a user has configured for a terminal there.
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "RemoteCommand=none"),
    *("-o", "LogLevel=ERROR"),
)
PLACES = ("edgetl", "edgetl/bin/edgetl", ".local/bin/edgetl", ".venv/bin/edgetl", "venv/bin/edgetl")
"""Where edgetl is looked for: on the PATH, which is short without a login, and below the home folder."""

# No single quotes, backslashes or exclamation marks: any login shell hands it on to sh as it is.
_SCRIPT = (
    'for e in "$@"; do p=$(command -v "$e") && test -f "$p" && '
    'echo "edgetl-found $("$p" --version)" && exec "$p" worker; done; '
    'echo "edgetl-missing $(command -v python3)"'
)
_GREETING = re.compile(rb"^edgetl-(found|missing)\b[ ]*(.*)")


@dataclass(frozen=True)
class Destination:
    """Where to connect to: `host` as ssh takes it, and `path`, the environment or program there (empty: search)."""

    host: str
    path: str = ""

    @classmethod
    def of(cls, name: str) -> Destination:
        """`[user@]host`, `[user@]host:ENVIRONMENT` or `ssh://[user@]host[:port][/ENVIRONMENT]`.

        Raises BadInputError for anything that ssh might take for an option.
        """
        scheme, _, rest = name.rpartition("ssh://")
        host, _, path = rest.partition("/" if name.startswith("ssh://") else ":")
        if scheme or not host or host.startswith("-") or re.search(r"[\s\x00-\x1f\x7f]", name):
            raise BadInputError(
                f"{name!r} is no machine to connect to", "Name it as ssh does: --on user@host, or --on local."
            )
        if name.startswith("ssh://"):
            return cls(f"ssh://{host}", path and f"/{path}")
        return cls(host, path.removeprefix("~/"))


class Connection(WorkerProcess):
    """edgetl on another machine, which answers what `toolchain.timing.hub` can be asked.

    Raises MissingError, with what to do, where there is none: no ssh here, no such host, no permission, no edgetl
    of this version.
    """

    def __init__(self, name: str) -> None:
        destination = Destination.of(name)
        program = shutil.which("ssh")
        if program is None:
            raise MissingError("ssh is not installed here", "Install OpenSSH's client, or measure --on local.")
        super().__init__(command=(program, *OPTIONS, "--", destination.host, _command(destination.path)))
        try:
            self._greet(name, destination)
        except BaseException:
            self.close()
            raise

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def leave(self) -> None:
        """Close the connection, and give the other end the time to clean up."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(CLOSE_LIMIT_S)
        self.close()

    def _epitaph(self, do: str, reason: str) -> str:
        return reason

    def _reason_of_death(self) -> str:
        try:
            code = self._process.wait(CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            code = LOST
        said = [line for line in self._said() if line.strip()]
        because = f" ({said[-1].strip().rstrip('.')})" if said else ""
        if code in {LOST, -signal.SIGINT}:
            return f"the connection was lost{because}"
        memory = "; was there too little memory?" if code == KILLED else ""
        return f"edgetl ended there with exit code {code}{because}{memory}"

    def _greet(self, name: str, destination: Destination) -> None:
        found = None
        # Shells greet their user as well.
        while found is None:
            try:
                line = self._lines.get(timeout=GREETING_LIMIT_S)
            except queue.Empty:
                raise MissingError(
                    f"{name} did not answer in {GREETING_LIMIT_S:g} s", _by_hand(destination)
                ) from None
            if line is None:
                self._reason_of_death()
                raise _refusal(name, destination, self._said())
            found = _GREETING.match(line)
        word, rest = (part.decode(errors="replace").strip() for part in found.groups())
        if word == "missing":
            raise _not_there(name, destination, python=bool(rest))
        version = rest.rpartition(" ")[2]
        if not version:
            raise MissingError(
                f"{name}: {self._reason_of_death()}",
                f"See it by hand: {_by_hand(destination, 'edgetl doctor')}",
            )
        if version != __version__:
            raise MissingError(
                f"{name} has edgetl {version}, and this is {__version__}", "Install the same version there as here."
            )


def _command(path: str) -> str:
    """What the login shell there is given."""
    places = (f"{path}/bin/edgetl", path) if path else PLACES
    return f"sh -c {shlex.quote(_SCRIPT)} sh {shlex.join(places)}"


def _by_hand(destination: Destination, program: str = "") -> str:
    return shlex.join(["ssh", destination.host, *program.split()])


def _refusal(name: str, destination: Destination, said: list[str]) -> MissingError:
    """Why ssh did not connect, by what it said."""
    last = said[-1] if said else "ssh ended without a word"
    text = "\n".join(said)
    by_hand = _by_hand(destination)
    for pattern, what, hint in (
        (
            "HOST IDENTIFICATION HAS CHANGED",
            "its host key is another than before",
            "If you know why, forget the old one with `ssh-keygen -R`; if not, somebody may pose as it.",
        ),
        (
            "Host key verification failed|host key is known",
            "its host key is not known here",
            f"Connect once by hand, and compare the fingerprint: {by_hand}",
        ),
        (
            "Permission denied|Too many authentication failures",
            "it accepts none of your keys",
            f"Make `{by_hand}` work without a password: {shlex.join(['ssh-copy-id', destination.host])}",
        ),
        (
            "Could not resolve hostname",
            "there is no such host",
            "Check the name, and ~/.ssh/config.",
        ),
    ):
        if re.search(pattern, text):
            return MissingError(f"{name} cannot be used: {what}", hint)
    return MissingError(f"{name} cannot be reached: {last.rstrip('.')}", f"Try by hand: {by_hand}")


def _not_there(name: str, destination: Destination, *, python: bool) -> MissingError:
    if destination.path:
        return MissingError(
            f"there is no edgetl in {destination.path} on {name}",
            "Name the folder of its Python environment: --on HOST:FOLDER.",
        )
    if not python:
        return MissingError(
            f"{name} has no python3",
            "Install Python 3.10 or newer there, and edgetl's device half (`pip install .`).",
        )
    return MissingError(
        f"edgetl was not found on {name}",
        "Copy it there, and: python3 -m venv edgetl && edgetl/bin/pip install ./COPY. "
        "Is it somewhere else? --on HOST:ENVIRONMENT",
    )
