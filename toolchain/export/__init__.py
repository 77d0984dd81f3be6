"""Export: the ONNX file, int8 recipes, parity, the gate."""
