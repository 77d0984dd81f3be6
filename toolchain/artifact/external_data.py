"""ONNX weights that lie in other files, which an artifact must not have: it would read whatever they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def external_weights(model: onnx.ModelProto) -> Iterator[str]:
    """The names of all tensors of `model` that lie in other files, wherever in the model they hide."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for tensor in (*_weights(model.graph), *_tensors(nodes)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            yield tensor.name


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Constants in the attributes of nodes, and all that lies in their branches."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _weights(subgraph)
                yield from _tensors(subgraph.node)
