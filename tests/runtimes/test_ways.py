"""Other ways of running a device: bfloat16 and float16, where the machine has the instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_support import SIDE, colour_artifact

from toolchain.artifact import Artifact
from toolchain.bench.runner import Plan, _arms
from toolchain.cli import run
from toolchain.errors import BadInputError, MissingError
from toolchain.runtimes import onnxruntime, open_runtime
from toolchain.runtimes.devices import known_devices, parse_device, plain, probe, ways_of
from toolchain.runtimes.openvino import _is_there
from toolchain.timing.protocol import LOCAL

WAYS = ("openvino:CPU+bf16", "openvino:CPU+f16", "ort:cpu+bf16")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return colour_artifact(tmp_path / "model.onnx")


def test_devices_and_their_other_ways() -> None:
    assert set(WAYS) <= set(known_devices())
    assert ways_of("openvino:CPU") == WAYS[:2]
    assert ways_of("ort:cpu") == WAYS[2:]
    assert ways_of("openvino:AUTO") == ways_of("openvino:CPU+bf16") == ()
    assert [plain(way) for way in WAYS] == ["openvino:CPU", "openvino:CPU", "ort:cpu"]


@pytest.mark.parametrize(
    "name",
    ["openvino:AUTO+bf16", "openvino:HETERO:GPU,CPU+f16", "openvino:CPU+int4", "openvino:CPU+bf16+f16"],
)
def test_a_type_goes_with_one_device(name: str) -> None:
    with pytest.raises(BadInputError, match="OpenVINO has no such way of running") as caught:
        parse_device(name)
    assert "openvino:CPU+bf16" in caught.value.hint


@pytest.mark.parametrize("device", WAYS)
def test_a_way_runs_in_its_type_or_says_what_is_missing(artifact: Artifact, device: str) -> None:
    found = probe(device)
    place, _, way = device.partition("+")
    if not found.available:
        with pytest.raises(MissingError, match=r"this CPU has no instructions|only on Arm CPUs") as caught:
            open_runtime(artifact, device)
        assert caught.value.hint == f"leave out +{way}"
        return
    images = np.repeat(200 * np.eye(3, dtype=np.uint8)[:, None], SIDE * SIDE, axis=1).reshape(3, SIDE, SIDE, 3)
    exact = open_runtime(artifact, place, threads=1).infer(images).logits
    runtime = open_runtime(artifact, device, threads=2, batch=3)
    assert runtime.device == device
    if place.startswith("openvino"):  # ONNX Runtime does not tell
        assert runtime.execution.inference_precision == way
    for infer in (runtime.infer, *runtime.streams(2, 3)):
        answer = infer(images)
        assert answer.logits.dtype == np.float32
        np.testing.assert_allclose(answer.logits, exact, atol=0.02 * np.abs(exact).max())


def test_a_second_gpu_is_there_only_where_it_was_found() -> None:
    assert _is_there("GPU", ["CPU", "GPU"])
    assert _is_there("GPU.0", ["CPU", "GPU"])
    assert not _is_there("GPU.1", ["CPU", "GPU"])
    assert _is_there("GPU", ["CPU", "GPU.0", "GPU.1"])
    assert _is_there("GPU.1", ["CPU", "GPU.0", "GPU.1"])
    assert not _is_there("GPU.2", ["CPU", "GPU.0", "GPU.1"])
    assert _is_there("NPU.3720", ["CPU", "NPU"]), "a kind of NPU, and not a number"


@pytest.mark.parametrize("device", WAYS)
def test_commands_end_with_3_where_a_way_is_missing(
    artifact: Artifact, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if probe(device).available:
        pytest.skip(f"this machine has {device}")
    photograph = artifact.path.with_name("x.png")
    photograph.touch()
    assert run(["predict", str(artifact.path), str(photograph), "--device", device]) == 3
    error, hint = capsys.readouterr().err.strip().splitlines()
    assert error.startswith(f"error: {device}: ")
    assert hint.startswith("hint: leave out +")


def test_onnxruntime_is_asked_for_bfloat16(artifact: Artifact) -> None:
    providers = onnxruntime.providers_of("cpu", artifact)
    for wanted in (False, True):
        session = onnxruntime._open(artifact, providers, False, wanted, 1)
        told = session.get_session_options().get_session_config_entry(onnxruntime._BFLOAT16)
        assert told == str(int(wanted))


def test_int8_is_proven_in_each_type_of_its_floats(tmp_path: Path) -> None:
    int8 = colour_artifact(tmp_path / "model.int8.onnx", int8_on=["openvino:CPU"])
    with pytest.raises(BadInputError, match=r"proven on openvino:CPU, not on openvino:CPU\+bf16"):
        open_runtime(int8, "openvino:CPU+bf16")


def test_all_leaves_out_ways_that_are_not_here_or_not_for_the_file(tmp_path: Path, artifact: Artifact) -> None:
    int8 = colour_artifact(tmp_path / "model.int8.onnx", int8_on=["openvino:CPU"])
    names = ("openvino:CPU", "openvino:GPU", *WAYS)
    devices = {name: probe(name) for name in names}
    here = [way for way in WAYS if devices[way].available]

    def arms(*, distinct: bool) -> list[tuple[str, str]]:
        plan = Plan((artifact, int8), names, distinct=distinct)
        return [(arm.artifact.path.name, arm.device) for arm in _arms(plan, devices, LOCAL)]

    assert arms(distinct=True) == [
        *(("model.onnx", name) for name in (*names[:2], *here)),
        *(("model.int8.onnx", name) for name in names[:2]),
    ]
    assert len(arms(distinct=False)) == 2 * len(names), "those that were asked for are told of"
