"""A LiteRT file of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from toolchain.artifact.tflite import IDENTIFIER, KINDS, SIGNATURE, TYPES, Network, Tensor, schema

_ALIGNMENT = 16


def write(network: Network, metadata: Mapping[str, bytes]) -> bytes:
    """The content of a file that holds `network`, and `metadata` by name."""
    import flatbuffers

    tables = schema()
    model = tables.ModelT(version=3, description="edgetl", buffers=[tables.BufferT()], operatorCodes=[])
    buffer, subgraph = _buffer_class(), tables.SubGraphT(name="main", tensors=[], operators=[])

    def stored(data: bytes) -> int:
        model.buffers.append(buffer(data))
        return len(model.buffers) - 1

    for tensor in network.tensors:
        subgraph.tensors.append(_write_tensor(tensor, stored))
    codes: dict[tuple[str, int], int] = {}
    for operator in network.operators:
        kind = KINDS[operator.kind]
        integers = any(network.tensors[index].type == "int8" for index in operator.inputs)
        key = operator.kind, kind.integer_version if integers else kind.version
        if key not in codes:
            code = getattr(tables.BuiltinOperator, operator.kind)
            # Readers of old look at the first field, which has room for 127.
            model.operatorCodes.append(
                tables.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=key[1])
            )
            codes[key] = len(codes)
        made = tables.OperatorT(codes[key], list(operator.inputs), list(operator.outputs))
        if kind.options:
            made.builtinOptionsType = getattr(tables.BuiltinOptions, kind.options)
            made.builtinOptions = getattr(tables, f"{kind.options}T")()
            for name, value in operator.options.items():
                setattr(made.builtinOptions, name, value)
        subgraph.operators.append(made)
    subgraph.inputs, subgraph.outputs = list(network.inputs), list(network.outputs)
    model.subgraphs = [subgraph]
    model.metadata = [tables.MetadataT(name, stored(data)) for name, data in metadata.items()]
    named = [
        [tables.TensorMapT(network.tensors[index].name, index) for index in indices]
        for indices in (network.inputs, network.outputs)
    ]
    model.signatureDefs = [tables.SignatureDefT(*named, SIGNATURE, 0)]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _write_tensor(tensor: Tensor, stored: Callable[[bytes], int]) -> Any:
    tables = schema()
    kind = getattr(tables.TensorType, TYPES[tensor.type])
    made = tables.TensorT([abs(side) for side in tensor.shape], kind, 0, tensor.name, hasRank=True)
    if -1 in tensor.shape:
        made.shapeSignature = list(tensor.shape)
    if tensor.values is not None:
        made.buffer = stored(np.ascontiguousarray(tensor.values).tobytes())
    if len(tensor.scales):
        made.quantization = tables.QuantizationParametersT(
            scale=np.asarray(tensor.scales, np.float32),
            zeroPoint=np.asarray(tensor.zero_points, np.int64),
            quantizedDimension=tensor.axis,
        )
    return made


@cache
def _buffer_class() -> Any:
    tables = schema()

    class Buffer(tables.BufferT):  # type: ignore[misc, name-defined]
        """A buffer whose data begin where the format wants them: `force_align` is not known in Python."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that the tables call
            builder.StartVector(1, len(self.data), _ALIGNMENT)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            vector = builder.EndVector()
            tables.BufferStart(builder)
            tables.BufferAddData(builder, vector)
            return tables.BufferEnd(builder)

    return Buffer
