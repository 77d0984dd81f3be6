"""What a network of ONNX may be: checked before a runtime sees it, since runtimes load almost anything.

A file may come from anywhere. So it holds known operators only, with their own attributes; nothing that runs
another graph; no weights that lie elsewhere or are not what they say. What it computes is bounded in `sizes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from toolchain.artifact.operators import STANDARD, Operators
from toolchain.errors import ArtifactError

MAX_NODES = 50_000

NUMBERS: dict[int, int] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 64),
    **dict.fromkeys((TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8), 8),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
}
"""Types of numbers, and their bits."""
_PLAIN = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.TENSOR,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
}
"""Attributes that are numbers, words and tensors: no graphs, no sparse tensors, no types, no lists of words."""
_POSITIVE = {"strides", "dilations", "kernel_shape", "group", "blocksize", "num_groups", "num_outputs"}
HINT = "edgetl runs networks of plain operators: docs/reference/files.md lists them."


def refused(model: onnx.ModelProto) -> str:
    """Why ONNX's own checker refuses `model`, in a line; empty where it does not."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # its exceptions have no common public base
        return str(error).strip().partition("\n")[0]
    return ""


def check_structure(model: onnx.ModelProto, allowed: Operators, path: Path) -> None:
    """Raise ArtifactError unless `model` is one graph of `allowed` operators that holds all of its weights."""
    graph = model.graph
    parts = {
        "functions": model.functions,
        "a training graph": model.training_info,
        "sparse weights": graph.sparse_initializer,
    }
    for name, found in parts.items():
        if found:
            raise ArtifactError(f"{path} holds {name}, which no classifier needs", HINT)
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_NODES:
        raise ArtifactError(f"{path} has more than {MAX_NODES} operators or weights")
    for node in graph.node:
        _check_node(node, allowed, path)
    for tensor in (*graph.initializer, *_constants(graph.node)):
        _check_tensor(tensor, path)


def domain_of(node: onnx.NodeProto) -> str:
    """The domain of its operator: `ai.onnx` is another name of the empty one."""
    return STANDARD if node.domain == "ai.onnx" else str(node.domain)


def _check_node(node: onnx.NodeProto, allowed: Operators, path: Path) -> None:
    domain = domain_of(node)
    what = f"{path}: the operator `{domain}{'.' if domain else ''}{node.op_type}`"
    for attribute in node.attribute:
        if attribute.type not in _PLAIN or attribute.ref_attr_name or attribute.HasField("g"):
            raise ArtifactError(f"{what} holds more than numbers in `{attribute.name}`", HINT)
        numbers = [*attribute.ints, attribute.i] if attribute.type == AttributeProto.INT else attribute.ints
        if attribute.name in _POSITIVE and any(number < 1 for number in numbers):
            raise ArtifactError(f"{what} has `{attribute.name}` {list(numbers)}")
    if node.op_type not in allowed.get(domain, ()):
        raise ArtifactError(f"{what} is none that edgetl runs", HINT)
    known = _attributes(node.op_type) if domain == STANDARD else None
    unknown = [attribute.name for attribute in node.attribute if known is not None and attribute.name not in known]
    if unknown:
        raise ArtifactError(f"{what} has no attribute `{unknown[0]}`", HINT)
    if node.op_type == "Cast":
        kinds = [attribute.i for attribute in node.attribute if attribute.name == "to"]
        if any(kind not in NUMBERS for kind in kinds):
            raise ArtifactError(f"{what} makes numbers of type {kinds[0]}, which edgetl does not know", HINT)


@cache
def _attributes(operator: str) -> frozenset[str]:
    """The attributes that an operator of ONNX has had in any version."""
    schemas = [schema for schema in _schemas() if schema.name == operator]
    return frozenset(name for schema in schemas for name in schema.attributes)


@cache
def _schemas() -> tuple[onnx.defs.OpSchema, ...]:
    return tuple(onnx.defs.get_all_schemas_with_history())


def _constants(nodes: Sequence[onnx.NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from (attribute.t for attribute in node.attribute if attribute.type == AttributeProto.TENSOR)


def _check_tensor(tensor: TensorProto, path: Path) -> None:
    """Refuse weights that lie in other files, which would be read, and those that are not what they say."""
    what = f"{path}: the weights `{tensor.name}`"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ArtifactError(f"{what} lie in another file", "Export it again, into one file.")
    if tensor.data_type not in NUMBERS or tensor.HasField("segment"):
        raise ArtifactError(f"{what} are of a type that edgetl does not know")
    size = math.prod(tensor.dims)
    bits = NUMBERS[tensor.data_type]
    if tensor.HasField("raw_data"):
        whole = len(tensor.raw_data) == -(-size * bits // 8)
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        whole = max(len(field) for field in fields) == (-(-size // 2) if bits == 4 else size)
    if not whole or any(side < 0 for side in tensor.dims):
        raise ArtifactError(f"{what} are not the {list(tensor.dims)} numbers that they say", "Copy it again.")
