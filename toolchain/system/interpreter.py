"""Python programs of edgetl's own, each in a process of its own, and nothing of the folder where the user stands.

`sys.executable` is not always Python: in a frozen app it is the app, under uWSGI the server. To start it would be
to start the whole program again.
"""

from __future__ import annotations

import functools
import os
import re
import site
import subprocess
import sys
from pathlib import Path

import toolchain
from toolchain.errors import MissingError

_LIMIT_S = 20.0
_BEGIN = """
import os, site, sys
library = os.path.dirname(os.__file__)
own = [entry for entry in sys.path if entry in (library, os.path.join(library, "lib-dynload"))]
sys.path[:] = own + [entry for entry in {path!r} if entry not in own]
for folder in {user!r}:
    site.addsitedir(folder)
"""
"""Its own standard library first: a `queue.py` somewhere on the path is not what a library means by queue."""


def command(program: str, *arguments: str) -> list[str]:
    """What runs `program`, a text, isolated, with the packages that this process has.

    Raises MissingError where there is no Python to run it.
    """
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [_python(), "-I", "-c", _BEGIN.format(path=_path(), user=user) + program, *arguments]


def _path() -> list[str]:
    """Where this process finds packages, but for the current folder, unless edgetl itself lies there."""
    here, home = Path.cwd(), Path(toolchain.__file__).parent.parent
    absolute = (os.path.realpath(entry) for entry in sys.path if entry)
    return [entry for entry in absolute if Path(entry) != here.resolve() or Path(entry) == home.resolve()]


def _python() -> str:
    found = _find(sys.executable or "", bool(getattr(sys, "frozen", False)), sys.prefix, sys.base_prefix)
    if found is None:
        name = Path(sys.executable or sys.argv[0] or "it").name
        raise MissingError(
            f"this needs a process apart, and {name} is no Python interpreter that could be started",
            "Run edgetl from a Python environment for it.",
        )
    return found


@functools.cache
def _find(executable: str, frozen: bool, *prefixes: str) -> str | None:
    if frozen:
        return None
    if re.fullmatch(r"(python|pypy|graalpy)[\d.]*[a-z]?(\.exe)?", Path(executable).name, re.IGNORECASE):
        return executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = (f"bin/python{version}", "bin/python3", "bin/python", "Scripts/python.exe", "python.exe")
    for path in (Path(prefix) / name for prefix in prefixes for name in names):
        if path.is_file() and _is_like_this(path):
            return str(path)
    return None


def _is_like_this(path: Path) -> bool:
    """Whether it is a Python of this version, which can load the same packages."""
    program = "import sys; print(sys.implementation.cache_tag)"
    try:
        said = subprocess.run([path, "-I", "-c", program], capture_output=True, text=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == sys.implementation.cache_tag
