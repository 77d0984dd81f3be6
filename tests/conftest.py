"""Data that many tests use."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from ssh_server import board, ssh_server

from toolchain.datasets.shares import split_by_hash
from toolchain.drawn.pets import draw
from toolchain.images.preprocess import Preprocess
from toolchain.system.progress import Silent

if TYPE_CHECKING:
    from torch import nn

__all__ = ["board", "ssh_server"]

if "PYTEST_XDIST_WORKER" in os.environ:
    # PyTorch computes with one thread in each process of tests: more would spin, and wait for the other processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

WANTED = {"train": 5, "val": 1, "calibration": 1, "test": 1}
"""Pictures for each class of `drawn_folder`."""

QUICK = {
    "model": "mobilenet_v3_small",
    "epochs": 2,
    "batch_size": 8,
    "device": "cpu",
    "preprocess": Preprocess(height=64, width=64, shortest_edge=64),
}
"""Settings of a run that takes two seconds."""


class Recorder(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)


def lively(name: str, classes: int, seed: int) -> nn.Module:
    """A network of random weights and fitting BatchNorm statistics: its answers depend on the picture."""
    import torch

    from toolchain.backbones.networks import build, head_of

    torch.manual_seed(seed)
    network = build(name, classes)
    torch.nn.init.normal_(head_of(network).weight, std=0.5)
    torch.nn.init.normal_(head_of(network).bias)
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded photographs of tests do not go into the user's cache, and no terminal of the user's folds tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        patch.setenv("EDGETL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with 24 drawn pictures, 96 pixels wide: cat, dog and fish.

    Every class has photographs in every split, whatever JPEG encoder this OpenCV has. Not to be written to.
    """
    root = tmp_path_factory.mktemp("drawn")
    for label in ("cat", "dog", "fish"):
        (root / label).mkdir()
        have: Counter[str] = Counter()
        for index in range(1000):
            bgr = cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr)[1].tobytes()
            split = split_by_hash(hashlib.sha256(data).hexdigest())
            if have[split] < WANTED[split]:
                have[split] += 1
                (root / label / f"{label}-{index:03}.jpg").write_bytes(data)
            if have == WANTED:
                break
        assert have == WANTED
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs, `$EDGETL_DATA`; skips the test where it does not hold the pets."""
    chosen = os.environ.get("EDGETL_DATA")
    if not chosen:
        pytest.skip("EDGETL_DATA is not set: no real photographs")
    root = Path(chosen).expanduser().absolute()
    if not (root / "oxford-iiit-pet" / "images").is_dir():
        pytest.skip(f"{root} does not hold oxford-iiit-pet")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a mobilenet_v3_small in a file, so that fine-tuning treats them as pretrained."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    state = lively("mobilenet_v3_small", 2, seed=3).state_dict()
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}, path)
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, drawn_folder: Path, weights: Path) -> Path:
    """A finished run on `drawn_folder`. Not to be written to."""
    from toolchain.training.finetune import finetune
    from toolchain.training.settings import TrainSettings

    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = TrainSettings(data=str(drawn_folder), weights=str(weights), **QUICK)  # type: ignore[arg-type]
    finetune(settings, folder, command="edgetl finetune")
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """A copy of `run_folder` with model.onnx and model.int8.onnx in it. Not to be written to."""
    import shutil

    from toolchain.export.exporting import export
    from toolchain.export.results import QuantizationSettings as Int8

    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(run_folder, folder)
    export(folder, int8=Int8(max_drop_pp=100, min_speed_up=0))
    return folder
