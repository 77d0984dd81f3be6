from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from bench_support import artifact_that_breaks, colour_artifact
from jsonschema import Draft202012Validator

from toolchain.artifact import Artifact
from toolchain.bench import interface, runner
from toolchain.bench.results import ArmResult, BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.errors import BadInputError
from toolchain.runtimes.devices import Device
from toolchain.system.files import to_json
from toolchain.timing.process import WorkerProcess, probe_devices
from toolchain.timing.protocol import LOCAL
from toolchain.timing.scheduler import Pace, TimeLimits, turns

Launch = Callable[[], WorkerProcess]

ARM_KEYS = {
    "execution", "throughput", "frame_to_answer_ms", "energy_mj", "quantiles_ms", "round_p50_ms", "noise",
    "process_p50_ms", "on", "proven",

    "artifact", "sha256", "precision", "device", "provider_effective", "threads", "batch", "status", "reason",
    "latency_ms", "throughput_ips", "load_ms", "first_ms", "end_to_end_ms", "peak_rss_mb", "file_mb", "accuracy",
}  # fmt: skip
LATENCY_KEYS = {"n", "mean", "std", "min", "p50", "p90", "p95", "p99", "max", "p50_ci95"}
ACCURACY_KEYS = {"top1", "per_class_top1", "n", "agreement", "top1_ci95", "right"}
SCHEMA = Path(runner.__file__).with_name("bench.schema.json")


def arm(report: BenchReport, device: str) -> ArmResult:
    (found,) = (arm for arm in report.arms if arm.device == device)
    return found


def on(artifacts: Sequence[Artifact], *devices: str, **options: Any) -> Plan:
    return Plan(tuple(artifacts), devices, **{"threads": (1,), "rounds": 2, **options})


class Dying(WorkerProcess):
    """A real worker that somebody kills when its first round comes."""

    def ask(self, do: str, *rest: Any) -> Any:
        if do == "round":
            os.kill(self.pid, signal.SIGKILL)
        return super().ask(do, *rest)


def changed(program: str) -> WorkerProcess:
    """A real worker with something in it changed."""
    return WorkerProcess(f"import time\nfrom toolchain.timing import worker\n{program}")


def nth(special: int, launch: Launch) -> Launch:
    """Start workers; the one with this number is special. (Number 0 looks for the devices.)"""
    started = iter(range(100))
    return lambda: launch() if next(started) == special else WorkerProcess()


def test_every_arm_has_a_turn_in_each_round_and_each_position_in_turn() -> None:
    assert list(turns(3, 4)) == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
    assert list(turns(0, 2)) == [[], []]


@pytest.mark.parametrize(
    ("pace", "shares"),
    [
        (Pace(2, 2, None, None, processes=1), [(2, 2, None)]),
        (Pace(3, 3, None, None), [(1, 1, None)] * 3),
        (Pace(8, 8, None, None), [(3, 3, None), (3, 3, None), (2, 2, None)]),
        (Pace(200, budget_s=30.0), [(4, 2, 10.0), (4, 2, 20.0), (4, 2, 30.0), *[(4, 1, 30.0)] * 7]),
    ],
)
def test_rounds_are_shared_between_processes(pace: Pace, shares: list[tuple[int, int, float | None]]) -> None:
    assert list(pace.shares()) == shares


@pytest.mark.slow
def test_each_arm_is_measured_in_three_processes(artifact: Artifact) -> None:
    started: list[int] = []

    def launch() -> WorkerProcess:
        worker = WorkerProcess()
        started.append(worker.pid)
        return worker

    report = bench(on([artifact], "ort:cpu", "openvino:CPU", rounds=4), launch=launch)
    assert len(started) == 1 + 2 * 3  # one of them looked for the devices
    assert report.settings
    assert report.settings.processes == 3
    for found in report.arms:
        assert found.status == "ok"
        assert (len(found.process_p50_ms), len(found.round_p50_ms)) == (3, 4)


def test_whole_report(artifact: Artifact, photographs: Path) -> None:
    report = bench(on([artifact], "ort:cpu", "openvino:CPU", "ort:cuda", data=str(photographs)))
    document = json.loads(to_json(report))
    Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate(document)
    assert (document["settings"], document["comparison"]) == (
        {"rounds": 2, "budget_s": None, "precision": None, "processes": 1},
        None,
    )
    assert document["started"].endswith("+00:00")
    assert document["during"]["seconds"] > 0
    assert document["schema"] == "edgetl.bench/1"
    assert document["data"] | {"split_sha256": "", "order_sha256": ""} == {
        "name": photographs.name, "split": "test", "split_sha256": "", "n": 12, "skipped": 0, "order_sha256": "",
    }  # fmt: skip
    assert len(document["data"]["order_sha256"]) == 64
    for entry in document["arms"]:
        assert set(entry) == ARM_KEYS
        assert entry["sha256"] == artifact.sha256
    for device, provider in (("ort:cpu", "CPUExecutionProvider"), ("openvino:CPU", "CPU")):
        found = arm(report, device)
        assert (found.status, found.reason, found.provider_effective) == ("ok", "", provider)
        assert (found.threads, found.batch, found.precision) == (1, 1, "float32")
        assert found.latency_ms
        assert 0 < found.latency_ms.min <= found.latency_ms.p50 <= found.latency_ms.p95 <= found.latency_ms.max
        assert found.latency_ms.n >= 2 * 5
        assert found.accuracy
        assert (found.accuracy.top1, found.accuracy.per_class_top1, found.accuracy.n) == (1.0, 1.0, 12)
        assert found.accuracy.agreement == 1.0
        assert found.accuracy.top1_ci95[0] < 0.8
        figures = (
            found.throughput_ips,
            found.load_ms,
            found.first_ms,
            found.end_to_end_ms,
            found.frame_to_answer_ms,
        )
        for figure in figures:
            assert figure is not None
            assert figure > 0
        assert found.accuracy.right == "1" * 12
        assert len(found.round_p50_ms) == 2
        assert len(found.quantiles_ms) == 101
        assert found.quantiles_ms[50] == pytest.approx(found.latency_ms.p50, abs=1e-4)
        assert found.throughput
        assert (found.throughput.ips, found.throughput.requests) == (found.throughput_ips, 1)
        assert found.execution
        if hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):  # 1.24 or newer
            assert sum(found.execution.nodes.values()) >= 3
        assert found.peak_rss_mb is not None
        assert 20 < found.peak_rss_mb < 4000
        assert found.file_mb == len(artifact.model) / 1e6
    entry = document["arms"][0]
    assert set(entry["latency_ms"]) == LATENCY_KEYS
    assert set(entry["accuracy"]) == ACCURACY_KEYS
    absent = arm(report, "ort:cuda")
    assert absent.status in {"unavailable", "ok"}
    if absent.status == "unavailable":
        assert "CUDAExecutionProvider" in absent.reason
        assert absent.latency_ms is absent.accuracy is absent.load_ms is None
    assert any("none of the splits" in remark for remark in report.remarks)


def test_classes_in_another_order_are_mapped_by_name(tmp_path: Path, photographs: Path) -> None:
    """The folder's classes are blue, green, red; this network calls red what is green."""
    wrong = colour_artifact(tmp_path / "model.onnx", ("green", "red", "blue"))
    accuracy = arm(bench(on([wrong], "ort:cpu", data=str(photographs), rounds=1)), "ort:cpu").accuracy
    assert accuracy
    assert accuracy.top1 == pytest.approx(1 / 3)


def test_latency_only_without_data(artifact: Artifact) -> None:
    report = bench(on([artifact], "ort:cpu", rounds=1))
    assert report.data is None
    assert arm(report, "ort:cpu").status == "ok"
    assert arm(report, "ort:cpu").accuracy is None
    assert any("no accuracy" in remark and "colours" in remark for remark in report.remarks)


def test_other_classes_are_refused(artifact: Artifact, drawn_folder: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"only in drawn.*: cat, dog, fish; only in the model: blue, green, red"
    ):
        bench(on([artifact], "ort:cpu", data=str(drawn_folder)))


def test_int8_runs_where_it_was_proven_and_is_compared_with_its_float(
    artifact: Artifact, photographs: Path
) -> None:
    int8 = colour_artifact(artifact.path.with_name("model.int8.onnx"), int8_on=["ort:cpu"])
    plan = on([artifact, int8], "ort:cpu", "openvino:CPU", data=str(photographs), rounds=1)
    report = bench(plan)
    statuses = {(arm.precision, arm.device): arm.status for arm in report.arms}
    assert statuses == {
        ("float32", "ort:cpu"): "ok",
        ("float32", "openvino:CPU"): "ok",
        ("int8", "ort:cpu"): "ok",
        ("int8", "openvino:CPU"): "unavailable",
    }
    assert "proven on ort:cpu" in report.arms[3].reason
    assert report.arms[2].accuracy
    assert report.arms[2].accuracy.agreement == 1.0


def test_agreement_is_null_without_the_float_file(tmp_path: Path, photographs: Path) -> None:
    int8 = colour_artifact(tmp_path / "model.int8.onnx", int8_on=["ort:cpu"])
    accuracy = arm(bench(on([int8], "ort:cpu", data=str(photographs), rounds=1)), "ort:cpu").accuracy
    assert accuracy
    assert accuracy.agreement is None


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_killed_worker_fails_alone(artifact: Artifact, photographs: Path) -> None:
    report = bench(on([artifact], "ort:cpu", "openvino:CPU", data=str(photographs)), launch=nth(1, Dying))
    assert arm(report, "ort:cpu").status == "failed"
    assert "during round: killed by SIGKILL" in arm(report, "ort:cpu").reason
    other = arm(report, "openvino:CPU")
    assert other.status == "ok"
    assert other.accuracy
    assert other.accuracy.agreement is None


@pytest.mark.slow
def test_hanging_worker_fails_alone(artifact: Artifact) -> None:
    program = "worker.Worker.round = lambda self, samples: time.sleep(600)\nworker.main()"
    report = bench(
        on([artifact], "ort:cpu", "openvino:CPU"),
        limits=TimeLimits(answer_s=4),
        launch=nth(2, lambda: changed(program)),
    )
    assert arm(report, "ort:cpu").status == "ok"
    assert arm(report, "openvino:CPU").status == "failed"
    assert "no answer in 4 s (round)" in arm(report, "openvino:CPU").reason


def test_artifact_that_the_runtime_cannot_run(tmp_path: Path, artifact: Artifact) -> None:
    broken = artifact_that_breaks(tmp_path / "broken.onnx")
    report = bench(on([broken, artifact], "ort:cpu", rounds=1))
    assert [arm.status for arm in report.arms] == ["failed", "ok"]
    assert "out of data bounds" in report.arms[0].reason


@pytest.mark.parametrize("numbers", [{"rounds": 0}, {"budget_s": 0.0}])
def test_numbers_that_measure_nothing_are_refused_at_once(artifact: Artifact, numbers: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=f"{next(iter(numbers))} must be"):
        interface.bench(artifact.path, devices=["ort:cpu"], **numbers)


def test_artifact_that_changes_meanwhile(tmp_path: Path) -> None:
    first = colour_artifact(tmp_path / "model.onnx")
    colour_artifact(tmp_path / "model.onnx", ("a", "b", "c"))
    (found,) = bench(on([first], "ort:cpu", rounds=1)).arms
    assert (found.status, "has changed" in found.reason) == ("failed", True)


@pytest.mark.slow
def test_units_are_milliseconds_and_images_per_second(artifact: Artifact) -> None:
    """An inference that sleeps 0.03 s takes 30 ms or a little more, and no more than 33 are done in a second."""
    program = (
        "from toolchain.runtimes.onnxruntime import OrtRuntime\n"
        "infer = OrtRuntime.infer\n"
        "OrtRuntime.infer = lambda self, images: (time.sleep(0.03), infer(self, images))[1]\n"
        "worker.main()"
    )
    (found,) = bench(
        on([artifact], "ort:cpu", rounds=1, batches=(2,)), launch=nth(1, lambda: changed(program))
    ).arms
    assert found.status == "ok"
    assert found.latency_ms
    assert 30 <= found.latency_ms.min < 3000
    assert found.end_to_end_ms is not None
    assert 30 <= found.end_to_end_ms < 3000
    assert found.first_ms is not None
    assert 30 <= found.first_ms < 3000
    assert found.throughput_ips is not None
    assert 1 < found.throughput_ips <= 8 / 0.03


@pytest.mark.slow
def test_rounds_end_when_the_medians_are_known_or_the_time_is_over(artifact: Artifact) -> None:
    """Workers say that each inference took as long as in the others, or longer in each process than in the last."""

    def saying(milliseconds: Callable[[int], float]) -> Launch:
        started = iter(range(100))

        def launch() -> WorkerProcess:
            number = next(started)  # number 0 looks for the devices
            program = f"worker.Worker.infer_once = lambda self: (infer(self), {milliseconds(number)})[1]"
            return changed(f"infer = worker.Worker.infer_once\n{program}\nworker.main()")

        return launch

    plan = on([artifact], "ort:cpu", rounds=None, budget_s=60)
    steady = bench(plan, launch=saying(lambda _: 5.0)).arms[0]
    assert (set(steady.round_p50_ms), steady.noise) == ({5.0}, ())
    assert len(steady.process_p50_ms) == 3
    plan = on([artifact], "ort:cpu", rounds=None, budget_s=2)
    report = bench(plan, launch=saying(lambda number: 5.0 + number))
    assert len(report.arms[0].process_p50_ms) > 3
    assert f"one of its {len(report.arms[0].process_p50_ms)} processes took" in report.arms[0].noise[0]
    assert report.noisy
    assert any("noisy: model.onnx on ort:cpu: one of its" in remark for remark in report.remarks)


@pytest.mark.slow
def test_every_number_of_threads_and_images_is_an_arm(artifact: Artifact) -> None:
    report = bench(on([artifact], "ort:cpu", rounds=1, threads=(1, 2), batches=(1, 3)))
    assert [(arm.threads, arm.batch) for arm in report.arms] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert {arm.status for arm in report.arms} == {"ok"}


def test_session_that_fell_back_has_failed(artifact: Artifact) -> None:
    """A provider that is there and runs nothing, as CUDA is without its libraries."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that runs nothing")
    program = (
        "from toolchain.runtimes import onnxruntime\n"
        "onnxruntime.PROVIDERS['cuda'] = 'AzureExecutionProvider'\n"
        "worker.main()"
    )
    report = bench(on([artifact], "ort:cuda", "ort:cpu", rounds=1), launch=lambda: changed(program))
    assert [arm.status for arm in report.arms] == ["failed", "ok"]
    assert "fell back to CPUExecutionProvider" in report.arms[0].reason


@pytest.mark.slow
def test_auto_is_left_out_where_it_is_the_cpu(artifact: Artifact) -> None:
    found = {device.name: device.available for device in probe_devices(["openvino:GPU", "openvino:NPU"])}
    if any(found.values()):
        pytest.skip("OpenVINO finds more than the CPU here")
    names = ("openvino:AUTO", "openvino:CPU", "openvino:GPU")
    report = bench(on([artifact], *names, rounds=1, distinct=True))
    assert [arm.status for arm in report.arms] == ["unavailable", "ok", "unavailable"]
    assert "AUTO is openvino:CPU" in report.arms[0].reason
    assert arm(bench(on([artifact], "openvino:AUTO", rounds=1, distinct=True)), "openvino:AUTO").status == "ok"


def test_each_device_of_a_run_is_given_the_files_that_are_for_it(tmp_path: Path, artifact: Artifact) -> None:
    pytest.importorskip("ai_edge_litert")
    from tests.artifacts import tiny_tflite

    tflite = tiny_tflite(tmp_path / "model.tflite")
    devices = {name: Device(name, True) for name in ("ort:cpu", "litert:cpu")}

    def arms(*artifacts: Artifact, **options: bool) -> list[tuple[str, str]]:
        found = runner._arms(on(artifacts, *devices, **options), devices, LOCAL)
        return [(one.artifact.path.suffix, one.device) for one in found]

    pairs = [(".onnx", "ort:cpu"), (".tflite", "litert:cpu")]
    assert arms(artifact, tflite) == pairs
    assert arms(artifact, tflite, distinct=True) == pairs
    assert arms(artifact, distinct=True) == pairs[:1], "of all devices only those that run ONNX files"
    assert arms(artifact) == [pairs[0], (".onnx", "litert:cpu")], "named, it is told why not"
    assert arms(tflite, distinct=True) == [(".tflite", "ort:cpu"), pairs[1]]
