"""edgetl: photographs to an image classifier on an edge device, with nothing lost on the way.

    import toolchain

    classifier = toolchain.load("model.onnx")
    prediction = classifier.predict("cat.jpg")     # a path, encoded bytes, or an RGB uint8 frame
    print(prediction.answer or "not sure", prediction.probability)

`finetune`, `export`, `bench` and `watch` do what the commands do. All errors that a user can act upon are an
EdgetlError.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from toolchain._version import __version__

if TYPE_CHECKING:
    from toolchain.artifact.card import Card
    from toolchain.bench.interface import bench
    from toolchain.bench.results import BenchReport
    from toolchain.camera.answering import Answered
    from toolchain.camera.session import CameraReport, watch
    from toolchain.classifier import Classifier, Prediction, load
    from toolchain.errors import (
        ArtifactError,
        BadInputError,
        EdgetlError,
        ExitCode,
        FallbackError,
        MissingError,
        PromiseBrokenError,
        UnreadableImageError,
    )
    from toolchain.export.interface import export
    from toolchain.export.results import Exported
    from toolchain.runs import Run
    from toolchain.training.interface import finetune

__all__ = [
    "Answered",
    "ArtifactError",
    "BadInputError",
    "BenchReport",
    "CameraReport",
    "Card",
    "Classifier",
    "EdgetlError",
    "ExitCode",
    "Exported",
    "FallbackError",
    "MissingError",
    "Prediction",
    "PromiseBrokenError",
    "Run",
    "UnreadableImageError",
    "__version__",
    "bench",
    "export",
    "finetune",
    "load",
    "watch",
]

_PLACES = {
    **dict.fromkeys(("Classifier", "Prediction", "load"), "classifier"),
    **dict.fromkeys(("CameraReport", "watch"), "camera.session"),
    "Answered": "camera.answering",
    "BenchReport": "bench.results",
    "Card": "artifact.card",
    "Exported": "export.results",
    "Run": "runs",
    "finetune": "training.interface",
}
"""Where what is no error and no package lives."""


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import toolchain` costs nothing on a small machine.
    if name in {"bench", "export"}:
        return import_module(f"toolchain.{name}")  # packages that can be called
    if name in __all__:
        return getattr(import_module(f"toolchain.{_PLACES.get(name, 'errors')}"), name)
    raise AttributeError(f"module 'toolchain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
