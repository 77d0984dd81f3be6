from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from toolchain.classifier import load
from toolchain.timing.noise import Meter
from toolchain.timing.protocol import Load, spread
from toolchain.timing.worker import Worker


def test_a_worker_that_rests_is_quiet() -> None:
    assert Worker().wait_until_quiet()


def test_a_worker_whose_threads_spin_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def spin(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def sleep_while_another_spins(seconds: float) -> None:
        """Until it has had `seconds` of a core, however busy the machine is."""
        thread = threading.Thread(target=spin, args=(seconds,))
        thread.start()
        thread.join()

    monkeypatch.setattr("toolchain.timing.worker.time.sleep", sleep_while_another_spins)
    assert not Worker().wait_until_quiet()


@pytest.mark.parametrize(("device", "joules"), [("ort:cpu", 0.5), ("torch:cpu+bf16", 0.5), ("openvino:GPU", None)])
def test_energy_of_the_processor_is_no_other_devices(device: str, joules: float | None, tmp_path: Path) -> None:
    worker = Worker()
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("0\n")
    worker.meter = Meter(tmp_path)
    worker.batch, worker.turn, worker.inputs = 1, 0, np.zeros((1, 32, 32, 3), np.uint8)
    classifier = load(tiny_artifact(tmp_path / "model.onnx"))
    classifier.runtime.device = device
    worker.classifier = classifier
    infer = worker.infer_once

    def counted() -> float:
        (zone / "energy_uj").write_text("500000\n")
        return infer()

    worker.settle = lambda work: None  # type: ignore[method-assign,assignment]
    worker.infer_once = counted  # type: ignore[method-assign]
    assert worker.round(3).joules == joules


def test_throughput_of_a_stream_that_starts_too_late_is_not_nought(tmp_path: Path) -> None:
    worker = Worker()
    worker.batch, worker.turn, worker.inputs = 1, 0, np.zeros((1, 32, 32, 3), np.uint8)
    worker.classifier = load(tiny_artifact(tmp_path / "model.onnx"))
    assert worker.flood(1, [worker.classifier.runtime.infer], seconds=0) > 0


def test_one_stream_is_flooded_from_the_thread_that_latency_is_measured_in(tmp_path: Path) -> None:
    """PyTorch takes twice as long in another one."""
    worker = Worker()
    worker.batch, worker.turn, worker.inputs = 1, 0, np.zeros((1, 32, 32, 3), np.uint8)
    threads = []
    for count in (1, 2):
        seen: set[threading.Thread] = set()
        streams = [lambda image, seen=seen: seen.add(threading.current_thread())] * count
        assert worker.flood(1, streams, seconds=0.01) > 0
        threads.append(seen)
    assert threads[0] == {threading.current_thread()}
    assert threading.current_thread() not in threads[1]


@pytest.mark.parametrize(
    ("image_s", "batches"), [(0.01, [1, 8, 1, 8]), (0.2, [1, 8, 1]), (0.5, [1, 1]), (5.0, [1])]
)
def test_a_slow_device_is_not_flooded(image_s: float, batches: list[int], tmp_path: Path) -> None:
    worker = Worker()
    worker.batch, worker.turn, worker.inputs = 1, 0, np.zeros((1, 32, 32, 3), np.uint8)
    worker.classifier = load(tiny_artifact(tmp_path / "model.onnx"), threads=3)
    worker.infer_once = lambda: image_s * 1e3  # type: ignore[method-assign]
    assert [batch for batch, _ in worker.ways()] == batches


def test_spread_reaches_both_ends_and_never_repeats() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(1, 4) == [0]
    chosen = spread(1000, 16)
    assert len(chosen) == 16
    assert (chosen[0], chosen[-1]) == (0, 999)


def test_photographs_that_a_machine_cannot_decode_cost_the_times_of_whole_answers_alone(tmp_path: Path) -> None:
    """Such as HEIC, on a board without what decodes it."""
    artifact = tiny_artifact(tmp_path / "model.onnx")
    (tmp_path / "pictures.raw").write_bytes(bytes(4 * 32 * 32 * 3))
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic and no more")
    worker = Worker()
    photographs = (str(tmp_path / "phone.heic"),)
    order = Load(str(artifact.path), artifact.sha256, "ort:cpu", 1, 1, str(tmp_path / "pictures.raw"), photographs)
    worker.load(order)
    assert worker.round(3).ms
    assert worker.end_to_end(3).ms == worker.from_frame(3).ms == ()
