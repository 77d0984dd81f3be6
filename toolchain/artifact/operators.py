"""The operators that a model file may hold: a list for what edgetl writes, and a wider one for files of others.

All of them are plain functions of tensors. None runs another graph (If, Loop, Scan), reads a file, draws random
numbers or handles texts, sequences or optional values, and `toolchain.artifact.graph` can tell how large what they
give will be. A runtime's own operators are left out but for those of int8 files: some end the process of another
runtime (`com.microsoft.Attention` that of OpenVINO).
"""

from __future__ import annotations

from collections.abc import Mapping

Operators = Mapping[str, frozenset[str]]
"""Names of operators by domain; the domain of ONNX itself is the empty one."""

STANDARD = ""
MICROSOFT = "com.microsoft"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LAYERS = _names(
    "Conv Gemm MatMul AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool BatchNormalization "
    "InstanceNormalization GroupNormalization LayerNormalization"
)
_ACTIVATIONS = _names(
    "Relu LeakyRelu PRelu Elu Selu Celu Gelu Mish HardSigmoid HardSwish Sigmoid Tanh Softplus Softsign Softmax "
    "LogSoftmax Erf Clip"
)
_ARITHMETIC = _names(
    "Abs Add And Cast Ceil Div Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Min Mod Mul Neg Not "
    "Or Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Round Sign Sqrt Sub Sum "
    "Where"
)
_PLACES = _names(
    "Concat Constant ConstantOfShape DepthToSpace Expand Flatten Gather Identity Pad Range Reshape Resize Shape "
    "Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze"
)
_INTEGERS = _names("QuantizeLinear DequantizeLinear")

EXPORTED: Operators = {STANDARD: _LAYERS | _ACTIVATIONS | _ARITHMETIC | _PLACES | _INTEGERS}
"""What the exporter writes for convolutional classifiers, `--raw-frame` before them, and int8 recipes into them."""

ADOPTED: Operators = {
    STANDARD: EXPORTED[STANDARD]
    | _names(
        "ArgMax ArgMin Attention BitShift ConvInteger ConvTranspose CumSum Dropout DynamicQuantizeLinear Einsum "
        "GatherElements GatherND GlobalLpPool LRN LpNormalization Mean MatMulInteger MeanVarianceNormalization "
        "OneHot QLinearConv QLinearMatMul RMSNormalization ReduceL1 ReduceLogSum ReduceLogSumExp ReduceProd "
        "RotaryEmbedding ScatterElements ScatterND Size Swish ThresholdedRelu TopK Trilu Xor"
    ),
    MICROSOFT: _names(
        "QuantizeLinear DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat "
        "QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax Gelu"
    ),
}
"""What files of other exporters may hold besides: attention, its parts, and integers as other tools write them."""

IR_LAYERS = _names(
    "abs add avgpool batchnorminference broadcast ceiling clamp concat const convert convertlike convolution "
    "convolutionbackpropdata cumsum depthtospace divide einsum elu equal erf exp fakequantize floor floormod "
    "gather gatherelements gathernd gelu greater greaterequal groupconvolution groupconvolutionbackpropdata "
    "groupnormalization hardsigmoid hsigmoid hswish identity interpolate less lessequal log logicaland logicalnot "
    "logicalor logicalxor logsoftmax lrn matmul maximum maxpool minimum mish mod multiply mvn negative normalizel2 "
    "notequal onehot pad parameter power prelu range reducel1 reducel2 reducemax reducemean reducemin reduceprod "
    "reducesum relu reshape result rmsnorm round scaleddotproductattention select selu shapeof shufflechannels "
    "sigmoid sign slice softmax softplus softsign spacetodepth split sqrt squareddifference squeeze stridedslice "
    "subtract swish tanh tile topk transpose unsqueeze variadicsplit"
)
"""Layers of OpenVINO's format that stand for `ADOPTED`, in lower case: their capitals differ between versions."""
