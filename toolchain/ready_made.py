"""The pets model that comes with edgetl: inside an installed package, beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

import toolchain
from toolchain.errors import MissingError

ARTIFACT_FILE = "model.int8.onnx"
WEIGHTS_FILE = "model.safetensors"


def ready_made_artifact() -> Path:
    """The ready-made breed classifier, int8. Raises MissingError where edgetl came without it."""
    return _find(ARTIFACT_FILE)


def ready_made_weights() -> Path:
    """The ready-made classifier's weights, to start training from. Raises MissingError where they are not there."""
    return _find(WEIGHTS_FILE)


def _find(name: str) -> Path:
    package = Path(toolchain.__file__).parent
    for root in (package, package.parent):
        path = root / "models" / "pets" / name
        if path.is_file():
            return path
    raise MissingError(
        f"the ready-made model is not there: {package / 'models' / 'pets' / name}",
        "Install edgetl whole, or name a model file that `edgetl export` wrote.",
    )
