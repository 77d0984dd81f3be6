"""What this machine can run, and what is missing. Here: the packages of the device half, none of them imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

NEEDED = {
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
}
"""Modules, and what installs them. (Without click, msgspec and rich no command would start.)"""

BROUGHT = {
    **NEEDED,
    "openvino": "openvino",
    "pygame": "pygame-ce",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}
"""The same with what a small device can do without: OpenVINO's devices, windows, pages."""


@dataclass(frozen=True)
class Missing:
    """Something that is not here, and the line that would change it. `necessary`: the device half needs it."""

    what: str
    fix: str
    necessary: bool


def missing_packages(needed: Mapping[str, str] = NEEDED) -> list[Missing]:
    """Which of `needed` are not installed."""
    return [
        Missing(f"the package {package}", f"pip install {package}", necessary=True)
        for module, package in needed.items()
        if find_spec(module) is None
    ]
