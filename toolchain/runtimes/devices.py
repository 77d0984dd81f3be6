"""Devices: what they are called, which runtime each belongs to, and which of them this machine has.

A device is `FAMILY:TARGET`, such as `ort:cpu`. After a `+` comes another way of running it, such as
`openvino:CPU+bf16`, which computes float32 files in bfloat16. All that is known of a family is declared in one
module, as a `RuntimeFamily`; other packages add theirs by the entry point `edgetl.runtimes`
(docs/reference/plugins.md).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from toolchain.errors import BadInputError
from toolchain.plugins import Registry, instance_of
from toolchain.system.processor import cores as cores

if TYPE_CHECKING:
    from toolchain.artifact import Artifact
    from toolchain.runtimes import Runtime
    from toolchain.runtimes.profiling import Profile


@dataclass(frozen=True)
class Device:
    """A device by name; `reason` is why it is not available, `install` what would change that."""

    name: str
    available: bool
    reason: str = ""
    install: str = ""


class Load(Protocol):
    """Opens an artifact on one of the family's devices."""

    def __call__(
        self, artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False
    ) -> Runtime:
        """`target`, `threads`, `batch` and `exclusive` as for `toolchain.runtimes.open_runtime`.

        The device was probed and found. It is called in a thread of its own, which is given up after minutes,
        unless the family is `of_run`. Raises ArtifactError where the artifact cannot be loaded.
        """


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class RuntimeFamily:
    """A library that runs artifacts, and all that edgetl knows of it.

    Its module imports the library only inside of functions: names and options are asked for without it.

    - `name`: what its devices begin with; `title`: what people call it.
    - `targets`: those that `--device all` looks for; after a `+`, another way of running one (`CPU+bf16`).
    - `parse`: turns a target in small letters into the way it is written; None where there is no such device. May
      raise BadInputError.
    - `probe`: looks for a device by its target.
    - `load`: opens an artifact on a device that was found.
    - `preload`: imports what `load` needs, so that this does not count as the network's time.
    - `formats`: the files that it runs, `onnx`, `openvino` or `tflite`.
    - `of_run`: it runs the network of the run and not the file, so no file need be proven on it.
    - `profile`: gives the function that runs an artifact with the profiler on (`runtimes.profiling.Profile`); None
      where there is none.
    - `packages`: what decides how it computes, and the distributions that each comes in.
    """

    name: str
    title: str
    targets: tuple[str, ...]
    parse: Callable[[str], str | None]
    probe: Callable[[str], Device]
    load: Load
    preload: Callable[[], object] = _nothing
    formats: tuple[str, ...] = ("onnx",)
    of_run: bool = False
    profile: Callable[[], Profile] | None = None
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(f"{self.name}:{target}" for target in self.targets)

    def takes(self, artifact: Artifact, device: str) -> bool:
        """Whether `artifact` may run on `device` of this family, as far as is known before it is loaded."""
        fits = artifact.format in self.formats
        return fits and not self.of_run and artifact.card.proven_on(device)


RUNTIMES: Registry[RuntimeFamily] = Registry(
    "runtimes",
    {
        "ort": "toolchain.runtimes.onnxruntime:FAMILY",
        "openvino": "toolchain.runtimes.openvino:FAMILY",
        "ncnn": "toolchain.runtimes.ncnn:FAMILY",
        "litert": "toolchain.runtimes.litert:FAMILY",
        "torch": "toolchain.runtimes.torch:FAMILY",
    },
    instance_of(RuntimeFamily),
)


def known_devices() -> tuple[str, ...]:
    """Every device that `all` looks for."""
    return tuple(device for family in RUNTIMES.all().values() for device in family.devices)


def family_of(device: str) -> RuntimeFamily:
    """The family of a device that is well formed (`canonical`)."""
    return RUNTIMES.get(device.partition(":")[0])


def canonical(name: str) -> str:
    """A device's name as edgetl writes it: OpenVINO's devices in capitals, all else small (`OpenVINO:cpu` is
    `openvino:CPU`). Raises BadInputError as `parse_device`."""
    return ":".join(parse_device(name))


def parse_device(name: str) -> tuple[str, str]:
    """Split `ort:cpu` into family and target; small letters and capitals are the same.

    Raises BadInputError for a name that no runtime knows, MissingError where its plug-in is broken.
    """
    family, _, text = name.strip().lower().partition(":")
    if text and family in RUNTIMES:
        target = RUNTIMES.get(family).parse(text)
        if target is not None:
            return family, target
    raise BadInputError(f"unknown device {name!r}", f"Choose one of: {', '.join(known_devices())}.")


def plain(device: str) -> str:
    """A device without the way of running it: `openvino:CPU` of `openvino:CPU+bf16`."""
    return device.partition("+")[0]


def ways_of(device: str) -> tuple[str, ...]:
    """The other ways of running `device` that its family looks for, such as `openvino:CPU+bf16`."""
    return tuple(name for name in family_of(device).devices if name != device and plain(name) == device)


def is_cpu(device: str) -> bool:
    """Whether a device is the processor itself: `ort:cpu`, `openvino:CPU`, `torch:cpu+bf16`."""
    target = device.partition(":")[2]
    return re.split(r"[:.+]", target)[0].lower() == "cpu"


def discover() -> list[Device]:
    """Look for every known device. Loads the runtimes that are installed, which takes about a second."""
    return [probe(name) for name in known_devices()]


def probe(name: str) -> Device:
    """Look for one device. Raises BadInputError for an unknown name."""
    family, target = parse_device(name)
    try:
        return RUNTIMES.get(family).probe(target)
    except ImportError as error:  # it is installed, but lacks a system library or memory
        return Device(name, False, f"it does not start here ({error})")


def expand(names: Sequence[str]) -> list[str]:
    """Replace `all` by every known device, drop repetitions, and check and complete each name (`canonical`)."""
    groups = (known_devices() if name.strip().lower() == "all" else (canonical(name),) for name in names)
    return list(dict.fromkeys(device for group in groups for device in group))


_ARM = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1", "0xd0d": "Cortex-A77", "0xd40": "Neoverse V1", "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
    "0xd49": "Neoverse N2", "0xd4b": "Cortex-A78C", "0xd4f": "Neoverse V2",
}  # fmt: skip
_ARM_CORES = {("0x41", part): name for part, name in _ARM.items()}
"""Cores by implementer and part, as Linux and lscpu number them."""


def cpu_name() -> str:
    """The processor's name, as its maker calls it where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return next(iter(names), "") or _arm_name(lines) or platform.processor() or platform.machine()


def _arm_name(lines: Iterable[str]) -> str:
    """The kinds of cores that /proc/cpuinfo tells of on 64-bit Arm, where it has no names; empty elsewhere."""
    said = [(key.strip().lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    makers = [value for key, value in said if key == "cpu implementer"]
    parts = [value for key, value in said if key == "cpu part"]
    kinds = dict.fromkeys(zip(makers, parts, strict=False))
    return " + ".join(_ARM_CORES.get(kind, f"Arm {kind[0]} {kind[1]}") for kind in kinds)
