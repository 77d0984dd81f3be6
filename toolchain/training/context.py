"""What every step of a training run shares, the machine that it runs on included."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from toolchain.datasets import Dataset, Photograph
from toolchain.errors import BadInputError, MissingError
from toolchain.images.reader import Reader
from toolchain.runtimes.devices import cpu_name
from toolchain.runtimes.machine import PACKAGES
from toolchain.system.processor import cores, cpu_quota
from toolchain.system.progress import Reporter
from toolchain.training.previous import Previous
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

AUTO_PICTURES = 20_000
AUTO_EPOCHS = (4, 30)
"""`--epochs auto`: as many epochs as show this many pictures, between these."""

AUTO_PATIENCE = 4

TRAINING = "epoch */*"
EVALUATION = "epoch * on *"
REFIT = "refit: epoch */*"
"""Tasks by their descriptions: an epoch's training, its evaluation, and an epoch with validation photographs."""


@dataclass(frozen=True)
class TrainContext:
    """What is trained, on what, and where: the run is written to `folder` and computed on `device`.

    `dataset` holds only photographs that can be read, by `reader`; `outliers` are pictures of other things.
    `seconds` is filled with what each step took.
    """

    settings: TrainSettings
    dataset: Dataset
    outliers: tuple[Photograph, ...]
    reader: Reader
    device: torch.device
    team: Team
    folder: Path
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)
    previous: Previous | None = None
    """The run that this one goes on from."""
    seen: frozenset[str] = frozenset()
    """SHA-256 of the photographs that have taught the network that training starts from, as far as is known."""

    @property
    def photos(self) -> tuple[Photograph, ...]:
        """The photographs that fine-tuning learns from."""
        return self.dataset.splits["train"]

    @property
    def probed(self) -> tuple[Photograph, ...]:
        """What the linear probe is fitted on: photographs for training and for calibration.

        What int8 is calibrated on may teach: its promises are kept on val, which neither trains nor calibrates.
        """
        return self.photos + self.dataset.splits["calibration"]

    @property
    def with_validation(self) -> TrainContext:
        """The same where all photographs but test teach, with as many epochs."""
        splits = self.dataset.splits
        taught = {**splits, "train": self.probed + splits["val"], "calibration": ()}
        settings = replace(self.settings, epochs=self.epochs)
        return replace(self, settings=settings, dataset=replace(self.dataset, splits=taught))

    @property
    def same(self) -> dict[int, int]:
        """By label, the row of the old head of each class that the run before knew."""
        return self.previous.same(self.dataset.classes) if self.previous else {}

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.dataset.classes)

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        least, most = AUTO_EPOCHS
        return self.settings.epochs or min(max(round(AUTO_PICTURES / len(self.photos)), least), most)

    @property
    def patience(self) -> int:
        """How many epochs may pass without a better one; 0 for all of them."""
        if self.settings.patience is not None:
            return self.settings.patience
        return 0 if self.settings.epochs else AUTO_PATIENCE

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to `seconds[step]`."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - started, 3)


def choose_device(name: str, reporter: Reporter) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises BadInputError for another name, MissingError for a device that this machine has not.
    """
    name = name.lower()
    kind, _, index = name.partition(":")
    if kind not in {"auto", "cpu", "cuda", "mps"} or (index and (kind != "cuda" or not index.isdigit())):
        raise BadInputError(f"unknown device {name!r}", "Choose auto, cpu, cuda, cuda:N or mps.")
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "auto":
        if not has_cuda and shutil.which("nvidia-smi"):
            reporter.warn(
                f"this machine has an NVIDIA driver, but torch {torch.__version__} finds no CUDA device; "
                "training on the CPU"
            )
        if not has_cuda:
            return torch.device("mps" if has_mps else "cpu")
        kind = "cuda"
    if kind == "cuda" and not index:
        # Each process of `torchrun` takes a GPU of its own.
        index = os.environ.get("LOCAL_RANK", "0")
        name = f"cuda:{index}"
    if kind == "cuda" and (not has_cuda or int(index or 0) >= torch.cuda.device_count()):
        found = f"{torch.cuda.device_count()} CUDA devices" if has_cuda else "no CUDA device"
        raise MissingError(f"{name}: torch {torch.__version__} finds {found}", "Use --device auto.")
    if kind == "mps" and not has_mps:
        raise MissingError(f"torch {torch.__version__} finds no MPS device", "Use --device auto.")
    if kind == "cpu" and has_cuda:
        reporter.warn(f"training on the CPU although there is a {torch.cuda.get_device_name()}")
    return torch.device(name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are computed in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def describe_environment(device: torch.device) -> dict[str, Any]:
    """What `run.json` records about the machine and its software."""
    packages = ("torch", "torchvision", "numpy", *PACKAGES["opencv"], "scipy")
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "quota_cores": cpu_quota(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "bfloat16": has_fast_bfloat16(device),
        "os": platform.platform(),
        "python": platform.python_version(),
        **_versions(packages),
    }


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Those of the packages that are there: OpenCV comes in one of several, or is the system's own."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
