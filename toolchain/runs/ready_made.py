"""The pets model that comes with edgetl: inside an installed package, beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

import toolchain
from toolchain.errors import BadInputError, MissingError

ARTIFACT_FILE = "model.int8.onnx"
WEIGHTS_FILE = "model.safetensors"

READY_MADE = "ready-made"
"""The name of these weights on the command line."""

MODEL = "mobilenet_v2"
"""The network that they belong to."""


def ready_made_artifact() -> Path:
    """The ready-made breed classifier, int8. Raises MissingError where edgetl came without it."""
    return _find(ARTIFACT_FILE)


def ready_made_weights() -> Path:
    """The ready-made classifier's weights, to start training from. Raises MissingError where they are not there."""
    return _find(WEIGHTS_FILE)


def weights_file(weights: str, model: str) -> Path | None:
    """The file that `--weights` stands for; None for `imagenet`, `imagenet-v1` and `none`, which stand for no file.

    Raises BadInputError where it is not there, or of another network than `model`. There is no torch in here: a
    mistake is reported before torch is loaded.
    """
    path = Path(weights)
    if weights in {"imagenet", "imagenet-v1", "none"}:
        return None
    if weights == READY_MADE and not path.is_file():
        if model != MODEL:
            raise BadInputError(
                f"the ready-made weights are those of a {MODEL}, not of a {model}", "Leave --model out."
            )
        return ready_made_weights()
    if not path.is_file():
        hint = "Pass a .safetensors or .pth file, `imagenet`, `imagenet-v1`, `ready-made` or `none`."
        raise BadInputError(f"weights {weights} do not exist", hint)
    return path


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
