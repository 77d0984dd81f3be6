from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import toolchain
from tests.artifacts import tiny_artifact
from toolchain._version import __version__
from toolchain.artifact.card import ProvenOn, QuantizationRecipe
from toolchain.cli import run
from toolchain.errors import ArtifactWarning
from toolchain.runtimes import machine
from toolchain.runtimes.machine import Processor

X86 = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\nbugs\t: none\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU part\t: 0xd4d\n"
INTEL_MAC = "machdep.cpu.features: FPU SSE\nmachdep.cpu.leaf7_features: AVX2 AVX512F AVX512VNNI\nhw.optional.x: 1\n"
APPLE = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_BF16: 0\n"


def test_flags() -> None:
    assert {"avx2", "avx512f", "avx512_vnni"} <= machine.flags_of_cpuinfo(X86)
    assert {"asimddp", "i8mm", "bf16"} <= machine.flags_of_cpuinfo(ARM)
    assert machine.flags_of_cpuinfo("nothing here") == set()
    assert machine.flags_of_sysctl(INTEL_MAC) == {"avx2", "avx512f", "avx512_vnni"}
    assert machine.flags_of_sysctl(APPLE) == {"asimddp", "i8mm"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"avx2", "avx512_vnni", "amx_int8"}, "(AMX, VNNI): int8 can pay"),
        ({"avx2", "avx_vnni"}, "(VNNI): int8 can pay"),
        ({"asimddp"}, "(dot products): int8 can pay"),
        ({"asimddp", "i8mm"}, "i8mm"),
        ({"avx2", "avx512f"}, "AVX2 without VNNI: int8 files of other machines may answer otherwise"),
        (set(), "perhaps not faster"),
    ],
)
def test_what_flags_promise(flags: set[str], words: str) -> None:
    assert words in machine.int8_outlook(flags)


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", ("avx2", "avx512f"), True),
        ("AMD64", ("avx2",), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "amx_int8"), False),
        ("x86_64", (), None),
        ("aarch64", ("asimddp",), False),
        ("arm64", (), False),
    ],
)
def test_which_cpus_saturate(architecture: str, flags: tuple[str, ...], saturates: bool | None) -> None:
    assert machine.int8_saturates(Processor("a CPU", architecture, flags)) is saturates


SATURATING = Processor("another CPU", "x86_64", ("avx2",))
VNNI = {"cpu": "An Intel", "cpu_flags": ("avx2", "avx512_vnni")}


def proven_on(cpu: str, *flags: str, architecture: str = "x86_64") -> ProvenOn:
    return ProvenOn("local", cpu, architecture, flags)


@pytest.mark.parametrize(
    ("device", "recipe", "saturates", "warned"),
    [
        ("ort:cpu", VNNI, True, True),
        ("openvino:CPU", VNNI, True, True),
        ("openvino:CPU+bf16", VNNI, True, True),
        ("ort:cpu", VNNI, False, False),
        ("ort:cuda", VNNI, True, False),
        ("ort:cpu", VNNI | {"weight_bits": 7}, True, False),
        ("ort:cpu", {"cpu": "An Intel", "cpu_flags": ("avx2",)}, True, False),
        ("ort:cpu", {"cpu": "An Intel"}, True, True),  # a card of old
        ("ort:cpu", {"cpu": "another CPU"}, True, False),
        # Virtual CPUs of one name have other instructions.
        ("ort:cpu", {"cpu": SATURATING.name, "proven": (proven_on(SATURATING.name, "avx512_vnni"),)}, True, True),
        ("ort:cpu", {"proven": (proven_on("An Intel", "avx2"),)}, True, False),
        # An ARM CPU adds in 32 bits without VNNI: it proves nothing here.
        ("ort:cpu", {"proven": (proven_on("An ARM", "asimddp", architecture="aarch64"),)}, True, True),
    ],
)
def test_what_is_said_where_the_proven_instructions_are_missing(
    tmp_path: Path, device: str, recipe: dict[str, object], saturates: bool, warned: bool
) -> None:
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1, **recipe)  # type: ignore[arg-type]
    artifact = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", recipe=made)
    here = SATURATING if saturates else replace(SATURATING, flags=("avx2", "avx_vnni"))
    said = machine.int8_caution(artifact, device, here)
    assert ("; this CPU has no VNNI" in said and said.startswith("model.int8.onnx was proven on ")) == warned
    assert bool(said) == warned
    assert "\n" not in said


def test_load_and_predict_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "processor", lambda: SATURATING)
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1, **VNNI)  # type: ignore[arg-type]
    path = tmp_path / "model.int8.onnx"
    tiny_artifact(path, precision="int8", recipe=made)
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 40, 3), (0, 0, 255), np.uint8))
    with pytest.warns(ArtifactWarning, match="--portable"):
        toolchain.load(path)
    assert run(["predict", str(path), str(tmp_path / "red.png"), "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err.replace("\n", " ").count("warning: model.int8.onnx was proven on An Intel") == 1
    assert "red" in told.out


def test_a_folder_stands_for_its_float_file_where_int8_may_answer_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1, **VNNI)  # type: ignore[arg-type]
    tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", recipe=made)
    monkeypatch.setattr(machine, "processor", lambda: replace(SATURATING, flags=("avx2", "avx_vnni")))
    assert toolchain.load(tmp_path).card.precision == "int8"
    monkeypatch.setattr(machine, "processor", lambda: SATURATING)
    with pytest.warns(ArtifactWarning, match=r"model\.onnx is used here"):
        assert toolchain.load(tmp_path).card.precision == "float32"


def test_doctor_says_it_of_the_files_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1, **VNNI)  # type: ignore[arg-type]
    tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", recipe=made)
    monkeypatch.setattr(machine, "processor", lambda: SATURATING)
    assert run(["doctor", str(tmp_path)]) == 0
    assert "model.int8.onnx was proven on An Intel; this CPU has no VNNI" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_file_that_is_proven_on_one_device_runs_there_where_none_is_named(tmp_path: Path) -> None:
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1)
    path = tmp_path / "model.int8.onnx"
    tiny_artifact(path, precision="int8", recipe=made, runtimes=("openvino:CPU+bf16", "openvino:CPU"))
    assert toolchain.load(path).runtime.device == "openvino:CPU"


def _run_folder(folder: Path, **runtimes: tuple[str, ...]) -> Path:
    """With int8 files by what stands after `model.int8.` in their names."""
    tiny_artifact(folder / "model.onnx")
    made = QuantizationRecipe("edgetl", {}, "0" * 64, 1)
    for name, devices in runtimes.items():
        tiny_artifact(
            folder / f"model.int8.{name}".replace("_", "."), precision="int8", recipe=made, runtimes=devices
        )
    return folder


@pytest.mark.parametrize(
    ("device", "file"),
    [
        ("", "model.int8.onnx"),
        ("ort:cpu", "model.int8.ort.onnx"),
        ("ORT:CPU", "model.int8.ort.onnx"),
        ("openvino:CPU", "model.int8.onnx"),
        ("openvino:CPU+bf16", "model.onnx"),
        ("ort:cuda", "model.onnx"),
        ("torch:cpu", "model.onnx"),
    ],
)
def test_a_folder_stands_for_the_file_that_was_made_for_the_device(tmp_path: Path, device: str, file: str) -> None:
    folder = _run_folder(tmp_path, onnx=("ort:cpu", "openvino:CPU"), ort_onnx=("ort:cpu",))
    assert machine.artifact_to_run(folder, device).path.name == file


def test_a_file_for_a_device_that_has_to_be_named_is_not_run_elsewhere(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path, onnx=("openvino:GPU",))
    assert machine.artifact_to_run(folder).path.name == "model.onnx"
    assert toolchain.load(folder).runtime.device == "ort:cpu"
    assert machine.artifact_to_run(folder, "openvino:GPU").path.name == "model.int8.onnx"


def test_a_folder_runs_where_only_another_device_has_int8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run_folder(tmp_path, onnx=("openvino:CPU",))
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 40, 3), (0, 0, 255), np.uint8))
    for words in (
        ["predict", str(folder), str(tmp_path / "red.png")],
        ["camera", str(folder), "--source", str(tmp_path / "red.png"), "--headless", "--frames", "1"],
    ):
        assert run([*words, "--device", "ort:cpu"]) == 0
        assert "model.onnx" in capsys.readouterr().err


def test_description_of_this_machine() -> None:
    found = machine.describe()
    assert 1 <= found.cores <= found.threads
    assert found.memory_mb > 100
    assert 0 <= found.load_before.busy <= 1
    assert found.versions["edgetl"] == __version__
    assert found.versions["python"] == platform.python_version()
    assert "onnxruntime" in found.versions
    assert set(found.flags) <= set(machine.FLAGS)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has /proc/cpuinfo")
def test_flags_of_this_machine_are_in_cpuinfo() -> None:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert [flag for flag in machine.FLAGS if flag in text] == list(machine.cpu_flags())


def test_versions_are_told_without_importing_the_runtimes() -> None:
    code = (
        "import sys; from toolchain.doctor import missing_packages; missing_packages()\n"
        "from toolchain.runtimes import machine; machine.versions()\n"
        "print([name for name in ('onnxruntime', 'openvino', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
