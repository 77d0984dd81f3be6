"""Time for each layer, by the runtimes' own profilers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.layered import layered_artifact
from toolchain.artifact import Artifact
from toolchain.artifact.layers import Layers, find_layers
from toolchain.runtimes.profiling import Kernel
from toolchain.system.progress import Silent
from toolchain.timing import layers as module
from toolchain.timing.layers import LayerProfile, LayerTime, Part, is_slower, owners_of, side_by_side, time_layers


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("layers")
    return layered_artifact(folder / "model.onnx"), layered_artifact(folder / "model.int8.onnx", integers=True)


@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU"])
def test_float_and_integers_stand_side_by_side(device: str, pair: tuple[Artifact, Artifact]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    base, other = time_layers([(one, device) for one in pair], 1, pixels, Silent(), processes=1)
    assert (base.reason, other.reason) == ("", "")
    rows = {row.name: row for row in side_by_side(base, other)}
    assert set(rows) >= {"input", "wide", "deep", "narrow", "classes"}
    assert rows["wide"].type.startswith("Conv 3x3 /2")
    assert rows["deep"].type.startswith("DWConv 3x3")
    assert rows["wide"].shape == (64, 16, 16)
    for place, profile in enumerate((base, other)):
        told = sum(row.times[place].us for row in rows.values())
        assert sum(row.times[place].share for row in rows.values()) == pytest.approx(1, abs=0.01)
        assert told == pytest.approx(sum(part.process_us[0] for part in profile.parts), abs=0.1)
    kernels = [" ".join(time.kernels) for time in rows["wide"].times]
    assert kernels[0] != kernels[1]


def test_what_cannot_be_profiled_has_a_reason(pair: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    changed = replace(tiny_artifact(tmp_path / "changed.onnx"), sha256="0" * 64)
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    gone, torch = time_layers([(changed, "ort:cpu"), (pair[0], "torch:cpu")], 1, pixels, Silent(), processes=1)
    assert "has changed" in gone.reason
    assert not gone.parts
    assert "not timed on torch:cpu" in torch.reason
    assert torch.unavailable
    assert not gone.unavailable


def kernel(names: str, op: str = "Conv", reads: tuple[int, ...] = (), *, gives_float: bool = True) -> Kernel:
    converts = op in {"QuantizeLinear", "DequantizeLinear", "Reorder"}
    return Kernel(tuple(names.split()), op, op, converts, gives_float, reads, 1.0)


@pytest.mark.parametrize(
    ("kernels", "owners"),
    [
        # Float between integers pays for both conversions.
        (
            [
                kernel("wide", "QLinearConv", gives_float=False),
                kernel("wide_dequantize", "DequantizeLinear", (0,)),
                kernel("deep", "Conv", (1,)),
                kernel("deep_quantize", "QuantizeLinear", (2,), gives_float=False),
                kernel("narrow", "QLinearConv", (3,), gives_float=False),
            ],
            ["wide", "deep", "deep", "deep", "narrow"],
        ),
        # Blocks of channels: before a layer they are its own, after it they have its name.
        (
            [kernel("input"), kernel("", "Reorder", (0,)), kernel("wide", reads=(1,)), kernel("", "Reorder", (2,))],
            ["input", "wide", "wide", "wide"],
        ),
        # One kernel for two layers, and one without a name.
        (
            [kernel("narrow sum"), kernel("", "Mul", (0,)), kernel("classes", "Gemm", (1,))],
            ["narrow sum", "sum", "classes"],
        ),
    ],
)  # fmt: skip
def test_whose_kernels_they_are(kernels: list[Kernel], owners: list[str], pair: tuple[Artifact, Artifact]) -> None:
    layers = layers_of(pair[1])
    assert owners_of(kernels, layers) == [tuple(owner.split()) for owner in owners]


def layers_of(artifact: Artifact) -> Layers:
    import onnx

    return find_layers(onnx.load_model_from_string(artifact.model))


def test_a_layer_without_a_kernel_stands_with_the_one_before(pair: tuple[Artifact, Artifact]) -> None:
    layers = layers_of(pair[0])
    fused = [
        (("input",), "Cast"),
        (("wide",), "Conv"),
        (("deep",), "Conv"),
        (("narrow",), "Conv"),
        (("pool",), "Mean"),
    ]
    split = [*fused[:4], (("sum",), "Add"), *fused[4:]]
    profiles = [
        LayerProfile(
            pair[0],
            "ort:cpu",
            1,
            layers,
            tuple(Part(owner, kernel(owner[0], op), (2.0, 4.0, 3.0)) for owner, op in parts),
        )
        for parts in (fused, split)
    ]
    rows = {row.name: row for row in side_by_side(*profiles)}
    assert rows["narrow"].members == ("narrow", "sum")
    assert rows["narrow"].type == "Conv 1x1 + Add"
    assert [time.us for time in rows["narrow"].times] == [3.0, 6.0]
    assert "sum" not in rows


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ((10, 11, 10, 12, 10), (20, 22, 21, 20, 24), True),
        ((20, 22, 21, 20, 24), (10, 11, 10, 12, 10), False),
        ((10, 11, 10, 12, 10), (11, 11, 11, 13, 11), False),
        ((10, 30, 12, 28, 11), (18, 14, 33, 12, 30), False),
        ((0, 0, 0, 0, 0), (5, 5, 5, 5, 5), True),
    ],
    ids=["twice", "half", "within what profilers tell apart", "within the noise", "from nothing"],
)
def test_only_what_is_surely_slower_is_called_so(
    first: tuple[float, ...], last: tuple[float, ...], expected: bool
) -> None:
    before, after = (LayerTime(float(np.median(one)), 1.0, one, 0.0, ("Conv",)) for one in (first, last))
    assert is_slower(after, before) is expected


def test_float_and_integers_take_turns(monkeypatch: pytest.MonkeyPatch, pair: tuple[Artifact, Artifact]) -> None:
    asked: list[str] = []
    limits: list[float] = []

    def remember(machine: object, order: module.Profiling, limit_s: float) -> list[Kernel]:
        asked.append(Path(order.load.artifact).name)
        limits.append(limit_s)
        return [kernel("wide")]

    monkeypatch.setattr(module, "_profile", remember)
    time_layers([(one, "ort:cpu") for one in pair], 1, np.zeros((1, 32, 32, 3), np.uint8), Silent(), processes=3)
    names = [one.path.name for one in pair]
    assert asked == [*names, *reversed(names), *names]
    time_layers(
        [(pair[0], "ort:cpu")], 1, np.zeros((1, 32, 32, 3), np.uint8), Silent(), processes=1, inference_ms=20_000
    )
    assert limits[-1] == limits[0] + 1000, "a slow device gets the time that it needs"
