"""How an extra of edgetl is installed beside this one: from the checkout or the file that it came from.

Not from a registry by name, unless pip says that edgetl came from one: the name may be somebody else's there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME = "edgetl"


@cache
def install(extra: str) -> str:
    """The command that installs what `extra` brings: `pip install -e '/home/me/edgetl[train]'`, for example."""
    try:
        found: Distribution | None = distribution(NAME)
    except PackageNotFoundError:
        found = None
    return command(extra, found, Path(__file__).parents[2])


def command(extra: str, found: Distribution | None, beside: Path) -> str:
    """The same for an installed distribution, or for one that is only on the path, in the folder `beside`."""
    direct = json.loads((found.read_text("direct_url.json") if found else None) or "{}")
    location = urlsplit(direct.get("url", ""))
    if location.scheme == "file":
        path = Path(url2pathname(location.path))
        if path.exists():
            editable = direct.get("dir_info", {}).get("editable", False)
            return _pip(f"{path}[{extra}]", editable=editable)
    elif vcs := direct.get("vcs_info"):
        commit = vcs.get("commit_id", "")
        return _pip(f"{NAME}[{extra}] @ {vcs['vcs']}+{direct['url']}" + (f"@{commit}" if commit else ""))
    elif location.scheme:
        return _pip(f"{NAME}[{extra}] @ {direct['url']}")
    if (beside / "pyproject.toml").is_file():
        return _pip(f"{beside}[{extra}]", editable=True)
    return _pip(*(_requirements(found, extra) if found else [f"{NAME}[{extra}]"]))


def _requirements(found: Distribution, extra: str) -> list[str]:
    """What the extra consists of, by the metadata of what is installed; extras within it are followed."""
    listed: list[str] = []
    for line in found.requires or ():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if not re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
            continue
        if inner := re.match(rf"{NAME}\[([\w, -]+)\]", requirement):
            listed += [one for name in inner[1].split(",") for one in _requirements(found, name.strip())]
        else:
            listed.append(requirement)
    return listed


def _pip(*what: str, editable: bool = False) -> str:
    quoted = [f"'{one}'" if os.name == "posix" and "'" not in one else shlex.quote(one) for one in what]
    if os.name == "nt":
        quoted = [f'"{one}"' for one in what]
    return " ".join(["pip install", *(["-e"] if editable else []), *quoted])
