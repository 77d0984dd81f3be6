"""Processes that edgetl starts: Python, isolated, and never the program itself once more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from artifacts import tiny_artifact

import toolchain
from toolchain.errors import MissingError
from toolchain.system import interpreter

CHECK = """
import json, sys
from toolchain.doctor import report as checkup
from toolchain.timing.process import probe_devices
pairing = checkup.check_pairing("print('ran')")
devices = {device.name: device.available for device in probe_devices(["ort:cpu"])}
print(json.dumps([devices, pairing.status, checkup.check_camera(97).reason]))
"""


def program(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a program while standing in `folder`, of which the program itself sees nothing."""
    begin = f"import sys; sys.path[:] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", begin + text],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_code_of_the_current_folder_is_not_run(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w'); raise SystemExit('a trap')"
    for name in ("queue.py", "socket.py", "cv2.py", "torch.py", "numpy.py", "msgspec.py", "sitecustomize.py"):
        (tmp_path / name).write_text(trap)
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain" / "__init__.py").write_text(trap)
    # As a notebook has it: the folder where it stands is on its path, and all is imported already.
    here = f"import toolchain.doctor.report, toolchain.timing.process\nsys.path.insert(0, {str(tmp_path)!r})\n"
    for before in ("", here):
        done = program(tmp_path, before + CHECK)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0] == {"ort:cpu": True}
    assert not (tmp_path / "sprung").exists()


def test_the_standard_library_comes_before_what_lies_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "own_module.py").write_text("NAME = 'own'")
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
import subprocess
from toolchain.system import interpreter
command = interpreter.command("import queue, own_module; print(own_module.NAME, sys.argv[1:])", "one", "-x")
print(subprocess.run(command, capture_output=True, text=True).stdout, end="")
"""
    assert program(Path.cwd(), code).stdout == "own ['one', '-x']\n"


def test_a_process_has_the_edgetl_that_started_it(tmp_path: Path) -> None:
    code = "from toolchain.system import interpreter\nimport subprocess\n"
    code += "command = interpreter.command('import toolchain; print(toolchain.__file__)')\n"
    code += "print(subprocess.run(command, capture_output=True, text=True).stdout, end='')"
    assert program(tmp_path, code).stdout == f"{toolchain.__file__}\n"
    # Where it is not the one that is installed, it is found all the same.
    shutil.copytree(Path(toolchain.__file__).parent, tmp_path / "other" / "toolchain")
    code = f"sys.path.insert(0, {str(tmp_path / 'other')!r})\n{code}"
    assert program(tmp_path, code).stdout == f"{tmp_path}/other/toolchain/__init__.py\n"


@pytest.mark.skipif(os.name != "posix", reason="a script that is a program")
@pytest.mark.parametrize(("frozen", "name"), [(True, "app"), (True, "python3"), (False, "uwsgi")])
def test_a_program_that_is_no_python_is_not_started_again(tmp_path: Path, frozen: bool, name: str) -> None:
    app = tmp_path / name
    app.write_text(f"#!/bin/sh\necho started >> {tmp_path / 'started'}\n")
    app.chmod(0o755)
    done = program(tmp_path, f"sys.frozen = {frozen}; sys.executable = {str(app)!r}\n{CHECK}")
    devices, pairing, camera = json.loads(done.stdout)
    assert not (tmp_path / "started").exists()
    assert devices == {"ort:cpu": True}
    if frozen:
        assert (pairing, camera.partition(":")[0]) == ("not tried", "not tried"), "there is nothing to start"
    else:
        assert (pairing, camera) == ("works", "it gives no picture"), "its Python was found"


@pytest.mark.slow
def test_a_frozen_app_cannot_measure_and_says_so(tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    begin = "sys.frozen = True\nfrom toolchain.cli import run\n"
    done = program(tmp_path, f"{begin}sys.exit(run(['bench', 'model.onnx', '--device', 'ort:cpu']))")
    assert done.returncode == 3
    assert "not a Python interpreter" in done.stderr
    done = program(
        tmp_path, "sys.frozen = True\nfrom toolchain.cli import run\nsys.exit(run(['doctor', '--json']))"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {device["name"] for device in found["devices"] if device["available"]} >= {"ort:cpu", "openvino:CPU"}


def test_there_is_no_python_where_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(MissingError, match="not a Python interpreter"):
        interpreter.command("")
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin" / "python3"
    other.write_text("#!/bin/sh\necho cpython-27\n")
    other.chmod(0o755)
    interpreter._find.cache_clear()
    with pytest.raises(MissingError):
        interpreter.command("")
    interpreter._find.cache_clear()
