"""A run folder that every runtime can load from, made without training."""

from __future__ import annotations

from pathlib import Path

from tests.artifacts import COLOURS, tiny_artifact
from tests.conftest import lively
from toolchain.artifact import FLOAT_FILE, Artifact
from toolchain.artifact.card import Source
from toolchain.images.preprocess import Preprocess
from toolchain.runs import RUN_FILE, RUN_SCHEMA, WEIGHTS_FILE, DataRecord, ModelRecord, Run
from toolchain.system import files

MODEL = "mobilenet_v3_small"


def deployed_run(folder: Path) -> Artifact:
    """Random weights of a real network for PyTorch, and a small file of its own for the other runtimes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    network = lively(MODEL, len(COLOURS), seed=0)
    save_file(network.state_dict(), folder / WEIGHTS_FILE)
    sha256 = files.sha256_of(folder / WEIGHTS_FILE)
    data = DataRecord("colours", "colours", COLOURS, {}, 0, "0" * 64, {})
    model = ModelRecord(MODEL, 0, "none", None, "", sha256, "probe", 0)
    size = Preprocess(height=32, width=32, shortest_edge=32)
    run = Run(RUN_SCHEMA, "0", "", data, model, size, 1.0, None, {}, {}, {}, {}, {})
    files.write_json(folder / RUN_FILE, run)
    source = Source("colours", "run", "by hand", None, "colours", {}, sha256)
    return tiny_artifact(folder / FLOAT_FILE, source=source)
