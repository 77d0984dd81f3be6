"""Which device trains, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import Recorder
from toolchain.errors import BadInputError, MissingError
from toolchain.system.progress import Silent
from toolchain.training.context import choose_device, describe_environment


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_does_not_find_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Recorder()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_device("auto", listener).type in {"cpu", "mps"}
    assert not listener.warned
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    choose_device("auto", listener)
    assert len(listener.warned) == 1
    assert "NVIDIA driver" in listener.warned[0]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="unknown device"):
        choose_device(name, Silent())


def test_small_letters_and_capitals_are_the_same(tmp_path: Path) -> None:
    assert choose_device("CPU", Silent()).type == "cpu"


def test_a_device_that_is_not_there_is_missing() -> None:
    with pytest.raises(MissingError):
        choose_device("cuda:99", Silent())


def test_the_machine_is_described() -> None:
    described = describe_environment(torch.device("cpu"))
    assert described["torch"].startswith(torch.__version__.split("+")[0])
    assert described["cores"] >= 1
