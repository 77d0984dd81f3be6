"""The device half of edgetl in a frozen app: both runtimes, the commands, the ready-made model.

The workshop (training, export, explanations) is left out: PyTorch would come with it, and fill gigabytes.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, collect_submodules

WORKSHOP = ("toolchain.training", "toolchain.export", "toolchain.explain", "toolchain.backbones.networks")


def _deployed(name: str) -> bool:
    return not name.startswith(WORKSHOP) and name not in {"toolchain.runtimes.torch", "toolchain._pyinstaller"}


hiddenimports = collect_submodules("toolchain", filter=_deployed)
excludedimports = ["torch", "torchvision", "nncf", "onnxscript", "matplotlib", "jinja2"]
datas = collect_data_files("toolchain") + collect_data_files("openvino", includes=["libs/*"])
binaries = collect_dynamic_libs("openvino") + collect_dynamic_libs("onnxruntime")
