"""What the tests of the benchmark share."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_support import colour_artifact, write_photographs

from toolchain.artifact import Artifact
from toolchain.bench import turns


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network this small needs no long measurement."""
    monkeypatch.setattr(turns, "THROUGHPUT_S", 0.05)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve test photographs of three colours, in a folder. Not to be written to."""
    return write_photographs(tmp_path_factory.mktemp("photographs") / "colours")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A float artifact that knows the photographs. Not to be written to."""
    return colour_artifact(tmp_path_factory.mktemp("run") / "model.onnx")
