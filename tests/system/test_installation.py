"""Install hints name the place that edgetl came from."""

from __future__ import annotations

import json
import os
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from toolchain.system import installation

pytestmark = pytest.mark.skipif(os.name == "nt", reason="quotes are others there")

REQUIRES = """
Requires-Dist: click>=8.4
Requires-Dist: torch>=2.14; extra == 'train'
Requires-Dist: edgetl[record,report]; extra == "train"
Requires-Dist: av>=14.0; extra == 'record'
Requires-Dist: jinja2>=3.1; extra == 'report'
Requires-Dist: tomli>=2; python_version < '3.11'
"""


def installed(folder: Path, direct: dict[str, object] | None) -> Distribution:
    info = folder / "edgetl-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: edgetl\nVersion: 1{REQUIRES}")
    if direct is not None:
        (info / "direct_url.json").write_text(json.dumps(direct))
    return PathDistribution(info)


def test_a_checkout(tmp_path: Path) -> None:
    there = tmp_path / "a folder"
    there.mkdir()
    direct: dict[str, object] = {"url": there.as_uri(), "dir_info": {"editable": True}}
    assert (
        installation.command("train", installed(tmp_path, direct), tmp_path) == f"pip install -e '{there}[train]'"
    )


def test_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "edgetl-1-py3-none-any.whl"
    wheel.touch()
    direct: dict[str, object] = {"url": wheel.as_uri(), "archive_info": {}}
    assert installation.command("heic", installed(tmp_path, direct), tmp_path) == f"pip install '{wheel}[heic]'"


@pytest.mark.parametrize("direct", [None, {"url": "file:///no/such/edgetl.whl", "archive_info": {}}])
def test_a_registry_or_a_file_that_is_gone(tmp_path: Path, direct: dict[str, object] | None) -> None:
    found = installed(tmp_path, direct)
    assert installation.command("train", found, tmp_path) == "pip install 'torch>=2.14' 'av>=14.0' 'jinja2>=3.1'"
    assert installation.command("record", found, tmp_path) == "pip install 'av>=14.0'"


def test_a_repository(tmp_path: Path) -> None:
    vcs = {"vcs": "git", "commit_id": "abc"}
    direct: dict[str, object] = {"url": "https://host.example/edgetl", "vcs_info": vcs}
    hint = installation.command("train", installed(tmp_path, direct), tmp_path)
    assert hint == "pip install 'edgetl[train] @ git+https://host.example/edgetl@abc'"


def test_a_checkout_that_is_only_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert installation.command("train", None, tmp_path) == f"pip install -e '{tmp_path}[train]'"
