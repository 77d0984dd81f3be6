"""Which device trains, and what is said about it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
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


@pytest.mark.parametrize("found", [{"opencv-contrib-python": "4.13.0.92"}, {}])
def test_opencv_comes_in_other_packages(found: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the documents call as good, and that of a system, which no package tells of."""

    def version(name: str) -> str:
        if "opencv" in name and name not in found:
            raise PackageNotFoundError(name)
        return found.get(name, "1.0")

    monkeypatch.setattr("toolchain.training.context.version", version)
    described = describe_environment(torch.device("cpu"))
    assert {name: one for name, one in described.items() if "opencv" in name} == found


@pytest.mark.parametrize(("name", "device"), [("cuda", "cuda:1"), ("auto", "cuda:1"), ("cuda:0", "cuda:0")])
def test_each_process_of_torchrun_takes_a_gpu_of_its_own(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(name, Silent()) == torch.device(device)
    monkeypatch.setenv("LOCAL_RANK", "2")
    if name != "cuda:0":
        with pytest.raises(MissingError, match=r"cuda:2: torch .* finds 2 CUDA devices"):
            choose_device(name, Silent())
