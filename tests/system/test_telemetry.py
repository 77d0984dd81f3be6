"""Nothing is sent, and nothing is left in the home folder, whatever the libraries would do by themselves."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import toolchain
from tests.artifacts import tiny_artifact
from tests.clips import write_clip

PACKAGE = Path(toolchain.__file__).parent
LIBRARIES = {"onnxruntime", "openvino", "nncf"}

PROGRAM = """
import sys, time
from pathlib import Path
asked = []
sys.addaudithook(lambda event, values: asked.append(values[0]) if event == "socket.getaddrinfo" else None)
from toolchain.cli import run
from toolchain.timing.process import probe_devices
place = Path(sys.argv[1])
model = str(place / "tiny.onnx")
for device in ("ort:cpu", "openvino:CPU"):
    assert run(["predict", model, str(place / "red.png"), "--device", device, "--quiet", "--json"]) == 0
assert run(["camera", model, "--source", str(place / "clip.mp4"), "--json", "--as-fast-as-possible"]) == 0
assert all(device.available for device in probe_devices(["ort:cpu", "openvino:CPU"]))  # in a child process
import toolchain.export.variants
from toolchain.export.int8.quantisers import nncf, onnxruntime
from toolchain.system import telemetry
with telemetry.off():
    import nncf
time.sleep(1)  # some report once all is quiet
assert not asked, asked
assert "openvino_telemetry" not in sys.modules
import openvino.tools.ovc.telemetry_utils as ovc
assert ovc.tm.__name__.endswith("stub"), ovc.tm
"""
"""What uses each library once, in this process and in a child."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cv2

    from tests.clips import plain

    folder = tmp_path_factory.mktemp("telemetry")
    tiny_artifact(folder / "tiny.onnx")
    write_clip(folder / "clip.mp4", ["red"] * 5)
    cv2.imwrite(str(folder / "red.png"), plain("red"))
    return folder


def _fresh(home: Path) -> dict[str, str]:
    """An environment in which nothing is switched off: CI is one of the switches."""
    switches = {"CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "EDGETL_CACHE"}
    switches |= {name for name in os.environ if "TELEMETRY" in name or name.startswith("NNCF")}
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    return kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.slow
def test_nothing_is_asked_and_the_home_folder_stays_empty(place: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place)],
        env=_fresh(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [str(path) for path in tmp_path.rglob("*")] == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
def test_no_host_is_looked_up_or_connected_to(place: Path, tmp_path: Path) -> None:
    trace, home = tmp_path / "trace", tmp_path / "home"
    home.mkdir()
    strace = ["strace", "-f", "-qq", "-e", "trace=network,openat", "-o", str(trace)]
    done = subprocess.run(
        [*strace, sys.executable, "-c", PROGRAM, str(place)],
        env=_fresh(home),
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr and not trace.stat().st_size:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text(errors="replace").splitlines()
    assert any("onnxruntime_pybind11_state" in line for line in lines), "it saw what was opened"
    found = [line for line in lines if re.search(r"AF_INET|resolv\.conf|/etc/hosts|nsswitch", line)]
    assert found == []
    assert list(home.iterdir()) == []


def test_a_host_program_notices_nothing(tmp_path: Path) -> None:
    program = """
import os, sys
from toolchain.system import telemetry
before = dict(os.environ)
with telemetry.off():
    import onnxruntime, openvino
assert before == dict(os.environ)
assert "openvino_telemetry" not in sys.modules
import openvino_telemetry
with telemetry.off():
    pass
assert sys.modules["openvino_telemetry"] is openvino_telemetry
"""
    for chosen in ({}, {"ORT_DISABLE_TELEMETRY": "0"}):
        subprocess.run([sys.executable, "-c", program], env=_fresh(tmp_path) | chosen, check=True)


def test_these_libraries_are_imported_with_telemetry_off_only() -> None:
    found = 0
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        quiet = {
            inner
            for block in ast.walk(tree)
            if (isinstance(block, ast.With) and ast.unparse(block.items[0].context_expr) == "telemetry.off()")
            or (isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING")  # is never run
            for inner in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {(node.module or "").partition(".")[0]}
            else:
                continue
            if names & LIBRARIES:
                found += 1
                assert node in quiet, f"{path.relative_to(PACKAGE)}:{node.lineno}"
    assert found > 5
