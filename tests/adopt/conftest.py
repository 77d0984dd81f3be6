"""Networks that edgetl did not train: their own head, random weights, and statistics of BatchNorm that fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from toolchain.drawn.pets import CLASSES, draw
from toolchain.runs import Run

NAME = "mobilenet_v3_small"
LABELS = "cup\nplate\nspoon\nfork\nknife\n"


def settled(network: nn.Module, side: int = 64) -> nn.Module:
    """Let BatchNorm see some noise, so that random weights give answers that depend on the picture."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, 3, side, side))
    return network.eval()


@pytest.fixture(scope="session")
def original() -> nn.Module:
    """torchvision's own network with 1000 classes. Not to be changed."""
    torch.manual_seed(5)
    network = models.mobilenet_v3_small(weights=None)
    nn.init.normal_(network.classifier[3].weight, std=0.2)
    return settled(network)


@pytest.fixture(scope="session")
def published_file(tmp_path_factory: pytest.TempPathFactory, original: nn.Module) -> Path:
    """Its state dict in a file, as a publisher has it."""
    path = tmp_path_factory.mktemp("published") / "published.safetensors"
    save_file(original.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def adopted(tmp_path_factory: pytest.TempPathFactory, published_file: Path) -> Path:
    """The run that became of it. Not to be written to."""
    from tests.conftest import Recorder
    from toolchain.adopt.published import adopt_published

    folder = tmp_path_factory.mktemp("adopted") / "run"
    run = adopt_published(NAME, folder, weights=str(published_file), command="edgetl adopt", reporter=Recorder())
    assert isinstance(run, Run)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 drawn pictures without labels. Not to be written to."""
    folder = tmp_path_factory.mktemp("photographs")
    for index in range(12):
        bgr = cv2.cvtColor(draw(CLASSES[index % len(CLASSES)], index, size=96), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{index:02}.jpg"), bgr)
    return folder


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the five files and labels.txt. Not to be written to."""
    from tests.adopt.foreign_models import MAKERS  # which needs what is above

    folder = tmp_path_factory.mktemp("foreign")
    for name, make in MAKERS.items():
        if name == "timm":
            pytest.importorskip("timm")
        make(folder / f"{name}.onnx")
    (folder / "labels.txt").write_text(LABELS, encoding="utf-8")
    return folder
