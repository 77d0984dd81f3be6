"""Export: the ONNX file, int8 recipes, parity, the gate."""

from toolchain.system import make_callable

make_callable(__name__, "interface:export")
