"""Names of devices, and which of them this machine has."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.system import telemetry
from toolchain.system.processor import cores as cores

KNOWN = (
    "ort:cpu",
    "ort:cuda",
    "ort:tensorrt",
    "openvino:CPU",
    "openvino:GPU",
    "openvino:NPU",
    "openvino:AUTO",
    "torch:cpu",
    "torch:cuda",
)
"""Every device that `all` looks for."""

TORCH_WAYS = ("bf16", "fp16", "compile", "graph")
"""How PyTorch may run a network, added to its device with `+`; see `toolchain.runtimes.torch`."""

ORT_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class Device:
    """A device by name; `reason` is why it is not available, `install` what would change that."""

    name: str
    available: bool
    reason: str = ""
    install: str = ""


def canonical(name: str) -> str:
    """A device's name as edgetl writes it: OpenVINO's devices in capitals, all else small (`OpenVINO:cpu` is
    `openvino:CPU`). Raises BadInputError as `parse_device`."""
    return ":".join(parse_device(name))


def parse_device(name: str) -> tuple[str, str]:
    """Split `ort:cpu` into runtime and target. Raises BadInputError for a name that no runtime knows.

    Small letters and capitals are the same. OpenVINO's own device strings (`GPU.1`, `HETERO:GPU,CPU`) are passed
    on, and so are PyTorch's ways of running (`torch:cpu+bf16+compile`).
    """
    family, _, target = name.strip().lower().partition(":")
    if family == "openvino":
        target = target.upper()
    families = {"ort": tuple(ORT_PROVIDERS), "openvino": None, "torch": ("cpu", "cuda", "mps")}
    if family in families and target:
        allowed = families[family]
        ways = target.split("+")[1:] if family == "torch" else []
        # Only PyTorch's devices have a number.
        kind = re.sub(r":\d+$", "", target.split("+")[0]) if family == "torch" else target
        if allowed is None or kind in allowed:
            if unknown := set(ways) - set(TORCH_WAYS):
                raise BadInputError(
                    f"{name}: PyTorch runs in no way called {', '.join(sorted(unknown))}",
                    f"Choose from: {', '.join(TORCH_WAYS)}; for example torch:cpu+bf16+compile.",
                )
            return family, target
    raise BadInputError(f"unknown device {name!r}", f"Choose one of: {', '.join(KNOWN)}.")


def discover() -> list[Device]:
    """Look for every known device. Loads the runtimes that are installed, which takes about a second."""
    return [probe(name) for name in KNOWN]


def probe(name: str) -> Device:
    """Look for one device. Raises BadInputError for an unknown name."""
    family, target = parse_device(name)
    try:
        return {"ort": _probe_ort, "openvino": _probe_openvino, "torch": _probe_torch}[family](name, target)
    except ImportError as error:  # it is installed, and lacks a library of the system, or memory
        return Device(name, False, f"it does not start here ({error})")


def expand(names: Sequence[str]) -> list[str]:
    """Replace `all` by every known device, drop repetitions, and check and complete each name (`canonical`)."""
    groups = (KNOWN if name.strip().lower() == "all" else (canonical(name),) for name in names)
    return list(dict.fromkeys(device for group in groups for device in group))


def cpu_name() -> str:
    """The processor's name, as its maker calls it where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _probe_ort(name: str, target: str) -> Device:
    if find_spec("onnxruntime") is None:
        return Device(name, False, "ONNX Runtime (onnxruntime) is not installed", "pip install onnxruntime")
    with telemetry.off():
        import onnxruntime

    provider = ORT_PROVIDERS[target]
    if provider in onnxruntime.get_available_providers():
        return Device(name, True)
    return Device(
        name,
        False,
        f"this onnxruntime {onnxruntime.__version__} has no {provider}",
        "with an NVIDIA GPU: pip uninstall onnxruntime && pip install onnxruntime-gpu",
    )


def _probe_openvino(name: str, target: str) -> Device:
    if find_spec("openvino") is None:
        return Device(name, False, "OpenVINO is not installed", "pip install openvino")
    with telemetry.off():
        import openvino

    found = openvino.Core().available_devices
    wanted = target.split(":")[-1].split(",") if ":" in target else [] if target == "AUTO" else [target]
    # `GPU` stands for `GPU.0` where there are several.
    kinds = {have.split(".")[0] for have in found}
    missing = [device for device in wanted if device.split(".")[0] not in kinds]
    if not missing:
        return Device(name, True)
    if "CPU" in missing:
        # Its part for the CPU comes with OpenVINO itself, so it was there and could not be loaded.
        return Device(name, False, "OpenVINO cannot load its part for the CPU: there may be too little memory")
    drivers = {"GPU": "install Intel's GPU compute runtime", "NPU": "install Intel's NPU driver"}
    return Device(
        name,
        False,
        f"OpenVINO {openvino.__version__.partition('-')[0]} finds no {missing[0]} here, only {', '.join(found)}",
        drivers.get(missing[0].split(".")[0], ""),
    )


def _probe_torch(name: str, target: str) -> Device:
    if find_spec("torch") is None:
        return Device(name, False, "PyTorch is not installed", "pip install 'edgetl[train]'")
    import torch

    target, *ways = target.split("+")
    kind = target.split(":")[0]
    if "graph" in ways and kind != "cuda":
        return Device(name, False, "only CUDA has graphs", "leave out +graph")
    if kind == "cpu":
        return Device(name, True)
    if kind == "cuda" and torch.cuda.is_available():
        index = int(target.partition(":")[2] or 0)
        if index < torch.cuda.device_count():
            return Device(name, True)
        return Device(name, False, f"there are {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and torch.backends.mps.is_available():
        return Device(name, True)
    return Device(name, False, f"torch {torch.__version__} finds no {kind.upper()} device")
