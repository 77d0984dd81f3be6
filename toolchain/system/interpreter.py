"""How edgetl starts its own Python programs in processes of their own, without modules of the current folder.

`sys.executable` is not always Python: in a frozen app it is the app itself, under uWSGI the server. Starting that
would start the whole program again.
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
"""Puts the standard library first: a library that imports `queue` does not mean a `queue.py` on the path."""


def command(program: str, *arguments: str) -> list[str]:
    """The command line that runs the source text `program`, isolated, with the packages that this process has.

    Raises MissingError if there is no Python to run it.
    """
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [_python(), "-I", "-c", _BEGIN.format(path=_path(), user=user) + program, *arguments]


def _path() -> list[str]:
    """Where this process finds packages, without the current folder, unless edgetl itself is there."""
    here, home = Path.cwd(), Path(toolchain.__file__).parent.parent
    absolute = (os.path.realpath(entry) for entry in sys.path if entry)
    return [entry for entry in absolute if Path(entry) != here.resolve() or Path(entry) == home.resolve()]


def _python() -> str:
    found = _find(sys.executable or "", bool(getattr(sys, "frozen", False)), sys.prefix, sys.base_prefix)
    if found is None:
        name = Path(sys.executable or sys.argv[0] or "it").name
        raise MissingError(
            f"this needs a process of its own, and {name} is not a Python interpreter that could be started",
            "Run edgetl from a Python environment.",
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
    """Whether `path` is a Python of the same version, which can load the same packages."""
    program = "import sys; print(sys.implementation.cache_tag)"
    try:
        said = subprocess.run([path, "-I", "-c", program], capture_output=True, text=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == sys.implementation.cache_tag
