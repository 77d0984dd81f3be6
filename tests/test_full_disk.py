"""A disk that is full: an error that names the file, nothing half-written, and never a defect."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest
import torch

from tests.artifacts import tiny_card, tiny_model
from tests.full_disk import files_of_at_most
from toolchain.artifact import Artifact
from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.export import variants
from toolchain.system import files
from toolchain.system.folders import scratch_folder
from toolchain.training.checkpoint import Progress, save_state

pytest.importorskip("resource", reason="no limits of this kind on this system")


def test_the_error_names_the_file_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    files.write_bytes(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="too large") as raised:
        files.write_bytes(path, bytes(5000))
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint(tmp_path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(OSError, match="too large") as raised:
        save_state(tmp_path, {"best": {"weight": torch.zeros(1000)}}, Progress(1, 1, (1.0, 0.0), 2, 1.0))
    assert str(raised.value.filename).endswith("state.safetensors")
    assert not list((tmp_path / "checkpoint").iterdir())


@pytest.mark.parametrize("size", [100, 2000])
def test_openvino_writes_by_itself(tmp_path: Path, size: int) -> None:
    with files_of_at_most(size), pytest.raises(BadInputError, match="OpenVINO could not write") as raised:
        variants.make_ir(tiny_model().SerializeToString(), tiny_card(), tmp_path / "model.xml")
    assert "TMPDIR" in raised.value.hint
    whole: Artifact = variants.make_ir(tiny_model().SerializeToString(), tiny_card(), tmp_path / "model.xml")
    with files_of_at_most(100), pytest.raises(OSError, match="too large"):
        variants.write_ir(whole)
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_stored(
    tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["finetune", str(drawn_folder), "--model", "mobilenet_v3_small", "--size", "64", "--weights", "none"]
    with files_of_at_most(100_000):
        assert run([*words, "--probe-only", "--no-cache", "--out", str(out), "--quiet"]) == 2
    error, hint = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert error == f"error: {out / 'model.safetensors'}: File too large"
    assert "space left" in hint
    assert not (out / "run.json").exists()
    assert run(["finetune", "--resume", str(out), "--quiet", "--json"]) == 0
    assert (out / "run.json").exists()


FULL = Path("/dev/full")
on_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")


@on_a_full_disk
def test_a_full_folder_of_temporary_files_is_named_with_what_to_do() -> None:
    with pytest.raises(BadInputError) as caught, scratch_folder("edgetl-test-") as folder:
        FULL.write_bytes(b"x")
    assert str(folder.parent) in caught.value.message
    assert "TMPDIR=FOLDER" in caught.value.hint
    assert not folder.exists()


@on_a_full_disk
def test_other_errors_and_other_disks_are_not_blamed_on_it() -> None:
    with pytest.raises(FileNotFoundError), scratch_folder("edgetl-test-") as folder:
        (folder / "nothing").read_bytes()
    with pytest.raises(OSError, match="elsewhere"), scratch_folder("edgetl-test-"):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file")


def test_no_folder_for_temporary_files_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BadInputError, match="no temporary files can be made") as caught:
        scratch_folder("edgetl-test-").__enter__()
    assert "TMPDIR" in caught.value.hint
