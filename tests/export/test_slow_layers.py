"""Layers that integers make slower stay float: which they are, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.artifacts import tiny_card
from tests.conftest import lively
from toolchain.artifact import write_artifact
from toolchain.export.int8.quantisers import Task, recipes
from toolchain.export.int8.quantisers.edgetl import candidate_of, with_float_layers
from toolchain.export.int8.slow_layers import slow_layers, worth_float
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import open_runtime
from toolchain.system.progress import Silent
from toolchain.timing.layers import LayerRow, LayerTime

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
IMAGES = np.random.default_rng(3).integers(0, 256, (8, 64, 64, 3), np.uint8)


def model() -> onnx.ModelProto:
    return to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)


def row(name: str, float_us: float, int8_us: float, slower: bool) -> LayerRow:
    times = tuple(LayerTime(us, 0.1, (us, us, us), 0.0, ("Conv",)) for us in (float_us, int8_us))
    return LayerRow(name, "Conv", (1, 2, 2), (name, "relu"), times, slower)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row("node_conv2d", 50, 90, True), row("node_conv2d_1", 200, 100, False)], {"conv2d"}),
        ([row("node_conv2d", 50, 53, True), row("node_conv2d_1", 200, 100, False)], set()),  # next to nothing
        ([row("node_conv2d", 50, 90, False), row("node_conv2d_1", 200, 100, False)], set()),  # not surely
    ],
)
def test_layers_that_surely_waste_time_are_named(rows: list[LayerRow], chosen: set[str]) -> None:
    assert worth_float(rows, model()) == chosen


@pytest.mark.slow
def test_a_candidate_keeps_its_spelling_with_more_layers_in_float(tmp_path: Path) -> None:
    base, task = model(), Task(model(), IMAGES)
    start = next(recipe for recipe in recipes(task) if recipe.runtime == "ort").make()
    layers = frozenset({"conv2d_1", "conv2d_3"})
    found = with_float_layers(start, layers, IMAGES)
    assert found.runtime == "ort"
    assert found.settings["float_layers"] == sorted(layers)
    assert found.quantized is not None
    stored = found.quantized.quantization.layers
    assert not {name for name in layers if name in stored and stored[name].input_scale}
    card = tiny_card([str(label) for label in range(7)], preprocess=SMALL, precision="int8")
    written = write_artifact(found.model, card, tmp_path / "int8.onnx")
    logits = open_runtime(written, "ort:cpu", unproven=True).infer(IMAGES).logits
    plain = write_artifact(
        base, tiny_card([str(label) for label in range(7)], preprocess=SMALL), tmp_path / "f.onnx"
    )
    exact = open_runtime(plain, "ort:cpu").infer(IMAGES).logits
    assert np.linalg.norm(logits - exact) < 0.6 * np.linalg.norm(exact)
    with pytest.raises(ValueError, match="none of these layers is in integers"):
        with_float_layers(found, layers, IMAGES)
    assert slow_layers(plain, written, "ort:cpu", 1, IMAGES, Silent()) <= {
        node.output[0] for node in base.graph.node
    }


def test_what_was_trained_stays_where_slow_layers_become_float() -> None:
    start = next(recipe for recipe in recipes(Task(model(), IMAGES)) if recipe.runtime == "ort").make()
    assert start.quantized is not None
    old = start.quantized.quantization
    trained = next(name for name, layer in old.layers.items() if layer.weight[0].size > 64 and name != "logits")
    moved = replace(old.layers[trained], weight=-old.layers[trained].weight)
    quantized = replace(start.quantized, quantization=replace(old, layers={**old.layers, trained: moved}))
    learnt = candidate_of("x, trained (QAT)", quantized, rewritten=True, qat_epochs=4)
    layers = frozenset({"conv2d_1", "conv2d_3"}) - {trained}
    found = with_float_layers(learnt, layers, IMAGES)
    assert found.settings["qat_epochs"] == 4
    assert found.settings["float_layers"] == sorted(layers)
    assert found.quantized is not None
    ours = found.quantized.quantization.layers
    np.testing.assert_array_equal(ours[trained].weight, moved.weight)
    assert not {name for name in layers if name in ours and ours[name].input_scale}
    onnx.checker.check_model(found.model, full_check=True)


def test_a_first_layer_in_float_reads_pixels_as_its_bias_was_made_for() -> None:
    start = next(recipe for recipe in recipes(Task(model(), IMAGES)) if recipe.label == "edgetl").make()
    assert start.quantized is not None
    assert start.quantized.quantization.pixels is not None
    learnt = candidate_of("edgetl, trained (QAT)", start.quantized, qat_epochs=4)
    found = with_float_layers(learnt, frozenset({"conv2d"}), IMAGES)
    session = onnxruntime.InferenceSession(found.model.SerializeToString(), providers=["CPUExecutionProvider"])
    exact = onnxruntime.InferenceSession(model().SerializeToString(), providers=["CPUExecutionProvider"])
    before = onnxruntime.InferenceSession(start.model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours, theirs, old = (one.run(["logits"], {"image": IMAGES})[0] for one in (session, exact, before))
    assert found.quantized is not None
    assert found.quantized.quantization.pixels is None
    assert "Sub" in {node.op_type for node in found.model.graph.node}
    assert np.linalg.norm(ours - theirs) < 1.5 * np.linalg.norm(old - theirs)
