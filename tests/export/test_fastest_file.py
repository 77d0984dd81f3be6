"""What `edgetl export` says to use where int8 is no gain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toolchain.artifact.card import Speed
from toolchain.export.results import Attempt, Exported, benchmark, options, recommendation

SLOW = (Speed("ort:cpu", 1, 1.7, 2.2), Speed("ort:cpu", 2, 1.1, 1.9))
GAIN = (Speed("openvino:CPU", 1, 1.6, 1.5), Speed("openvino:CPU", 2, 1.3, 0.9))
NO_GAIN = (Speed("openvino:CPU", 1, 1.6, 1.7), Speed("openvino:CPU", 2, 1.3, 1.4))


def exported(*speeds: Speed, chosen_for: tuple[str, ...] = (), **fields: Any) -> Exported:
    attempt = Attempt("edgetl", "edgetl", {}, (), 1.2, speeds, chosen_for)
    done = Exported("run", "val", 100, "run/model.onnx", 3.8, (), attempts=(attempt,))
    return replace(done, **fields)


def test_the_file_that_one_runtime_is_faster_with() -> None:
    done = exported(
        *SLOW,
        *GAIN,
        chosen_for=("openvino:CPU",),
        int8_files={"openvino:CPU": "run/model.int8.openvino.onnx"},
        broken={"ort:cpu": "int8 is 0.58 times as fast"},
    )
    told = recommendation(done)[-1]
    assert told.startswith("Use run/model.int8.openvino.onnx, on openvino:CPU: 0.90 ms on 2 threads (float on")
    assert "float on ort:cpu 1.10" in told
    assert "float on openvino:CPU 1.30" in told
    assert "edgetl camera run/model.int8.openvino.onnx --device openvino:CPU" in told


def test_the_float_file_where_it_is_fastest() -> None:
    rejected = {"ort:cpu": "run/model.int8.rejected.onnx", "openvino:CPU": "run/model.int8.rejected.onnx"}
    broken = dict.fromkeys(rejected, "no gain")
    told = recommendation(exported(*SLOW, *NO_GAIN, int8_files=rejected, broken=broken))[-1]
    assert told.startswith("Use run/model.onnx, the float file, on ort:cpu: 1.10 ms on 2 threads")
    assert "rejected" not in told
    assert "float on openvino:CPU 1.30" in told


def test_the_float_file_where_nothing_was_timed() -> None:
    done = exported(broken={"ort:cpu": "int8 loses 9 pp"})
    assert options(done) == []
    assert recommendation(done) == (
        "All files beside each other: edgetl bench run",
        "Use run/model.onnx, the float file.",
    )


def test_files_that_lie_elsewhere_are_named_to_bench() -> None:
    files = {"ort:cpu": "to go/m.int8.onnx", "openvino:CPU": "to go/m.int8.rejected.onnx"}
    done = exported(float_file="to go/m.onnx", int8_files=files, broken={"openvino:CPU": "no gain"})
    assert benchmark(done) == "edgetl bench 'to go/m.onnx' 'to go/m.int8.onnx'"


@pytest.mark.parametrize("folder", ["my run", "[run]"])
def test_what_is_to_be_typed_can_be_typed(folder: str) -> None:
    done = exported(*SLOW, broken={"ort:cpu": "no gain"}, run=folder, float_file=f"{folder}/model.onnx")
    more, use = recommendation(done)
    assert f"edgetl camera '{folder}/model.onnx' --device ort:cpu" in use
    assert f"edgetl bench '{folder}'" in more
