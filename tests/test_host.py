"""A program that imports edgetl and loads a model finds itself as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import deployed_run

STATE = """
import faulthandler, gc, locale, logging, os, resource, signal, socket, sys, threading, tempfile, warnings
{before}
def state():
    found = {{
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": [line for line in open("/proc/self/status") if line.startswith("Umask")],
        "signals": {{number: str(signal.getsignal(number)) for number in signal.valid_signals()}},
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": list(warnings.filters),
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, threading.excepthook,
                  warnings.showwarning, sys.gettrace(), sys.getprofile()],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "path": (list(sys.path), [str(finder) for finder in sys.meta_path], len(sys.path_hooks)),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), resource.getrlimit(resource.RLIMIT_NOFILE)),
        "logging": (logging.root.level, logging.root.handlers, logging.root.manager.disable),
        "others": (gc.isenabled(), gc.get_threshold(), faulthandler.is_enabled(), socket.getdefaulttimeout(),
                   tempfile.tempdir, os.nice(0), sorted(os.sched_getaffinity(0))),
    }}
    cv2 = sys.modules.get("cv2")
    if cv2:
        level = cv2.getLogLevel if hasattr(cv2, "getLogLevel") else cv2.utils.logging.getLogLevel
        found["OpenCV"] = (level(), cv2.getNumThreads(), cv2.useOptimized())
    numpy = sys.modules.get("numpy")
    if numpy:
        found["NumPy"] = (numpy.geterr(), numpy.get_printoptions())
        found["random"] = numpy.random.get_state()[1].tolist()
    torch = sys.modules.get("torch")
    if torch:
        found["PyTorch"] = (torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled(),
                            torch.get_default_dtype(),
                            torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled)
        found["random in PyTorch"] = torch.get_rng_state().tolist()
    return found
before = state()
{work}
after = state()
for name in before:
    assert not {strict} or before[name] == after[name], (name, before[name], after[name])
import json, re
print(json.dumps({{name: re.sub(" at 0x[0-9a-f]+", "", repr(value)) for name, value in after.items()}}))
"""

WORK = """
import toolchain
for threads in (1, 3):
    classifier = toolchain.load({path!r}, {device!r}, threads)
    import numpy
    classifier.predict(numpy.zeros((64, 64, 3), numpy.uint8))
    try:
        classifier.predict(b"no picture")
    except Exception as error:
        assert "not a readable picture" in str(error), error
"""
LIBRARIES = {
    "ort:cpu": "import cv2, onnx, onnxruntime",
    "openvino:CPU": "import cv2, onnx, openvino",
    "torch:cpu": "import cv2, onnx, torch, torchvision",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed_run(tmp_path_factory.mktemp("run")).path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("device", LIBRARIES)
def test_nothing_that_a_program_could_notice_changes(path: Path, device: str) -> None:
    """Neither where the libraries are there already, nor where edgetl brings them (but for what they do)."""
    work = WORK.format(path=str(path), device=device)
    found = []
    for before in (LIBRARIES[device], ""):
        code = STATE.format(before=before, work=work, strict=bool(before))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.splitlines()[-1:]
        found.append(json.loads(done.stdout))
    there, brought = found
    for name, value in there.items():
        assert name.startswith("random") or brought[name] == value, name
