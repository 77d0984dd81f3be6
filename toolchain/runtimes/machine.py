"""The machine that a measurement was made on: processor, memory, versions, and what else it was doing."""

from __future__ import annotations

import os
import platform
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from toolchain._version import __version__
from toolchain.artifact import FLOAT_FILE, INT8_FILE, Artifact, find_artifact, int8_names, read_artifact
from toolchain.artifact.card import ProvenOn
from toolchain.errors import ArtifactWarning
from toolchain.runtimes.devices import RUNTIMES, canonical, cpu_name, family_of, plain, probe
from toolchain.system.processor import allowed_cores, cores, cpu_quota

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
)
"""What a processor may have that decides how fast int8 and bfloat16 are, by Linux's names."""

PACKAGES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "opencv": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ),
}
"""What decides, beside the runtimes, how fast and how well a network runs; the distributions that it comes in."""

SUM_IN_32_BITS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 CPUs with one of these multiply int8 and add the products in 32 bits; the others add pairs in 16 bits."""

INT8_INSTRUCTIONS = {
    "AMX": {"amx_int8"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "i8mm": {"i8mm"},
    "dot products": {"asimddp"},
}
"""Kinds of instructions, and the flags that stand for them."""

CPU_DEVICES = ("ort:cpu", "openvino:CPU", "openvino:AUTO")

_MACOS_NAMES = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512vnni": "avx512_vnni",
    "avxvnni": "avx_vnni",
    "feat_dotprod": "asimddp",
    "feat_i8mm": "i8mm",
    "feat_bf16": "bf16",
}
BUSY_SAMPLE_S = 0.3


@dataclass(frozen=True)
class LoadBefore:
    """What the machine did before the run: share of all cores that were busy, and the mean length of the queue of
    the last minute (null where the system keeps none)."""

    busy: float
    average_1min: float | None


@dataclass(frozen=True)
class Environment:
    """A machine and its software. `threads` are hardware threads that this process may use; `flags` those of FLAGS
    that the processor has; `quota_cores` the time that a container lets it use, in cores (null: all there is)."""

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    threads: int
    memory_mb: float
    governor: str | None
    os: str
    versions: dict[str, str]
    load_before: LoadBefore
    quota_cores: float | None = None


@dataclass(frozen=True)
class Processor:
    """What decides how int8 is computed. `flags` are those of FLAGS; empty where the system does not tell."""

    name: str
    architecture: str
    flags: tuple[str, ...]

    @classmethod
    def of(cls, environment: Environment) -> Processor:
        return cls(environment.cpu, environment.architecture, environment.flags)


def processor() -> Processor:
    """That of this machine."""
    return Processor(cpu_name(), platform.machine(), cpu_flags())


def describe() -> Environment:
    """Look at this machine; takes 0.3 s, for the load."""
    import psutil

    memory = psutil.virtual_memory()
    return Environment(
        cpu=cpu_name(),
        architecture=platform.machine(),
        flags=cpu_flags(),
        cores=min(psutil.cpu_count(logical=False) or allowed_cores(), allowed_cores()),
        threads=cores(),
        memory_mb=round(memory.total / 1e6, 1),
        governor=governor(),
        os=platform.platform(),
        versions=versions(),
        load_before=LoadBefore(
            busy=psutil.cpu_percent(interval=BUSY_SAMPLE_S) / 100,
            average_1min=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        ),
        quota_cores=cpu_quota(),
    )


def versions() -> dict[str, str]:
    """Versions of edgetl, Python, the runtimes and the packages of PACKAGES; imports none of them."""
    found = {"edgetl": __version__, "python": platform.python_version()}
    packages = [item for family in RUNTIMES.all().values() for item in family.packages.items()]
    for name, distributions in (*packages, *PACKAGES.items()):
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


def governor() -> str | None:
    """How the system chooses the processor's frequency (`performance`, `powersave`), where it tells."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


def cpu_flags() -> tuple[str, ...]:
    """Those of FLAGS that the processor has; empty where the system does not tell (Windows)."""
    try:
        words = flags_of_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        words = flags_of_sysctl(_sysctl()) if platform.system() == "Darwin" else set()
    return tuple(flag for flag in FLAGS if flag in words)


def int8_saturates(cpu: Processor | None = None) -> bool | None:
    """Whether int8 kernels of a CPU (default: this one) add products in 16 bits, which saturate; None where that is
    not known.

    They do on x86 without VNNI or AMX (`vpmaddubsw`). Weights of 7 bits are small enough for it.
    """
    cpu = cpu or processor()
    if cpu.architecture.lower() not in {"x86_64", "amd64", "i686", "i386", "x86"}:
        return False
    return not SUM_IN_32_BITS & set(cpu.flags) if cpu.flags else None


def int8_caution(artifact: Artifact, device: str, cpu: Processor | None = None) -> str:
    """What a reader must know of running `artifact` on `device` of a CPU (default: this one); empty where its
    answers hold."""
    cpu = cpu or processor()
    recipe = artifact.card.recipe
    if recipe is None or artifact.card.precision != "int8" or recipe.weight_bits < 8:
        return ""
    if plain(canonical(device)) not in CPU_DEVICES:
        return ""
    if not int8_saturates(cpu):
        return ""
    if any(_proven_there(one, cpu) for one in recipe.processors):
        return ""
    proven = ", ".join(one.cpu for one in recipe.processors)
    return (
        f"{artifact.path.name} was proven on {proven}; this CPU has no VNNI, so its 16-bit sums may "
        "saturate and change answers. Use a file of `edgetl export --int8 --portable`, or the float32 file"
    )


def artifact_to_run(path: Path, device: str = "") -> Artifact:
    """The model file that `path` stands for (`toolchain.artifact.find_artifact`), read.

    Of a folder it is the int8 file that was made for `device`, where there is one, and the float32 file where no
    int8 file is proven on it. That one also where this CPU may change the answers of the int8 file; a warning says
    so.
    """
    from toolchain.runtimes import default_device

    made = _made_for(device, path) if device and path.is_dir() else None
    found, exact = made or read_artifact(find_artifact(path)), path / FLOAT_FILE
    if not device and path.is_dir() and exact.is_file() and not _runs_unnamed(found, default_device(found)):
        return read_artifact(exact)
    caution = int8_caution(found, device or "ort:cpu") if path.is_dir() and exact.is_file() else ""
    if not caution:
        return found
    warnings.warn(f"{caution}. {exact} is used here", ArtifactWarning, stacklevel=2)
    return read_artifact(exact)


def _runs_unnamed(artifact: Artifact, device: str) -> bool:
    """Whether a file may run on its usual device where nobody names one: it was made for it, and it is there."""
    return artifact.card.proven_on(device) and not _refused(artifact, device) and probe(device).available


def _refused(artifact: Artifact, device: str) -> bool:
    """Whether it is known that a runtime does not load such a file on this CPU: OpenVINO takes no int8 on Arm."""
    is_arm = processor().architecture.lower() in {"aarch64", "arm64"}
    return is_arm and artifact.card.precision == "int8" and family_of(device).name == "openvino"


def _made_for(device: str, folder: Path) -> Artifact | None:
    """The file of a run folder to run on a device; None where none is made for it."""
    device = canonical(device)
    family = family_of(device)
    if family.of_run:
        exact = folder / FLOAT_FILE
        return read_artifact(exact) if exact.is_file() else None
    own = [Path(INT8_FILE).with_suffix(f".{name}.onnx") for name in int8_names(plain(device))]
    names = [*own, Path(INT8_FILE), Path(FLOAT_FILE)]
    if "onnx" not in family.formats:
        names = [name.with_suffix(f".{format_}") for name in names for format_ in family.formats]
    for path in (folder / name for name in names):
        if not path.is_file():
            continue
        artifact = read_artifact(path)
        if family.takes(artifact, device) and not _refused(artifact, device):
            return artifact
    return None


def _proven_there(proven: ProvenOn, cpu: Processor) -> bool:
    """Whether promises were kept on a CPU that adds in 16 bits, as `cpu` does. A name says nothing of virtual CPUs,
    so it counts only where instructions are not known."""
    if not proven.flags:
        return proven.cpu in {"", cpu.name}
    architecture = proven.architecture or ("x86_64" if "avx2" in proven.flags else "")
    return int8_saturates(Processor(proven.cpu, architecture, proven.flags)) is True


def int8_speed_caution(artifact: Artifact, device: str, cpu: Processor | None = None) -> str:
    """What a reader must know of the speed of `artifact` on a CPU (default: this one) that lacks instructions of
    each CPU that it was proven on; empty where it has those of one, or nothing is known."""
    cpu = cpu or processor()
    recipe = artifact.card.recipe
    if recipe is None or artifact.card.precision != "int8" or not cpu.flags:
        return ""
    if plain(canonical(device)) not in CPU_DEVICES:
        return ""
    here = int8_instructions(cpu.flags)
    # Several may have one name, as virtual CPUs do.
    proven = [(one.cpu, int8_instructions(one.flags)) for one in recipe.processors if one.cpu and one.flags]
    if not proven or any(have <= here for _, have in proven):
        return ""
    which = ", ".join(f"{name} ({', '.join(sorted(have))})" for name, have in proven)
    return (
        f"{artifact.path.name} was proven on {which}; {cpu.name} is another kind of CPU "
        f"({', '.join(sorted(here)) or 'no such instructions'}), and int8 may be slower than float there. "
        "`edgetl bench` measures it; `edgetl export --int8 --on MACHINE` proves a file there, with --portable one "
        "that answers alike on all CPUs"
    )


def flags_of_cpuinfo(text: str) -> set[str]:
    """All flags of the first processor in Linux's /proc/cpuinfo (`flags` on x86, `Features` on ARM)."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            return set(value.split())
    return set()


def flags_of_sysctl(text: str) -> set[str]:
    """Flags, by Linux's names, in what macOS's `sysctl hw.optional machdep.cpu` prints."""
    words: set[str] = set()
    for line in text.lower().splitlines():
        name, _, value = line.partition(":")
        if name.startswith("machdep.cpu") and name.endswith("features"):
            words.update(value.split())
        elif value.strip() == "1":
            words.add(name.rpartition(".")[2])
    return {_MACOS_NAMES[word] for word in words & _MACOS_NAMES.keys()}


def int8_instructions(flags: Iterable[str]) -> set[str]:
    """Which instructions for int8 a processor has, by the names of INT8_INSTRUCTIONS."""
    have = set(flags)
    return {name for name, any_of in INT8_INSTRUCTIONS.items() if have & any_of}


def int8_outlook(flags: Iterable[str]) -> str:
    """What the processor's flags promise for int8, in words. Runtimes differ in what they make of them."""
    have = set(flags)
    found = [name for name in INT8_INSTRUCTIONS if name in int8_instructions(have)]
    if found:
        return f"int8 instructions ({', '.join(found)}): int8 can pay in time and size; `edgetl bench` tells"
    if "avx2" in have:
        return (
            "AVX2 without VNNI: int8 files of other machines may answer otherwise here unless they were exported "
            "with --portable; int8 is smaller, but perhaps not faster than float; `edgetl bench` tells"
        )
    return "no int8 instructions known: int8 is smaller, but perhaps not faster than float; `edgetl bench` tells"


def _sysctl() -> str:
    try:
        done = subprocess.run(
            ["sysctl", "hw.optional", "machdep.cpu"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
