from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain._version import __version__
from toolchain.runtimes import machine

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
        ({"avx2", "avx512f"}, "AVX2 without VNNI: int8 is smaller, but perhaps not faster"),
        (set(), "perhaps not faster"),
    ],
)
def test_what_flags_promise(flags: set[str], words: str) -> None:
    assert words in machine.int8_outlook(flags)


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
        "import sys; from toolchain.doctor.packages import missing_packages; missing_packages()\n"
        "from toolchain.runtimes import machine; machine.versions()\n"
        "print([name for name in ('onnxruntime', 'openvino', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
