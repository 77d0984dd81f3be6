"""The device half of edgetl in a frozen app: both runtimes, the commands, the ready-made model.

The workshop (training, export, explanations) is left out: PyTorch would come with it, and fill gigabytes.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, collect_submodules

BACKBONES = tuple(f"toolchain.backbones.{name}" for name in ("networks", "weights", "torchvision", "timm"))
WORKSHOP = ("toolchain.training", "toolchain.export", "toolchain.explain", *BACKBONES)


def _deployed(name: str) -> bool:
    return not name.startswith(WORKSHOP) and name != "toolchain._pyinstaller"


hiddenimports = collect_submodules("toolchain", filter=_deployed)
excludedimports = ["torch", "torchvision", "timm", "nncf", "onnxscript", "matplotlib", "jinja2"]
datas = collect_data_files("toolchain") + collect_data_files("openvino", includes=["libs/*"])
binaries = collect_dynamic_libs("openvino") + collect_dynamic_libs("onnxruntime")
