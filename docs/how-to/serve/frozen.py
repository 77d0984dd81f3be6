"""An app in one folder: `pyinstaller --noconfirm frozen.py`, then `dist/frozen/frozen model.onnx cat.jpg`."""

import sys

import toolchain
from toolchain.cli import run

if __name__ == "__main__":
    if sys.argv[1] == "doctor":
        sys.exit(run(["doctor"]))
    for device in ("ort:cpu", "openvino:CPU"):
        print(device, toolchain.load(sys.argv[1], device).predict(sys.argv[2]).label)
