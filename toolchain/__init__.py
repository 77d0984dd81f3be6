"""edgetl: photographs to an image classifier on an edge device, with nothing lost on the way.

A program needs three names:

    import toolchain

    classifier = toolchain.load("model.onnx")
    prediction = classifier.predict("cat.jpg")     # a path, encoded bytes, or an RGB uint8 frame
    print(prediction.answer or "not sure", prediction.probability)
"""

from typing import TYPE_CHECKING, Any

from toolchain._version import __version__

if TYPE_CHECKING:
    from toolchain.classifier import Classifier, Prediction, load

__all__ = ["Classifier", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import toolchain` costs nothing on a small machine.
    if name in {"Classifier", "Prediction", "load"}:
        from toolchain import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'toolchain' has no attribute {name!r}")
