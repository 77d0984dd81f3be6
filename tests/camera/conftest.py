"""One tiny classifier for the tests of a module."""

from __future__ import annotations

import pytest

from tests.artifacts import tiny_artifact
from toolchain.classifier import Classifier, load


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load(tiny_artifact(tmp_path_factory.mktemp("tiny") / "tiny.onnx"))
