"""What this repository takes from others is named by what it is, not by a name that may come to mean another."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source distribution has no workflows")
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yml")), ROOT / "docs/how-to/bench-gate.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_digest(path: Path) -> None:
    used = re.findall(r"uses: *(\S+)", path.read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_installs_edgetl_by_a_name_that_anybody_may_register(path: Path) -> None:
    assert not re.search(r"pip install[^\n]*\s['\"]?edgetl", path.read_text(encoding="utf-8"))


def test_the_whole_run_of_ci_installs_pinned_versions() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all([one.operator for one in pin.specifier] == ["=="] for pin in pinned)
    names = {canonicalize_name(pin.name): pin for pin in pinned}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    wanted = {canonicalize_name(Requirement(line).name) for name in ("docs", "test") for line in extras[name]}
    assert {"numpy", "onnx", "onnxruntime", "openvino", "opencv-python-headless", "torch"} <= set(names)
    assert wanted - {"edgetl"} <= set(names)
    # Constraints must not shut out what pyproject.toml asks for.
    for found in re.findall(r'"([A-Za-z][\w.-]*)\s*(>=[\d.]+)', text):
        name = canonicalize_name(found[0])
        if name in names:
            [version] = [one.version for one in names[name].specifier]
            assert Requirement(f"{name}{found[1]}").specifier.contains(version, prereleases=True), name


def test_notice_names_the_encoders_that_wheels_bring() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert re.search(r"PyAV[^)]*x264 and x265", notice)
